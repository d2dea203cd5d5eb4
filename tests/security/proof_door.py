"""Many strangers at the doors of a peer that goes on talking: python -m tests.security.proof_door 10000

Each has keys of his own; half of them know whom they connect to, which nobody does who has not seen the key. They come
from another process, on a processor of its own where there are several, as if they had a machine: from an address where
a friend is as well (nobody there is ever cut off) and from one where none is, in turns with nobody. Says how many got
in, what was heard of them, and what became of the messages meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Self

from tests.security.rogues import Friends, doors_of, percentile, sockets_of, try_random_keys, write_key
from zq.security.keys import read_keys, today
from zq.security.lock import Lock

QUIET = 2.0  # s of talk without strangers, to compare with
ROUNDS = 5  # of quiet and strangers, in turns, since other work on the machine comes and goes
NOBODY = "no strangers"
REALM = "proof"
STRANGER = "127.0.0.66"  # an address from which nobody of the realm comes
PROCESSORS = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}


@dataclass
class Phase:
    """What the friends' messages took, and what the strangers came to, in one part of the proof."""

    took: list[float] = field(default_factory=list)
    got_in: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def p99(self) -> float:
        return percentile(self.took, 0.99)


def attack(key_file: str, processor: int) -> int:
    """The other process: a line in, how many strangers to which doors; a line out, who got in.

    It yields to the friends, since its like would be on other machines.
    """
    os.nice(19)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {processor})
    lock = Lock(read_keys(Path(key_file)), REALM, today())
    print(flush=True)
    for line in sys.stdin:
        count, doors = json.loads(line)
        print(json.dumps(try_random_keys(lock, doors, count)), flush=True)
    return 0


class Strangers:
    """The process they come from. It is there before the friends are looked at: starting one holds all threads up."""

    def __init__(self, key_file: Path) -> None:
        command = [sys.executable, "-m", __spec__.name, "attack", str(key_file), str(max(PROCESSORS))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        self._hear()
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # closes its standard input, waits
            pass

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the strangers have failed"
        return line

    def flood(self, friends: Friends, count: int, doors: list[str]) -> Phase:
        """The phase in which `count` of them come to `doors`."""
        had, began = len(friends.took), time.monotonic()
        assert self._process.stdin is not None
        print(json.dumps([count, doors]), file=self._process.stdin, flush=True)
        got_in = json.loads(self._hear())
        return Phase(friends.took[had:], got_in, time.monotonic() - began)


@contextmanager
def apart() -> Iterator[None]:
    """Strangers have a processor of their own meanwhile, and threads that are started here the others."""
    if len(PROCESSORS) > 1:
        os.sched_setaffinity(0, PROCESSORS - {max(PROCESSORS)})
    try:
        yield
    finally:
        if len(PROCESSORS) > 1:
            os.sched_setaffinity(0, PROCESSORS)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


def quiet(friends: Friends, seconds: float = QUIET) -> Phase:
    had = len(friends.took)
    threading.Event().wait(seconds)
    return Phase(friends.took[had:], seconds=seconds)


def from_address(source: str, endpoint: str) -> str:
    """The endpoint as it is dialled from that address."""
    return endpoint.replace("tcp://", f"tcp://{source}:0;")


def defend(count: int) -> int:
    with tempfile.TemporaryDirectory(prefix="zq-", dir="/tmp") as directory:
        os.environ["ZQ_HOST_DIR"] = directory
        key_file = write_key(Path(directory) / "realm.key")
        options = {
            "realm": REALM, "key_file": key_file, "interfaces": ["127.0.0.1"], "discovery": ["host"],
        }  # fmt: skip
        with apart(), Strangers(key_file) as strangers, Friends(options) as friends:
            doors = doors_of(friends.sender)
            sources = {
                NOBODY: [],
                "strangers from a friend's address": doors,
                "strangers from another": [from_address(STRANGER, each) for each in doors],
            }
            phases: dict[str, list[Phase]] = {name: [] for name in sources}
            quiet(friends)
            had = descriptors()
            for _ in range(ROUNDS):
                for name, endpoints in sources.items():
                    phase = strangers.flood(friends, count // ROUNDS, endpoints) if endpoints else quiet(friends)
                    phases[name].append(phase)
            friends.rest()
            threading.Event().wait(QUIET)  # the last strangers' connections are being closed
            guard, refused = sockets_of(friends.sender).guard, friends.sender.ledger().refused_frames
            got_in = [each for several in phases.values() for phase in several for each in phase.got_in]
            lost = friends.sent - len(friends.took)
            print(f"2 x {count:,} random keys: {len(got_in)} got in, {guard.failures:,} failures counted, ", end="")
            print(f"{guard.cut_off:,} cut off at once, {sockets_of(friends.sender).porch.held:,} had to wait")
            print(f"frames of strangers that were heard: {refused}; descriptors left behind: {descriptors() - had}")
            print(f"messages between friends: {friends.sent:,} sent, {lost} lost")
            peace = median(phase.p99 for phase in phases[NOBODY])
            for name, several in phases.items():
                print(line(name, several, peace))
            return 1 if got_in or refused or lost or guard.failures < count else 0


def line(name: str, phases: list[Phase], peace: float) -> str:
    """Of the table: medians of the rounds, and the p99 of each."""
    p50, p99 = (median(percentile(phase.took, share) for phase in phases) for share in (0.5, 0.99))
    each = " ".join(f"{phase.p99 * 1_000:.1f}" for phase in phases)
    return f"  {name:<34} p50 {p50 * 1e3:5.2f} ms   p99 {p99 * 1e3:5.2f} ms, {p99 / peace:4.1f} x   ({each})"


if __name__ == "__main__":
    if sys.argv[1] == "attack":
        sys.exit(attack(sys.argv[2], int(sys.argv[3])))
    sys.exit(defend(int(sys.argv[1])))
