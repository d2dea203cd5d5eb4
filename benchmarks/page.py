"""docs/benchmarks.md and its plots, from what one run has measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import BUSY, asked, figure, judged, reached
from benchmarks.workload import Result

HEAD = """# Benchmarks: zq and what one could use instead

`make bench-servers`, then `python -m benchmarks --write docs`: this page and its plots are what one such run found. How
it measures stands in [performance.md](performance.md); ratios are medians over the rounds of ratios within a round.
All do the same work: a map of Python values in, the same map out, packed with msgpack. Servers run on this machine,
on loopback, with their data in memory or unsynced; what each promises differs, and stands with its adapter in
`benchmarks/alternatives`.
"""


def write(directory: Path, where: dict[str, Any], results: Sequence[Result], note: str = "") -> Path:
    """Writes the page and a plot a workload, and returns where the page is. Needs matplotlib for the plots. The `note`
    says what else a reader should know of the run."""
    pictures = directory / "benchmarks"
    pictures.mkdir(exist_ok=True)
    lines = [HEAD, _machine(where), "", *([note, ""] if note else [])]
    for result in results:
        name = result.workload.name
        lines += [f"## {name}", "", f"{result.workload.title[:1].upper()}{result.workload.title[1:]}.", ""]
        metric = _plotted(result)
        if metric is not None and _plot(pictures / f"{name}.svg", result, metric):
            lines += [f"![{name}: {metric}](benchmarks/{name}.svg)", ""]
        lines += [*_table(result), ""]
        lines += [f"- behind: {line}" for line in _behind(result)]
        lines += [f"- not measured: {who}: {why.splitlines()[0]}" for who, why in _left_out(result)]
        lines += [""]
    page = directory / "benchmarks.md"
    page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return page


def _machine(where: dict[str, Any]) -> str:
    busy = " **It was busy with other things.**" if where["load"] > BUSY * (where["cores"] or 1) else ""
    libraries = ", ".join(f"{name} {version}" for name, version in where["libraries"].items())
    return (
        f"{where['processor']}, {where['cores']} cores, {where['system']}, load at most {where['load']:.2f}; "
        f"Python {where['python']}; {libraries}.{busy}"
    )


def _table(result: Result) -> Iterable[str]:
    yield "| | median | spread | asked | reached |"
    yield "|---|---|---|---|---|"
    for contender in result.workload.contenders:
        targets = [target for target in judged(result) if target.contender == contender.name]
        for metric in result.metrics(contender.name):
            series = result.series(contender.name, metric)
            own = [target for target in targets if target.metric == metric]
            verdict = (", ".join(map(asked, own)), ", ".join(reached(result, target) for target in own))
            spread = f"{figure(min(series))} to {figure(max(series))}"
            yield f"| {contender.name} | {figure(median(series))} {metric} | {spread} | {verdict[0]} | {verdict[1]} |"


def _behind(result: Result) -> Iterable[str]:
    """Where somebody else does better than zq, and where a target is missed."""
    for target in judged(result):
        if not result.met(target):
            yield f"{target.contender}, {target.metric}: {reached(result, target)}, asked {asked(target)}"
    for metric in result.metrics("zq"):
        own = median(result.series("zq", metric))
        for contender in result.workload.contenders:
            series = result.series(contender.name, metric)
            if contender.name.startswith("zq") or not series:
                continue
            better = median(series) > own if metric.endswith("/s") else median(series) < own
            if better:
                yield f"{metric}: {contender.name} {figure(median(series))}, zq {figure(own)}"


def _left_out(result: Result) -> Iterable[tuple[str, str]]:
    yield from result.absent.items()
    yield from result.failures.items()


def _plotted(result: Result) -> str | None:
    """What a picture shows: the first thing that every contender was measured by."""
    names = [contender.name for contender in result.workload.contenders if result.metrics(contender.name)]
    return next((metric for name in names[:1] for metric in result.metrics(name)), None)


def _plot(file: Path, result: Result, metric: str) -> bool:
    """A bar a contender, best first, from the least to the most over the rounds; False without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    found = {
        contender.name: series
        for contender in result.workload.contenders
        if (series := result.series(contender.name, metric))
    }
    names = sorted(found, key=lambda name: median(found[name]), reverse=not metric.endswith("/s"))
    middles = [median(found[name]) for name in names]
    errors = [
        [middle - min(found[name]) for name, middle in zip(names, middles, strict=True)],
        [max(found[name]) - middle for name, middle in zip(names, middles, strict=True)],
    ]
    picture = Figure(figsize=(8, 0.4 * len(names) + 1.0), layout="constrained")
    axes = picture.subplots()
    colours = ["#0b6e99" if name.startswith("zq") else "#b0b0b0" for name in names]
    axes.barh(names, middles, xerr=errors, color=colours, ecolor="#555555", capsize=2)
    axes.set_xlabel(metric)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    picture.savefig(file, metadata={"Date": None})
    return True
