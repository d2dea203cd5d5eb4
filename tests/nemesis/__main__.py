"""Real processes on a simulated LAN under a nemesis, judged by their journals; needs root.

python -m tests.nemesis --faults 1000       rounds until so many faults were injected
python -m tests.nemesis --seed 42           one round, with everything that was done to it
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.lan.lan import why_not
from tests.nemesis.round import play


def replay(seed: int) -> str:
    return f"python -m tests.nemesis --seed {seed}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="one round")
    parser.add_argument("--faults", type=int, default=100, help="rounds until so many were injected")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first round")
    parser.add_argument("--verbose", action="store_true", help="say everything that is done")
    arguments = parser.parse_args()
    if missing := why_not():
        print(f"no LAN can be simulated here: {missing}", file=sys.stderr)
        return 2
    one = arguments.seed is not None
    seed = arguments.seed if one else arguments.first
    faults, counts, failed, rounds, began = Counter[str](), Counter[str](), 0, 0, time.monotonic()
    while rounds == 0 or (not one and faults.total() < arguments.faults):
        violations: list[str] = []
        try:
            result = play(seed, say=print if one or arguments.verbose else lambda text: None)
        except AssertionError as error:
            traceback.print_exc()
            violations = [str(error)]
        else:
            faults += result.faults
            counts += result.verdict.counts
            violations = result.verdict.violations
            told = ", ".join(f"{count} {what}" for what, count in sorted(result.verdict.counts.items()))
            print(f"round {seed}: {result.faults.total()} faults in {result.seconds:.0f} s; {told}", flush=True)
        for violation in violations:
            print(f"    {violation}"[:1_000])
        if violations:
            failed += 1
            print(f"round {seed} failed; to see it again: {replay(seed)}", flush=True)
        rounds += 1
        seed += 1
    print(f"\n{rounds} rounds, {faults.total()} faults in {time.monotonic() - began:.0f} s; {failed} rounds failed")
    print("faults: " + ", ".join(f"{count} {fault}" for fault, count in faults.most_common()))
    told_of = (
        "sent",
        "confirmed",
        "lost",
        "out of order",
        "keyed",
        "rejected",
        "redelivered",
        "bound",
        "kept",
        "requests",
    )
    for what in (*told_of, "replied", "read", "gaps", "silent holes"):
        print(f"{what:<14} {counts[what]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
