"""Producers, outboxes, a spool and consumers killed with -9 under load, and in loops while they recover.

python -m tests.spoolkill 1000          rounds until so many were killed
python -m tests.spoolkill 40 --seed 7   one round
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.spoolkill.campaign import play

ROUND = 100  # kills


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.spoolkill", description=__doc__.splitlines()[0])
    parser.add_argument("kills", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, help="one round")
    arguments = parser.parse_args()
    kills, counts, failed, seed, began = Counter[str](), Counter[str](), 0, arguments.seed or 0, time.monotonic()
    while kills.total() < arguments.kills:
        wanted = arguments.kills - kills.total()
        wanted = wanted if arguments.seed is not None else min(wanted, ROUND)
        violations: list[str] = []
        try:
            verdict = play(seed, wanted)
        except AssertionError as error:
            traceback.print_exc()
            violations = [str(error)]
            kills["in a round that failed"] += wanted
        else:
            kills += verdict.kills
            counts += verdict.counts
            violations = verdict.violations
        if violations:
            failed += 1
            print("\n".join(violations)[:4_000])
            print(f"round {seed} failed; to see it again: python -m tests.spoolkill {wanted} --seed {seed}", flush=True)
        print(f"{kills.total()} kills, {counts['confirmed']} confirmed, {counts['lost']} lost", flush=True)
        seed += 1
    print(f"\n{kills.total()} kills in {time.monotonic() - began:.0f} s; {failed} rounds failed")
    print("killed: " + ", ".join(f"{count} {role}" for role, count in kills.most_common()))
    for what in ("confirmed", "lost", "came", "redelivered", "unmarked"):
        print(f"{what:<12} {counts[what]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
