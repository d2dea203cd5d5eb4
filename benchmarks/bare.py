"""What a message costs in Python with no library at all: `python -m benchmarks.bare`.

A map is packed and appended to a list; 512 are joined; they are decoded from the joined bytes, 32 at a time, and a
generator yields each. One process, no socket, no check of what is sent or received: nobody can be faster than this in
Python, whatever carries the bytes. Least of many rounds, in microseconds a message.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgpack

from benchmarks.workload import READING

FRAME, CHUNK, ROUNDS = 512, 32, 2_000


def pile_up() -> list[bytes]:
    pack = msgpack.Packer(autoreset=True).pack
    pile: list[bytes] = []
    for _ in range(FRAME):
        pile.append(pack(READING))  # noqa: PERF401, as a program sends: one by one
    return pile


def messages(frame: bytes) -> Iterator[Any]:
    rows = msgpack.Unpacker(max_buffer_size=len(frame))
    rows.feed(frame)
    while some := list(islice(rows, CHUNK)):
        yield from some


def main() -> None:
    least = dict.fromkeys(("pack and append", "join", "decode and yield"), float("inf"))
    for _ in range(ROUNDS):
        marks = [time.perf_counter()]
        pile = pile_up()
        marks.append(time.perf_counter())
        frame = b"".join(pile)
        marks.append(time.perf_counter())
        for _message in messages(frame):
            pass
        marks.append(time.perf_counter())
        for step, start, end in zip(least, marks[:-1], marks[1:], strict=True):
            least[step] = min(least[step], (end - start) / FRAME * 1e6)
    for step, cost in least.items():
        print(f"{step:<17} {cost:.2f} us")
    print(f"{'all':<17} {sum(least.values()):.2f} us")


if __name__ == "__main__":
    main()
