"""The simulation from the command line.

python -m tests.simulation --seed 42 --verbose     one run, everything that happens
python -m tests.simulation --seeds 0-2000          many, until one fails; on all processors
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context

from tests.simulation.world import play

REPORT = 1_000  # seeds between two lines of progress
CHUNK = 50  # seeds a process plays in a row: a second


def replay(seed: int) -> str:
    return f"python -m tests.simulation --seed {seed} --verbose"


def failures(seeds: Iterable[int], trace: Callable[[str], None] | None = None, *, all: bool = False) -> list[str]:
    """Plays the seeds; what failed and how to see it again, a text each. Unless `all` the first is the last."""
    failed: list[str] = []
    for seed in seeds:
        try:
            play(seed, trace)
        except Exception as error:
            if trace is not None:
                traceback.print_exc()
            failed.append(f"seed {seed}: {type(error).__name__}: {error}"[:600] + f"\n    {replay(seed)}")
            if not all:
                break
    return failed


def run(seeds: Sequence[int], *, processes: int = 1, all: bool = False) -> int:
    """Plays them with progress on standard output; how many failed."""
    started, played, failed = time.monotonic(), 0, 0
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting = iter(chunks)
        running = [pool.submit(failures, chunk, all=all) for chunk in islice(waiting, 2 * processes)]
        while running:
            texts = running.pop(0).result()
            failed += len(texts)
            for text in texts:
                print(text, flush=True)
            if texts and not all:
                break
            running += [pool.submit(failures, chunk, all=all) for chunk in islice(waiting, 1)]
            played += CHUNK
            if played % REPORT == 0:
                print(f"{played} seeds, {time.monotonic() - started:.0f} s", flush=True)
        pool.shutdown(cancel_futures=True)
    print(f"{min(played, len(seeds))} seeds in {time.monotonic() - started:.1f} s, {failed} failed", flush=True)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", metavar="FROM-TO", default="0-1", help="seeds from FROM up to, but without, TO")
    parser.add_argument("--verbose", action="store_true", help="with --seed: print everything that happens")
    parser.add_argument("--go-on", action="store_true", help="run all seeds although some fail")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that play at once")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        texts = failures([arguments.seed], print if arguments.verbose else None)
        print("\n".join(texts) or f"seed {arguments.seed} passes")
        return 1 if texts else 0
    first, _, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last))
    return 1 if run(seeds, processes=arguments.processes, all=arguments.go_on) else 0


if __name__ == "__main__":
    sys.exit(main())
