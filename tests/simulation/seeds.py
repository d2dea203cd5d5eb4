"""Playing many seeds, one after another or on several processors."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context

from tests.simulation import mixed, spooled, world
from tests.simulation import requests as asking

MIXED = 3  # every third seed of a realm plays requests, too, beside queues and topics
REPORT = 1_000  # seeds between two lines of progress
CHUNK = 50  # seeds a process plays in a row: a second


def replay(seed: int, *, kind: str = "") -> str:
    return f"python -m tests.simulation {f'--{kind} ' if kind else ''}--seed {seed} --verbose"


def play(seed: int, trace: Callable[[str], None] | None = None, *, kind: str = "") -> None:
    """One seed: of a realm, or of that `kind` alone: "requests", or "spools", with outboxes."""
    if kind == "requests":
        asking.play(seed, trace)
    elif kind == "spools":
        spooled.play(seed, trace)
    elif seed % MIXED == 0:
        mixed.play(seed, trace)
    else:
        world.play(seed, trace)


def failures(
    seeds: Iterable[int], trace: Callable[[str], None] | None = None, *, all: bool = False, kind: str = ""
) -> list[str]:
    """Plays the seeds; what failed and how to see it again, a text each. Unless `all` the first is the last."""
    failed: list[str] = []
    for seed in seeds:
        try:
            play(seed, trace, kind=kind)
        except Exception as error:
            if trace is not None:
                traceback.print_exc()
            failed.append(f"seed {seed}: {type(error).__name__}: {error}"[:600] + f"\n    {replay(seed, kind=kind)}")
            if not all:
                break
    return failed


def run(seeds: Sequence[int], *, processes: int = 1, all: bool = False, kind: str = "") -> int:
    """Plays them with progress on standard output; how many failed."""
    started, played, failed = time.monotonic(), 0, 0
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = iter(chunks)
        running = [pool.submit(failures, chunk, all=all, kind=kind) for chunk in islice(waiting, 2 * processes)]
        while running:
            texts = running.pop(0).result()
            failed += len(texts)
            for text in texts:
                print(text, flush=True)
            if texts and not all:
                break
            running += [pool.submit(failures, chunk, all=all, kind=kind) for chunk in islice(waiting, 1)]
            played += CHUNK
            if played % REPORT == 0:
                print(f"{played} seeds, {time.monotonic() - started:.0f} s", flush=True)
        pool.shutdown(cancel_futures=True)
    print(f"{min(played, len(seeds))} seeds in {time.monotonic() - started:.1f} s, {failed} failed", flush=True)
    return failed
