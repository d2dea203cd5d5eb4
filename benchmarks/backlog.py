"""A backlog of a million messages in one pusher: what it takes of memory, and how fast it is worked off.

python -m benchmarks.backlog [MESSAGES]      ends with 1 if it takes more than twice the bytes of its messages
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks import peers
from benchmarks.process import Running, Say, finish, isolated
from benchmarks.workload import READING
from zq.wire.data import pack

QUEUE = "benchmark-backlog"
MESSAGES = 1_000_000
MOST = 2.0  # times the bytes of the messages: objects of 91 bytes have 33 of their own, and need a place in a list
PAGE = 4_096  # bytes
PATIENCE = 300.0  # s for the flush


def resident() -> int:
    """Bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def pull(say: Say, count: int) -> None:
    with peers.blocking("puller") as peer, peer.puller(QUEUE) as puller:
        for _ in range(count):
            with puller.receive():
                pass


def main(count: int) -> int:
    size = len(pack(READING))
    with peers.blocking("pusher") as peer:
        pusher = peer.pusher(QUEUE, window=count, window_bytes=1 << 40)
        before, started = resident(), time.perf_counter()
        for _ in range(count):
            pusher.send(READING)
        seconds, taken = time.perf_counter() - started, resident() - before
        times = taken / (size * count)
        print(f"{count:,} messages of {size} bytes sent in {seconds:.1f} s, {count / seconds / 1e6:.2f} M/s")
        print(f"memory: {taken / 1e6:,.0f} MB, {times:.2f} x their bytes (at most {MOST} x)")
        with Running(pull, count) as puller:
            pusher.wait_for_pullers()
            started, busy = time.perf_counter(), time.process_time()
            pusher.flush(timeout=PATIENCE)
            seconds, busy = time.perf_counter() - started, time.process_time() - busy
            print(f"flushed in {seconds:.1f} s, {count / seconds / 1e6:.2f} M/s; the pusher worked {busy:.1f} s of it")
            finish(puller)
    return int(times > MOST)


if __name__ == "__main__":
    with isolated():
        code = main(int(sys.argv[1]) if len(sys.argv) > 1 else MESSAGES)
    sys.exit(code)
