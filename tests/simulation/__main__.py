"""The simulation from the command line.

python -m tests.simulation --seed 42 --verbose     one run, everything that happens
python -m tests.simulation --seeds 0-2000          many, until one fails; on all processors
python -m tests.simulation --requests --seed 42    a run of requests and replies
python -m tests.simulation --spools --seeds 0-500  queues with spools and outboxes in the path
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.simulation.seeds import failures, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="one seed")
    parser.add_argument("--seeds", metavar="FROM-TO", default="0-1", help="seeds from FROM up to, but without, TO")
    parser.add_argument(
        "--requests", dest="kind", action="store_const", const="requests", default="",
        help="requests and replies instead of topics and queues",
    )  # fmt: skip
    parser.add_argument(
        "--spools", dest="kind", action="store_const", const="spools", help="queues with spools and outboxes instead"
    )
    parser.add_argument("--verbose", action="store_true", help="with --seed: print everything that happens")
    parser.add_argument("--go-on", action="store_true", help="run all seeds although some fail")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="that play at once")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        texts = failures([arguments.seed], print if arguments.verbose else None, kind=arguments.kind)
        print("\n".join(texts) or f"seed {arguments.seed} passes")
        return 1 if texts else 0
    first, _, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last))
    return 1 if run(seeds, processes=arguments.processes, all=arguments.go_on, kind=arguments.kind) else 0


if __name__ == "__main__":
    sys.exit(main())
