"""Campaigns over the log, on all processors, with what `make test` does in short.

python -m tests.spool.campaign crash N      so many crash images of a stream's life
python -m tests.spool.campaign bits [N]     every bit of a spool of 64 KiB and more, flipped one at a time; or N of them
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from tests.spool.life import CUTS, lives
from tests.spool.test_log_damage import check_flipped, places, written

SHARE = 2_000  # lives, or bits, that a process does at a time
SAY_EVERY = 20.0  # s, where nobody looks
TOLD = 10  # failures that are shown


def crash(seeds: Sequence[int]) -> tuple[int, list[str]]:
    outcome = lives(seeds)
    return outcome.images, outcome.failures


def flip(numbers: Sequence[int]) -> tuple[int, list[str]]:
    """Those bits of a log that was closed, and then of one that was killed."""
    failures = []
    for clean in (True, False):
        log = written(clean=clean)
        every = places(log[0])
        for name, bit in (every[number] for number in numbers if number < len(every)):
            try:
                check_flipped(log, name, bit)
            except Exception as error:
                failures.append(f"{name} bit {bit}, {'closed' if clean else 'killed'}: {error!r}")
    return 2 * len(numbers), failures


def shares(count: int, step: int = 1) -> Iterator[range]:
    yield from (range(at, min(at + SHARE * step, count), step) for at in range(0, count, SHARE * step))


def main(what: str, count: int) -> int:
    work: Callable[[Sequence[int]], tuple[int, list[str]]] = crash
    step = 1
    if what == "bits":
        work, every = flip, max(len(places(written(clean=clean)[0])) for clean in (True, False))
        step, count = max(2 * every // count, 1) if count else 1, every
    else:
        count = -(-count // CUTS)
    done, failures, began = 0, list[str](), time.monotonic()
    said = began
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for cases, found in pool.map(work, shares(count, step)):
            done, failures = done + cases, failures + found
            if sys.stderr.isatty() or time.monotonic() - said > SAY_EVERY:
                said = time.monotonic()
                end = "" if sys.stderr.isatty() else "\n"
                print(f"\r{done:,} cases, {len(failures)} failures", end=end, file=sys.stderr, flush=True)
    print(f"{what}: {done:,} cases, {len(failures)} failures, {time.monotonic() - began:.0f} s")
    print("\n".join(failures[:TOLD]))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
