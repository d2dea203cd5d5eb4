"""Many strangers at the doors of a peer that goes on talking: python -m tests.security.proof_door 10000

Each has keys of his own; half of them know whom they connect to, which nobody does who has not seen the key. They come
from another process. Says how many got in, what was heard of them, and what became of the messages meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.security.rogues import Friends, doors_of, percentile, sockets_of, try_random_keys, write_key
from zq.security.keys import read_keys, today
from zq.security.lock import Lock

QUIET = 5.0  # s of talk without strangers, to compare with
REALM = "proof"


def attack(key_file: str, doors: list[str], count: int) -> int:
    """The other process. It yields to the friends, since its like would be on other machines."""
    os.nice(19)
    got_in = try_random_keys(Lock(read_keys(Path(key_file)), REALM, today()), doors, count)
    print(json.dumps(got_in))
    return 0


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


def defend(count: int) -> int:
    with tempfile.TemporaryDirectory(prefix="zq-", dir="/tmp") as directory:
        os.environ["ZQ_HOST_DIR"] = directory
        key_file = write_key(Path(directory) / "realm.key")
        options = {
            "realm": REALM, "key_file": key_file, "interfaces": ["127.0.0.1"], "discovery": ["host"],
        }  # fmt: skip
        with Friends(options) as friends:
            threading.Event().wait(QUIET)
            quiet, had = list(friends.took), descriptors()
            began = time.monotonic()
            command = [sys.executable, "-m", __spec__.name, "attack", str(key_file), str(count)]
            ended = subprocess.run([*command, *doors_of(friends.sender)], stdout=subprocess.PIPE, check=True, text=True)
            seconds = time.monotonic() - began
            friends.rest()
            got_in, took = json.loads(ended.stdout), friends.took[len(quiet) :]
            guard, refused = sockets_of(friends.sender).guard, friends.sender.ledger().refused_frames
            lost = friends.sent - len(friends.took)
            print(
                f"{count:,} random keys in {seconds:.1f} s: {len(got_in)} got in, {guard.failures:,} failures counted"
            )
            print(f"frames of strangers that were heard: {refused}; descriptors left behind: {descriptors() - had}")
            print(f"messages between friends: {friends.sent:,} sent, {lost} lost")
            for name, values in (("before", quiet), ("meanwhile", took)):
                p50, p99 = (percentile(values, share) * 1_000 for share in (0.5, 0.99))
                print(f"  {name:<10} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   of {len(values):,}")
            return 1 if got_in or refused or lost or guard.failures < count else 0


if __name__ == "__main__":
    if sys.argv[1] == "attack":
        sys.exit(attack(sys.argv[2], sys.argv[4:], int(sys.argv[3])))
    sys.exit(defend(int(sys.argv[1])))
