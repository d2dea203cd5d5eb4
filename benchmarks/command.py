"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks import page, report, servers
from benchmarks.arrays import ARRAYS, ARRAYS_TO_FOUR
from benchmarks.busy import BUSY, PROCESSOR
from benchmarks.durable import DURABLE
from benchmarks.fan import FAN_IN, FAN_OUT
from benchmarks.growth import CROWD, GROWTH
from benchmarks.idle import IDLE
from benchmarks.latency import LATENCY
from benchmarks.one_way import ONE_WAY
from benchmarks.one_way_curve import ONE_WAY_CURVE
from benchmarks.progress import Progress
from benchmarks.round_trip import ROUND_TRIP
from benchmarks.sharing import FOUR_TO_FOUR, ONE_TO_FOUR
from benchmarks.start_up import IMPORT, START_UP
from benchmarks.work_queue import WORK_QUEUE
from benchmarks.workload import FULL, QUICK, measure, steps

RATES = (ONE_WAY, ONE_WAY_CURVE, FAN_OUT, FAN_IN, WORK_QUEUE, ONE_TO_FOUR, FOUR_TO_FOUR, ARRAYS, ARRAYS_TO_FOUR)
DURABILITY = (DURABLE,)
COSTS = (PROCESSOR, BUSY, IMPORT, START_UP, IDLE, CROWD, GROWTH)
ALL = (*RATES, *DURABILITY, ROUND_TRIP, LATENCY, *COSTS)
WORKLOADS = {workload.name: workload for workload in ALL}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report. 0: everything ran, whatever it reached; 1: a contender failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="zq beside what one would write by hand")
    parser.add_argument("--workload", "-w", action="append", choices=list(WORKLOADS), help="only this one; repeatable")
    parser.add_argument("--quick", action="store_true", help="a smoke run: small counts, figures mean little")
    parser.add_argument("--repeat", "-r", type=int, metavar="N", help="rounds of each workload (default: its own)")
    parser.add_argument(
        "--peers", "-p", metavar="NAMES", help="only contenders that have one of these in their name: zq,zenoh"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    parser.add_argument(
        "--merge",
        "-m",
        type=Path,
        action="append",
        metavar="FILE",
        help="add what an earlier run wrote with --json, on this machine with these versions; repeatable. Without "
        "--workload nothing is measured",
    )
    parser.add_argument("--write", type=Path, metavar="DIRECTORY", help="write benchmarks.md and its plots there")
    parser.add_argument("--note", default="", metavar="TEXT", help="what readers of benchmarks.md should know")
    options = parser.parse_args(arguments)
    if options.repeat is not None and options.repeat < 1:
        parser.error("--repeat: at least 1")

    scale = QUICK if options.quick else FULL
    if options.repeat is not None:
        scale = dataclasses.replace(scale, rounds=options.repeat)
    where = report.machine()
    chosen = [WORKLOADS[name] for name in options.workload or WORKLOADS]
    names = [name.strip().lower() for name in (options.peers or "").split(",") if name.strip()]

    def wanted(contender: str) -> bool:
        return not names or any(name in contender.lower() for name in names)

    earlier = [json.loads(path.read_text(encoding="utf-8")) for path in options.merge or ()]
    if earlier and not options.workload:
        chosen = []
    progress = Progress(sum(steps(workload, scale, wanted) for workload in chosen))
    with servers.stopped_at_the_end():
        results = [measure(workload, scale, progress, wanted) for workload in chosen]
    progress("")
    try:
        measured = [report.document(where, results)] if chosen else []
        where, results = report.merged([*earlier, *measured], WORKLOADS)
    except report.Different as difference:
        parser.error(str(difference))
    print(report.text(where, results))
    if options.quick:
        print("This was --quick: it shows that everything runs, not how fast it is.")
    if options.json is not None:
        options.json.write_text(json.dumps(report.document(where, results), indent=2) + "\n", encoding="utf-8")
    if options.write is not None:
        print(f"written: {page.write(options.write, where, results, options.note)}")
    return 1 if any(result.failures for result in results) else 0
