"""Judges a round by the journals alone: what programs sent, began, did and saw, and nothing that zq says of itself.

All processes share one monotonic clock, so what was before what is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.processes.journal import read

MOST = 20  # violations that are told


@dataclass(slots=True, kw_only=True)
class Life:
    """One process: what it was, the stream that it sent, its journal, and whether it lived to the end."""

    role: str
    stream: int
    journal: Path
    alive: bool = True

    def rows(self, *kinds: str) -> list[list[Any]]:
        return [row for row in read(self.journal) if row[1] in kinds]

    def __str__(self) -> str:
        return f"{self.role} {self.stream}"


@dataclass(slots=True)
class Verdict:
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def blame(self, what: str) -> None:
        if len(self.violations) < MOST:
            self.violations.append(what)


def judge(lives: Iterable[Life]) -> Verdict:
    lives = list(lives)
    verdict = Verdict()
    roles = {role: [life for life in lives if life.role == role] for role in ("push", "pull", "publish", "subscribe")}
    _judge_queue(roles["push"], roles["pull"], verdict)
    for reader in roles["subscribe"]:
        rows = reader.rows("came", "gap")
        (since, *_), *_ = [*reader.rows("subscribed"), [float("inf")]]  # killed before it had subscribed
        for publisher in roles["publish"]:
            own = [row for row in rows if row[2] == publisher.stream]
            _judge_topic(reader, since, publisher, own, verdict)
    return verdict


def _judge_queue(pushers: Sequence[Life], pullers: Sequence[Life], verdict: Verdict) -> None:
    done = {(row[2], row[3]) for life in pullers for row in life.rows("done")}
    for life in pushers:
        taken, confirmed = (max((row[2] for row in life.rows(kind)), default=0) for kind in ("taken", "confirmed"))
        owed = taken if life.alive else confirmed
        verdict.counts["sent"] += taken
        verdict.counts["confirmed"] += owed
        if lost := [number for number in range(1, owed + 1) if (life.stream, number) not in done]:
            verdict.counts["lost"] += len(lost)
            verdict.blame(f"{life}: {len(lost)} of {owed} confirmed messages were not processed: {lost[:10]}")
    begun: dict[tuple[int, int], list[tuple[float, bool, Life]]] = {}
    for life in pullers:
        newest: dict[int, int] = {}
        for at, _, stream, number, attempt, again in life.rows("began"):
            begun.setdefault((stream, number), []).append((at, again, life))
            if again:
                continue
            if attempt != 1:
                verdict.blame(f"{life}: {stream}/{number} claims to be new with attempt {attempt}")
            if number <= newest.get(stream, 0):
                verdict.counts["out of order"] += 1
                verdict.blame(f"{life}: {stream}/{number} comes first behind {newest[stream]}")
            newest[stream] = max(number, newest.get(stream, 0))
    for (stream, number), times in begun.items():
        verdict.counts["redelivered"] += len(times) - 1
        # Not always the earliest: who was given up while it stood still begins with what it had been sent as new.
        new = [str(life) for _, again, life in sorted(times, key=lambda time: time[0]) if not again]
        if len(new) > 1:
            verdict.blame(f"{stream}/{number} claims to be new more than once: to {new}")


def _judge_topic(reader: Life, since: float, publisher: Life, rows: list[list[Any]], verdict: Verdict) -> None:
    published = {row[2]: row[0] for row in publisher.rows("published")}  # number: when
    what = f"{reader} of {publisher}"
    last: int | None = None
    ended, known_gap = False, False
    for _, kind, _, first, *rest in rows:
        stop = first if kind == "came" else rest[0]
        if last is None:
            owed = [number for number, at in published.items() if at > since and number < first]
            if owed and not (kind == "gap" and stop is None):
                verdict.blame(f"{what}: {first} is the first, but {owed[:10]} were published after it had subscribed")
        elif first != last + 1:
            verdict.counts["silent holes"] += first > last
            verdict.blame(f"{what}: {kind} {first} comes behind {last}")
        if kind == "came":
            verdict.counts["read"] += 1
        else:
            verdict.counts["gaps"] += 1
            known_gap |= stop is not None
        ended |= kind == "gap" and stop is None
        last = first - 1 if stop is None else stop
    if known_gap and not ended:
        verdict.blame(f"{what}: a gap of a publisher that it had not lost, whose memory had everything")
    if not reader.alive:
        return
    if publisher.alive:
        owed = [number for number, at in published.items() if at > since and number > (last or 0)]
        if owed or (last is not None and last != len(published)):
            verdict.counts["silent holes"] += len(owed)
            verdict.blame(f"{what}: has {last} of {len(published)}")
    elif last is not None and not (rows[-1][1] == "gap" and rows[-1][4] is None):
        verdict.blame(f"{what}, who was killed: has {last} of {len(published)} and was not told that there may be more")
