"""The simulation from the command line.

python -m tests.simulation --seed 42 --verbose     one run, everything that happens
python -m tests.simulation --seeds 0-2000          many, until one fails
python -m tests.simulation --requests --seed 42    a run of requests and replies
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.simulation import requests, world

REPORT = 1_000  # seeds between two lines of progress


def replay(seed: int, kind: str = "") -> str:
    return f"python -m tests.simulation {kind}--seed {seed} --verbose"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", metavar="FROM-TO", help="seeds from FROM up to, but without, TO")
    parser.add_argument("--requests", action="store_true", help="requests and replies instead of topics and queues")
    parser.add_argument("--verbose", action="store_true", help="print everything that happens")
    parser.add_argument("--go-on", action="store_true", help="run all seeds although some fail")
    arguments = parser.parse_args()
    first, last = arguments.seed or 0, (arguments.seed or 0) + 1
    if arguments.seeds:
        first, _, last = (int(part) if part != "-" else 0 for part in arguments.seeds.partition("-"))
    started, failed = time.monotonic(), 0
    for seed in range(first, last):
        try:
            (requests.play if arguments.requests else world.play)(seed, print if arguments.verbose else None)
        except Exception as error:
            failed += 1
            if not arguments.go_on or arguments.verbose:
                traceback.print_exc()
            print(f"seed {seed}: {type(error).__name__}: {error}"[:600])
            print(f"    {replay(seed, '--requests ' if arguments.requests else '')}", flush=True)
            if not arguments.go_on:
                return 1
        if (seed + 1 - first) % REPORT == 0:
            print(f"{seed + 1 - first} seeds, {time.monotonic() - started:.0f} s", flush=True)
    print(f"{last - first} seeds in {time.monotonic() - started:.1f} s, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
