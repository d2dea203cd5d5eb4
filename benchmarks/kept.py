"""A backlog on a spool's disk, behind a consumer that is away: memory while it grows, and how soon it is there again.

python -m benchmarks.kept [MESSAGES [BYTES]]      ends with 1 if a floor is missed

The spool is killed, opened, closed in order and opened again; then a consumer catches up beside a live producer.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks import peers, place
from benchmarks.backlog import PAGE
from benchmarks.process import DEADLINE, Running, Say, isolated
from zq import Peer, Request, Timeout

QUEUE, END = "benchmark-kept", "benchmark-kept-end"
MESSAGES, BYTES = 1_000_000, 50  # messages; bytes of payload in each
LIST = 10_000  # messages in one call
LEGS = 10  # parts of the backlog after which the spool's memory is looked at
LONGEST = 3_600.0  # s that the spool may live
CATCH_UP = 5.0  # s of a consumer's work beside the producer
RATE_OF = 200_000  # messages, or a leg if that is less, over which the producer's rate is taken
RSS_MOST = 80e6  # bytes
OPEN_MOST, FIRST_MOST = 1.0, 1.0  # s
SLOWER_MOST = 0.3  # of the producer's rate


class Opened(NamedTuple):
    """What a spool says when it is open."""

    pid: int
    seconds: float


def keep(say: Say, directory: str) -> None:
    faulthandler.dump_traceback_later(LONGEST, exit=True)  # it lives for longer than other roles may
    with peers.blocking("spool") as peer:
        peer.settle()
        started = time.perf_counter()
        with peer.spool(Path(directory), queues=[QUEUE]), peer.replier(END) as replier:
            say(Opened(os.getpid(), time.perf_counter() - started))
            request = replier.receive()
            assert isinstance(request, Request)
            request.reply()


def resident(pid: int) -> int:
    """Bytes of memory that process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def fill(peer: Peer, count: int, size: int) -> float:
    """Stores so many messages; how many a second."""
    with peer.pusher(QUEUE) as pusher:
        pusher.wait_for_pullers()
        items = [bytes(size)] * min(LIST, count)
        started = time.perf_counter()
        for _ in range(count // len(items)):
            pusher.send_many(items)
        pusher.flush(timeout=600.0)
        return count // len(items) * len(items) / (time.perf_counter() - started)


def push(say: Say, count: int, size: int) -> float:
    with peers.blocking("pusher") as peer:
        return fill(peer, count, size)


def first(say: Say) -> float:
    """Seconds from asking for a message to having the first, without acknowledging it."""
    with peers.blocking("puller") as peer:
        peer.settle()
        started = time.perf_counter()
        puller = peer.puller(QUEUE)
        puller.receive(timeout=DEADLINE)
        taken = time.perf_counter() - started
        puller.close(timeout=5.0)
        return taken


def pull(say: Say) -> int:
    """Takes and acknowledges what there is for a while, and while something comes; how many."""
    count = 0
    with peers.blocking("puller") as peer, peer.puller(QUEUE) as puller:
        say("open")
        stop = time.monotonic() + CATCH_UP
        while time.monotonic() < stop:
            try:
                messages = puller.receive_many(1_000, timeout=1.0)
            except Timeout:
                break  # it has caught up
            for message in messages:
                with message:
                    count += 1
    return count


@contextlib.contextmanager
def spool(directory: Path) -> Iterator[Opened]:
    with Running(keep, str(directory)) as running:
        opened: Opened = running.hear()
        yield opened
        with peers.blocking("ender") as peer:
            peer.request(END, timeout=DEADLINE)
        running.result()


def main(count: int, size: int) -> int:
    misses: list[str] = []
    rate_of = min(RATE_OF, count // LEGS)

    def judge(what: str, value: float, most: float, text: str) -> None:
        print(f"{what}: {text}")
        if value > most:
            misses.append(what)

    with place.scratch("zq-bench-kept-") as scratch:
        directory = scratch / "spool"
        memory: list[int] = []
        running = Running(keep, str(directory))
        with contextlib.suppress(Exception), running:  # it is killed
            opened: Opened = running.hear()
            with peers.blocking("pusher") as peer:
                started = time.perf_counter()
                for _ in range(LEGS):
                    fill(peer, count // LEGS, size)
                    memory.append(resident(opened.pid))
                rate = count / (time.perf_counter() - started)
            os.kill(opened.pid, signal.SIGKILL)
        files = sum(path.stat().st_size for path in directory.rglob("*.log"))
        print(f"{count:,} messages, {files / 1e9:.2f} GB on disk, stored at {rate:,.0f} msg/s")
        legs = " ".join(f"{size / 1e6:.0f}" for size in memory)
        judge("memory of the spool", max(memory), RSS_MOST, f"{legs} MB as it grew (at most {RSS_MOST / 1e6:.0f})")
        for how in ("killed", "closed"):
            with spool(directory) as opened:
                judge(f"opened after it was {how}", opened.seconds, OPEN_MOST, f"{opened.seconds:.2f} s")
                with Running(first) as puller:
                    taken: float = puller.result()
                judge(f"first message after it was {how}", taken, FIRST_MOST, f"{taken:.2f} s")
        with spool(directory) as opened:
            with Running(push, rate_of, size) as pusher:
                alone: float = pusher.result()
            with Running(pull) as puller:
                puller.hear()
                with Running(push, rate_of, size) as pusher:
                    beside: float = pusher.result()
                caught_up = puller.result()
            slower = 1 - beside / alone
            text = f"{alone:,.0f} msg/s alone, {beside:,.0f} beside one that took {caught_up:,}"
            judge("producer slowed by catching up", slower, SLOWER_MOST, f"{slower:.0%} ({text})")
            print(f"memory of the spool beside both: {resident(opened.pid) / 1e6:.0f} MB")
    for miss in misses:
        print(f"MISSED: {miss}")
    return 1 if misses else 0


if __name__ == "__main__":
    with isolated():
        code = main(*[int(number) for number in sys.argv[1:3]] or [MESSAGES], *([] if len(sys.argv) > 2 else [BYTES]))
    sys.exit(code)
