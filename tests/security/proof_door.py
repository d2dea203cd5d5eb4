"""Many strangers at the doors of a peer that goes on talking: python -m tests.security.proof_door 10000

Each has keys of his own; half of them know whom they connect to, which nobody does who has not seen the key. They come
from another process: first to the doors of a third peer that the friends know nothing of, which shows what the flood
takes from a machine that all share; then to the friends' own doors, from an address where a friend is as well (nobody
there is ever cut off) and from one where none is. Says how many got in, what was heard of them, and what became of the
messages meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import zq
from tests.security.rogues import Friends, doors_of, percentile, sockets_of, try_random_keys, write_key
from zq.security.keys import read_keys, today
from zq.security.lock import Lock

QUIET = 5.0  # s of talk without strangers, to compare with
REALM = "proof"
STRANGER = "127.0.0.66"  # an address from which nobody of the realm comes


@dataclass
class Phase:
    """What the friends' messages took, and what the strangers came to, in one part of the proof."""

    name: str
    took: list[float] = field(default_factory=list)
    got_in: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        p50, p99 = (percentile(self.took, share) * 1_000 for share in (0.5, 0.99))
        return (
            f"  {self.name:<44} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   of {len(self.took):,} in {self.seconds:.1f} s"
        )


def attack(key_file: str, count: int, doors: list[str]) -> int:
    """The other process. It yields to the friends, since its like would be on other machines."""
    os.nice(19)
    got_in = try_random_keys(Lock(read_keys(Path(key_file)), REALM, today()), doors, count)
    print(json.dumps(got_in))
    return 0


def stand_aside(key_file: str) -> int:
    """A peer with the same doors that nobody talks to, until its standard input ends."""
    with zq.Peer(realm=REALM, key_file=Path(key_file), interfaces=["127.0.0.1"], discovery=["host"]) as peer:
        print(json.dumps(doors_of(peer)), flush=True)
        sys.stdin.read()
    return 0


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


def run(role: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", __spec__.name, role, *map(str, arguments)]


def flood(name: str, friends: Friends, key_file: Path, count: int, doors: list[str]) -> Phase:
    """The phase in which `count` strangers come to `doors`."""
    had, began = len(friends.took), time.monotonic()
    ended = subprocess.run(run("attack", key_file, count, *doors), stdout=subprocess.PIPE, check=True, text=True)
    return Phase(name, friends.took[had:], json.loads(ended.stdout), time.monotonic() - began)


def flood_elsewhere(friends: Friends, key_file: Path, count: int, directory: str) -> Phase:
    environment = {**os.environ, "ZQ_HOST_DIR": str(Path(directory) / "elsewhere")}
    with subprocess.Popen(
        run("aside", key_file), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as aside:
        assert aside.stdin is not None
        assert aside.stdout is not None
        doors = json.loads(aside.stdout.readline())
        phase = flood("strangers at the doors of others", friends, key_file, count, doors)
        aside.stdin.close()
    return phase


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
        with Friends(options) as friends:
            threading.Event().wait(QUIET)
            quiet, had = Phase("no strangers", list(friends.took), seconds=QUIET), descriptors()
            elsewhere = flood_elsewhere(friends, key_file, count, directory)
            doors = doors_of(friends.sender)
            here = [
                flood("at the friends' doors, from a friend's address", friends, key_file, count, doors),
                flood(
                    "from another address", friends, key_file, count, [from_address(STRANGER, each) for each in doors]
                ),
            ]
            friends.rest()
            guard, refused = sockets_of(friends.sender).guard, friends.sender.ledger().refused_frames
            got_in = [each for phase in here for each in phase.got_in]
            lost = friends.sent - len(friends.took)
            print(f"2 x {count:,} random keys: {len(got_in)} got in, {guard.failures:,} failures counted, ", end="")
            print(f"{guard.cut_off:,} cut off at once")
            print(f"frames of strangers that were heard: {refused}; descriptors left behind: {descriptors() - had}")
            print(f"messages between friends: {friends.sent:,} sent, {lost} lost")
            for phase in (quiet, elsewhere, *here):
                print(phase)
            return 1 if got_in or refused or lost or guard.failures < count else 0


if __name__ == "__main__":
    if sys.argv[1] == "attack":
        sys.exit(attack(sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
    if sys.argv[1] == "aside":
        sys.exit(stand_aside(sys.argv[2]))
    sys.exit(defend(int(sys.argv[1])))
