"""A process that may have few file descriptors meets few peers, says so, and goes on."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack

import zq

LIMIT = 90  # of which half is kept in reserve and some twenty are a peer's own
MANY = 20  # more than it can meet

# Says how many it has met when it is asked, and ends with its input.
FEW = f"""
import logging, resource, sys, zq

logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
with zq.Peer("few") as peer:
    for line in sys.stdin:
        if line.strip():
            peer.wait_for_peers(int(line), timeout=20.0)
        print("up", sum(each.state == "up" for each in peer.peers()), flush=True)
print("closed", flush=True)
"""


def test_a_process_with_few_descriptors_goes_on_and_meets_others_when_some_are_free() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FEW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said: list[str] = []

    def hear(word: str) -> str:
        for line in process.stdout:  # type: ignore[union-attr]
            said.append(line)
            if word in line:
                return line
        raise AssertionError(f"it has ended without {word!r}: {said}, {process.wait()}")

    def ask(count: int | str = "") -> int:
        process.stdin.write(f"{count}\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        return int(hear("up ").split()[1])

    try:
        with ExitStack() as others:
            for number in range(MANY):
                others.enter_context(zq.Peer(str(number)))
            hear(f"of the {LIMIT} file descriptors that this process may have few are left")
            assert 0 <= ask() < MANY
        hear("enough are free again")
        with zq.Peer("late") as late:
            late.wait_for_peers(1, timeout=20.0)
            assert ask(1) == 1
        process.stdin.close()
        hear("closed")
        assert process.wait(20.0) == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
