"""Programs that end without closing their peer: what can be confirmed in a second is, the rest is said on stderr."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import zq
from tests.waiting import PATIENCE, eventually

OPEN = "import zq; peer = zq.Peer('forgetful').open(); "
PATIENT = """
from zq.core import meeting
from zq.engine import leaving
leaving.EXIT_DRAIN = 10.0  # s for what can be confirmed, not one
meeting.ANSWER = 10.0  # s for whoever was found to answer
"""


def run(program: str, *options: str) -> tuple[float, str]:
    """Runs it to its end; returns how long it took to end after its last line, and what it said on stderr."""
    last = "\nimport time; print(time.monotonic())"  # of the clock that all processes share
    done = subprocess.run(
        [sys.executable, *options, "-c", program + last],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=True,
    )
    return time.monotonic() - float(done.stdout), done.stderr


def test_nothing_left_is_nothing_said() -> None:
    seconds, stderr = run(OPEN)
    assert stderr == ""
    assert seconds < PATIENCE / 2


def test_what_nobody_confirms_is_said_after_a_second() -> None:
    seconds, stderr = run(OPEN + "[peer.push('jobs', n) for n in range(3)]")
    assert stderr == "zq: peer forgetful was not closed: 3 messages not confirmed\n"
    assert 1 <= seconds < PATIENCE / 2


def test_a_resource_warning_says_that_it_was_not_closed() -> None:
    _, stderr = run(OPEN, "-W", "always::ResourceWarning")
    assert "ResourceWarning: peer forgetful was not closed" in stderr


def test_what_was_published_arrives_all_the_same() -> None:
    with zq.Peer("receiver") as receiver:
        subscriber = receiver.subscriber("news")
        seconds, stderr = run(PATIENT + OPEN + "[peer.publish('news', n) for n in range(1000)]")
        assert stderr == ""
        assert seconds < PATIENCE
        assert [subscriber.receive(timeout=0).data for _ in range(1_000)] == list(range(1_000))


def test_what_was_pushed_is_confirmed_if_somebody_pulls() -> None:
    with zq.Peer("receiver") as receiver:
        puller = receiver.puller("jobs")
        with subprocess.Popen(
            [sys.executable, "-c", PATIENT + OPEN + "[peer.push('jobs', n) for n in range(100)]"],
            stderr=subprocess.PIPE,
        ) as done:
            for number in range(100):
                with puller.receive(timeout=PATIENCE) as message:
                    assert message.data == number
            assert done.communicate(timeout=PATIENCE)[1] == b""
            assert done.returncode == 0


def test_an_asyncio_program_that_forgets_its_peer() -> None:
    program = """
import asyncio, zq.aio
async def main():
    global peer
    peer = await zq.aio.Peer('forgetful').open()
    await peer.push('jobs', 1)
asyncio.run(main())
"""
    seconds, stderr = run(program)
    assert stderr == "zq: peer forgetful was not closed: 1 messages not confirmed\n"
    assert seconds < PATIENCE / 2


@pytest.mark.parametrize("ending", ["raise ZeroDivisionError", "import sys; sys.exit(3)"])
def test_others_see_it_leave_at_once(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.core.liveness.SUSPECT_FOR", 600.0)  # nobody waits until it is thought to be gone
    with zq.Peer("watcher") as watcher:
        with subprocess.Popen(
            [sys.executable, "-c", OPEN + f"peer.wait_for_peers(1); input(); {ending}"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            watcher.wait_for_peers(1)
            process.communicate(b"\n", timeout=PATIENCE)
            assert process.returncode != 0
        eventually(lambda: watcher.peers() == [])
