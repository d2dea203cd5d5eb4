"""What another peer costs in memory with no zq at all: `python -m benchmarks.connections`.

One process makes what two peers of one host have of each other, 199 times: a PUSH to a mailbox with its monitor, a SUB
to a feed, and the other end of both. After each step: kilobytes of it that are resident, and that malloc has given.
Whoever has 199 others around him has as much for each of them, a few pages more where much has passed.
"""

from __future__ import annotations

import ctypes
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import zmq

Socket = zmq.Socket[bytes]

OTHERS = 199
SETTLED = 0.5  # s after which libzmq's thread has done what was asked of it; nothing tells
FRAMES = 30  # of 100 bytes: what is said while two meet, and a few minutes after


class _Mallinfo(ctypes.Structure):
    _fields_ = [(f"_{place}", ctypes.c_size_t) for place in range(7)] + [  # the ten of struct mallinfo2
        (name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")
    ]


def _allocated() -> int:
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Mallinfo  # glibc 2.33
    return int(libc.mallinfo2().uordblks)


def _measure(step: str, do: Callable[[int], object]) -> None:
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss, _allocated()
    for other in range(OTHERS):
        do(other)
    time.sleep(SETTLED)
    resident, allocated = process.memory_info().rss - before[0], _allocated() - before[1]
    print(f"{step:<36} {resident / OTHERS / 1e3:6.1f} KB resident {allocated / OTHERS / 1e3:6.1f} KB allocated")


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as directory, zmq.Context() as context:
        context.set(zmq.MAX_SOCKETS, 8 * OTHERS)
        addresses = [f"ipc://{Path(directory) / name}" for name in ("mailbox", "feed")]
        mailbox, feed = context.socket(zmq.PULL), context.socket(zmq.XPUB)
        callers: list[Socket] = []
        monitors: list[Socket] = []
        readers: list[Socket] = []
        try:
            mailbox.bind(addresses[0])
            feed.bind(addresses[1])

            def monitor(other: int) -> None:
                callers[other].monitor(f"inproc://{other}", zmq.EVENT_DISCONNECTED)
                monitors.append(context.socket(zmq.PAIR))
                monitors[-1].connect(f"inproc://{other}")

            def talk(other: int) -> None:
                for _ in range(FRAMES):
                    callers[other].send(bytes(100))
                    mailbox.recv()

            _measure("socket that sends", lambda other: callers.append(context.socket(zmq.PUSH)))
            _measure("its monitor", monitor)
            _measure("its connection, both ends", lambda other: callers[other].connect(addresses[0]))
            _measure("what it carries", talk)
            _measure("socket that listens to a feed", lambda other: readers.append(context.socket(zmq.SUB)))
            _measure("its connection, both ends", lambda other: readers[other].connect(addresses[1]))
            _measure("a subscription", lambda other: readers[other].subscribe(b"x"))
        finally:
            for caller in callers:
                caller.disable_monitor()
            for socket in (mailbox, feed, *callers, *monitors, *readers):
                socket.close(0)


if __name__ == "__main__":
    main()
