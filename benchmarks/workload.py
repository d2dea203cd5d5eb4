"""What a benchmark is: a workload, contenders that do the same job, and the targets they are held to.

A workload runs in rounds. In each round every contender runs once, so that all of them see the same machine, and
what a target compares are values of the same round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from statistics import median
from typing import Final

from benchmarks.process import Failed, isolated

# The message of every rate and round trip: a small reading of a sensor, about 100 bytes of msgpack.
READING: Final = {"id": 1, "t": 21.5, "name": "sensor-kitchen", "payload": b"x" * 50}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much work one round is."""

    messages: int  # counted, one way
    warm_up: int  # messages before them, not counted
    trips: int  # round trips counted; a tenth as many before them are not
    blades: int  # of a fan: processes on its wide side
    seconds: float  # of sending at each fixed rate
    others: int  # idle peers around the one that is measured
    many: int  # topics, queues, workers at the most, where it is their number that counts
    crowd: int  # idle peers at the most, likewise
    array_bytes: int  # of arrays sent, of each size up to this one
    idle_seconds: float  # s of watching them
    settle_seconds: float  # s from the last of them being ready until the watching begins
    rounds: int | None  # None: what the workload says


# 500,000 messages last about half a second, long enough to see through the scheduler; 100,000 fill every buffer.
FULL: Final = Scale(
    messages=500_000,
    warm_up=100_000,
    trips=5_000,
    blades=8,
    seconds=2.0,
    others=20,
    many=1_000,
    crowd=199,
    array_bytes=2 << 30,
    idle_seconds=10.0,
    settle_seconds=3.0,
    rounds=None,
)
# Shows that everything runs; the figures mean little.
QUICK: Final = Scale(
    messages=20_000,
    warm_up=2_000,
    trips=300,
    blades=2,
    seconds=0.1,
    others=2,
    many=10,
    crowd=2,
    array_bytes=16 << 20,
    idle_seconds=0.5,
    settle_seconds=0.2,
    rounds=1,
)

Values = Mapping[str, float]  # "msg/s" -> 1_000_000.0: the unit is the name's last word


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way of doing the job. `run` does one round of it and raises `Failed` if it did not finish."""

    name: str
    run: Callable[[Scale], Values]
    absent: Callable[[], str] = lambda: ""  # why it cannot take part: something is not installed


class Compare(Enum):
    """What of a value is held against the limit."""

    RATIO = "x"  # value / the baseline's value of the same round
    EXCESS = "over"  # value - the baseline's value of the same round
    VALUE = ""  # the value itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is asked of a contender: the median over the rounds is at least, or at most, `limit`."""

    contender: str
    metric: str
    compare: Compare
    limit: float
    at_least: bool = False
    baseline: str = ""  # the contender compared with; unused with VALUE


def rates(contender: str, limits: Mapping[str, float]) -> tuple[Target, ...]:
    """It passes so many times the messages a second of each of these."""
    return tuple(
        Target(
            contender=contender, metric="msg/s", compare=Compare.RATIO, baseline=baseline, at_least=True, limit=limit
        )
        for baseline, limit in limits.items()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    name: str
    title: str
    contenders: tuple[Contender, ...]
    targets: tuple[Target, ...]
    rounds: int


@dataclass(slots=True, kw_only=True)
class Result:
    """The rounds of one workload, and why contenders are missing from them."""

    workload: Workload
    rounds: list[dict[str, Values]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def series(self, contender: str, metric: str) -> list[float]:
        """The contender's values, one a round."""
        return [values[contender][metric] for values in self.rounds if metric in values.get(contender, {})]

    def metrics(self, contender: str) -> list[str]:
        """The names of what was measured of the contender, in the order it gave them."""
        return list(dict.fromkeys(metric for values in self.rounds for metric in values.get(contender, {})))

    def reached(self, target: Target) -> float | None:
        """What is held against the target's limit; None if no round has what it takes."""
        if target.compare is Compare.VALUE:
            found = self.series(target.contender, target.metric)
        else:
            found = [
                _compare(target.compare, values[target.contender], values[target.baseline], target.metric)
                for values in self.rounds
                if target.contender in values and target.baseline in values
            ]
        return median(found) if found else None

    def missing(self, contender: str) -> bool:
        """Whether it was not asked for, or could not take part; one that failed is not missing."""
        ran = any(contender in values for values in self.rounds)
        return not ran and contender not in self.failures and bool(contender)

    def met(self, target: Target) -> bool:
        """Whether the target is reached; a contender that did not run has not reached it."""
        reached = self.reached(target)
        if reached is None:
            return False
        return reached >= target.limit if target.at_least else reached <= target.limit


def steps(workload: Workload, scale: Scale, wanted: Callable[[str], bool] = lambda name: True) -> int:
    """How often `measure` runs a contender."""
    chosen = [contender for contender in workload.contenders if wanted(contender.name) and not contender.absent()]
    return len(chosen) * (scale.rounds or workload.rounds)


def measure(
    workload: Workload, scale: Scale, progress: Callable[[str], None], wanted: Callable[[str], bool] = lambda name: True
) -> Result:
    """Run all rounds of the contenders that are `wanted` and can take part. One that fails once is out of the rounds
    that follow; the others go on."""
    result = Result(workload=workload)
    chosen = [contender for contender in workload.contenders if wanted(contender.name)]
    result.absent = {contender.name: why for contender in chosen if (why := contender.absent())}
    chosen = [contender for contender in chosen if contender.name not in result.absent]
    rounds = scale.rounds or workload.rounds
    for number in range(rounds):
        values: dict[str, Values] = {}
        # Every other round runs backwards, so that nobody always comes after the same neighbour.
        for contender in chosen if number % 2 == 0 else reversed(chosen):
            if contender.name in result.failures:
                continue
            progress(f"{workload.name} {number + 1}/{rounds}: {contender.name}")
            try:
                with isolated():
                    values[contender.name] = contender.run(scale)
            except Failed as failure:
                result.failures[contender.name] = str(failure)
        result.rounds.append(values)
    return result


def _compare(how: Compare, values: Values, baseline: Values, metric: str) -> float:
    return values[metric] / baseline[metric] if how is Compare.RATIO else values[metric] - baseline[metric]
