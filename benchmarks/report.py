"""The report: one table for people, one JSON document for machines, and what could make the figures wrong."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import msgpack
import zmq

from benchmarks import servers
from benchmarks.workload import Compare, Result, Target, Workload

NOISY = 0.2  # width of the middle half of the rounds, over the median, above which a figure is called noisy
BUSY = 0.5  # load per core at the start above which the machine is called busy

HEADINGS = ("workload", "contender", "median", "min .. max", "rounds", "asked", "reached", "")


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "pyzmq": zmq.__version__,
        "libzmq": zmq.zmq_version(),
        "msgpack": ".".join(map(str, msgpack.version)),
        "libraries": dict(_libraries()),
    }


def _libraries() -> Iterable[tuple[str, str]]:
    """What takes part, and which version of it."""
    yield from {"pyzmq": zmq.__version__, "libzmq": zmq.zmq_version()}.items()
    for name in ("msgpack", "eclipse-zenoh", "nats-py", "redis", "paho-mqtt", "pika"):
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # it does not take part
    for program, option in (("nats-server", "--version"), ("redis-server", "--version"), ("mosquitto", "-h")):
        if found := servers.version(program, option):
            yield program, found


def text(where: dict[str, Any], results: Sequence[Result]) -> str:
    """The table and its notes."""
    facts = "{processor}, {cores} cores, load {load:.2f} at the start, {system}\nPython {python}, pyzmq {pyzmq}, "
    lines = [(facts + "libzmq {libzmq}, msgpack {msgpack}").format(**where), ""]
    lines += _align([HEADINGS, *(row for result in results for row in _rows(result))])
    lines += ["", *_notes(where, results)]
    return "\n".join(lines)


def document(where: dict[str, Any], results: Sequence[Result]) -> dict[str, Any]:
    """Everything measured, for `--json`."""
    return {
        "machine": where,
        "workloads": [
            {
                "name": result.workload.name,
                "title": result.workload.title,
                "rounds": result.rounds,
                "failures": result.failures,
                "absent": result.absent,
                "targets": [
                    {
                        "contender": target.contender,
                        "metric": target.metric,
                        "asked": asked(target),
                        "limit": target.limit,
                        "reached": result.reached(target),
                        "met": result.met(target),
                    }
                    for target in result.workload.targets
                ],
            }
            for result in results
        ],
    }


class Different(Exception):
    """Two runs cannot be shown as one."""


def merged(
    documents: Sequence[dict[str, Any]], workloads: Mapping[str, Workload]
) -> tuple[dict[str, Any], list[Result]]:
    """Several runs of one machine with the same versions as one, in the order of `workloads`; rounds of the same
    workload follow each other. Raises `Different`."""
    where = dict(documents[-1]["machine"])
    results: dict[str, Result] = {}
    for document in documents:
        if changed := [key for key, value in document["machine"].items() if key != "load" and where[key] != value]:
            raise Different(f"other {', '.join(changed)}: figures of different machines or versions are not one run's")
        where["load"] = max(where["load"], document["machine"]["load"])
        for found in document["workloads"]:
            result = results.setdefault(found["name"], Result(workload=workloads[found["name"]]))
            result.rounds += found["rounds"]
            result.failures.update(found["failures"])
            result.absent.update(found["absent"])
    return where, [results[name] for name in workloads if name in results]


def _rows(result: Result) -> Iterable[tuple[str, ...]]:
    workload = result.workload
    for contender in workload.contenders:
        targets = [target for target in workload.targets if target.contender == contender.name]
        for metric in result.metrics(contender.name):
            series = result.series(contender.name, metric)
            spread = f"{figure(min(series))} .. {figure(max(series))}" if len(series) > 1 else ""
            start = (workload.name, contender.name, f"{figure(median(series))} {metric}", spread, str(len(series)))
            first, *others = [_verdict(result, target) for target in targets if target.metric == metric] or [
                ("", "", "")
            ]
            yield (*start, *first)
            yield from (("", "", "", "", "", *verdict) for verdict in others)
        if contender.name in result.absent:
            yield (workload.name, contender.name, "absent", "", "", "", "", "")
        if contender.name in result.failures:
            yield (workload.name, contender.name, "failed", "", "", "", "", "FAILED")


def judged(result: Result) -> list[Target]:
    """The targets that can be looked at: those who are compared were asked for and could take part."""
    return [
        target
        for target in result.workload.targets
        if result.reached(target) is not None
        or not (result.missing(target.baseline) or result.missing(target.contender))
    ]


def _verdict(result: Result, target: Target) -> tuple[str, str, str]:
    if result.reached(target) is None and result.missing(target.baseline):
        return asked(target), "not run", ""
    return asked(target), reached(result, target), "ok" if result.met(target) else "MISSED"


def reached(result: Result, target: Target) -> str:
    value = result.reached(target)
    return "nothing" if value is None else f"{value:.2f} x" if target.compare is Compare.RATIO else figure(value)


def asked(target: Target) -> str:
    bound = ">=" if target.at_least else "<="
    unit = target.metric.split()[-1] if target.metric != "% CPU" else "%"
    match target.compare:
        case Compare.RATIO:
            return f"{bound} {target.limit:g} x {target.baseline}"
        case Compare.EXCESS:
            return f"{bound} {target.limit:g} {unit} over {target.baseline}"
        case Compare.VALUE:
            return f"{bound} {target.limit:g} {unit}"


def _notes(where: dict[str, Any], results: Sequence[Result]) -> Iterable[str]:
    if where["load"] > BUSY * (where["cores"] or 1):
        yield "The machine was busy when this began; compare ratios, not figures."
    for result in results:
        yield f"{result.workload.name}: {result.workload.title}."
        for contender in result.workload.contenders:
            for metric in result.metrics(contender.name):
                series = result.series(contender.name, metric)
                spread = _spread(series)
                if spread > NOISY:
                    yield f"  noisy: {contender.name}, {metric}: the middle half spans {spread:.0%} of the median."
        for name, why in result.absent.items():
            yield f"  absent: {name}: {why}."
        for name, failure in result.failures.items():
            yield f"  failed: {name}: {failure}"
    yield "A ratio is the median over the rounds of ratios within a round, not the ratio of the two medians."


def _spread(series: Sequence[float]) -> float:
    """The width of the middle half over the median; 0 where there is no half or no median to speak of."""
    if len(series) < 2 or not median(series):
        return 0.0
    lower, middle, upper = quantiles(series, n=4, method="inclusive")
    return (upper - lower) / middle


def _align(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def figure(value: float) -> str:
    """Three digits that mean something: 1,012,345 is a rate nobody measured."""
    if abs(value) >= 1_000:
        digits = len(str(int(abs(value)))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux, or a processor without a name
        return platform.machine()
