"""Judges a round by the journals alone: what programs sent, began, did and saw, and nothing that zq says of itself.

All processes share one monotonic clock, so what was before what is known.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.nemesis.plan import asks_all, key_of, lane_of
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
    kinds = ("push", "pull", "publish", "subscribe", "serve", "ask", "reply", "store", "fetch")
    roles = {role: [life for life in lives if life.role == role] for role in kinds}
    _judge_queue(roles["push"], roles["pull"], verdict)
    _judge_service(roles["publish"], roles["serve"], verdict)
    _judge_requests(roles["ask"], roles["reply"], verdict)
    _judge_kept(roles["store"], roles["fetch"], verdict)
    for reader in roles["subscribe"]:
        rows = reader.rows("came", "gap")
        (since, *_), *_ = [*reader.rows("subscribed"), [float("inf")]]  # killed before it had subscribed
        for publisher in roles["publish"]:
            own = [row for row in rows if row[2] == publisher.stream]
            _judge_topic(reader, since, publisher, own, verdict)
    return verdict


def _judge_queue(pushers: Sequence[Life], pullers: Sequence[Life], verdict: Verdict) -> None:
    ends: dict[tuple[int, int], float] = {}  # when a message was first done, or rejected
    for life in pullers:
        for at, _, stream, number in life.rows("done", "rejected"):
            ends[stream, number] = min(at, ends.get((stream, number), at))
    for life in pushers:
        taken, confirmed = (max((row[2] for row in life.rows(kind)), default=0) for kind in ("taken", "confirmed"))
        owed = taken if life.alive else confirmed
        verdict.counts["sent"] += taken
        verdict.counts["confirmed"] += owed
        if lost := [number for number in range(1, owed + 1) if (life.stream, number) not in ends]:
            verdict.counts["lost"] += len(lost)
            verdict.blame(f"{life}: {len(lost)} of {owed} confirmed messages were not processed: {lost[:10]}")
    verdict.counts["rejected"] += sum(len(life.rows("rejected")) for life in pullers)
    starts = _judge_order(pullers, lane_of, key_of, verdict)
    _judge_keys(starts, ends, verdict)


def _judge_order(
    pullers: Sequence[Life], lane_of: Callable[[int], str], key_of: Callable[[int], str | None], verdict: Verdict
) -> dict[tuple[int, int], float]:
    """First deliveries, by pusher, puller and lane; what has a key may be passed. Returns when each message began."""
    begun: dict[tuple[int, int], list[tuple[float, bool, Life]]] = {}
    for life in pullers:
        newest: dict[tuple[int, str], int] = {}
        for at, _, stream, number, attempt, again in life.rows("began"):
            begun.setdefault((stream, number), []).append((at, again, life))
            if again:
                continue
            if attempt != 1:
                verdict.blame(f"{life}: {stream}/{number} claims to be new with attempt {attempt}")
            if key_of(number) is not None:
                continue
            lane = stream, lane_of(number)
            if number <= newest.get(lane, 0):
                verdict.counts["out of order"] += 1
                verdict.blame(f"{life}: {stream}/{number} comes first behind {newest[lane]}")
            newest[lane] = max(number, newest.get(lane, 0))
    for (stream, number), times in begun.items():
        verdict.counts["redelivered"] += len(times) - 1
        # Not always the earliest: who was given up while it stood still begins with what it had been sent as new.
        new = [str(life) for _, again, life in sorted(times, key=lambda time: time[0]) if not again]
        if len(new) > 1:
            verdict.blame(f"{stream}/{number} claims to be new more than once: to {new}")
    return {message: min(time[0] for time in times) for message, times in begun.items()}


def _judge_keys(starts: dict[tuple[int, int], float], ends: dict[tuple[int, int], float], verdict: Verdict) -> None:
    """Of one key a message begins when the one before it has ended somewhere."""
    before: dict[tuple[int, str], int] = {}
    for stream, number in sorted(starts):
        key = key_of(number)
        if key is None:
            continue
        last = before.get((stream, key))
        before[stream, key] = number
        verdict.counts["keyed"] += 1
        if last is not None and ends.get((stream, last), math.inf) > starts[stream, number]:
            verdict.counts["out of order"] += 1
            verdict.blame(f"{stream}/{number} began before {last}, of the same key, had ended")


def _judge_service(publishers: Sequence[Life], replicas: Sequence[Life], verdict: Verdict) -> None:
    """A publisher that lives owes the service what it published after a replica that lives had bound its queue."""
    bound = [row[0] for life in replicas if life.alive for row in life.rows("bound")[:1]]
    done = {(row[2], row[3]) for life in replicas for row in life.rows("done")}
    for life in publishers:
        if not life.alive or not bound:
            continue
        owed = [row[2] for row in life.rows("published") if row[0] > min(bound)]
        verdict.counts["bound"] += len(owed)
        if lost := [number for number in owed if (life.stream, number) not in done]:
            verdict.counts["lost"] += len(lost)
            verdict.blame(f"{life}: {len(lost)} of {len(owed)} were not processed by the bound service: {lost[:10]}")
    _judge_order(replicas, lambda number: "", lambda number: None, verdict)


def _judge_kept(producers: Sequence[Life], fetchers: Sequence[Life], verdict: Verdict) -> None:
    """What is in an outbox is owed, whoever is killed. Its order is not: with the path it may change."""
    came = Counter((row[2], row[3]) for life in fetchers for row in life.rows("fetched"))
    new = Counter((row[2], row[3]) for life in fetchers for row in life.rows("fetched") if not row[4])
    for life in producers:
        confirmed = max((row[2] for row in life.rows("confirmed")), default=0)
        verdict.counts["kept"] += confirmed
        if lost := [number for number in range(1, confirmed + 1) if not came[life.stream, number]]:
            verdict.counts["lost"] += len(lost)
            verdict.blame(f"{life}: {len(lost)} of {confirmed} in its outbox were not fetched: {lost[:10]}")
    for (stream, number), times in new.items():
        if times > 1:
            verdict.blame(f"{stream}/{number}, which was kept, claims to be new {times} times")


def _judge_requests(askers: Sequence[Life], repliers: Sequence[Life], verdict: Verdict) -> None:
    handed = Counter((row[2], row[3]) for life in repliers for row in life.rows("handed"))
    for life in repliers:
        own = Counter((row[2], row[3]) for row in life.rows("handed"))
        for request, times in own.items():
            if times > 1 or (handed[request] > 1 and not asks_all(request[1])):
                verdict.blame(f"request {request} was handed out {max(times, handed[request])} times")
    for life in askers:
        for _, _, stream, number, how in life.rows("ended"):
            verdict.counts["requests"] += 1
            verdict.counts["replied"] += how == "replied"
            if how == "replied" and not handed[stream, number]:
                verdict.blame(f"{life}: request {number} was replied to by nobody")
            if how == "NoPeer" and handed[stream, number]:
                verdict.blame(f"{life}: request {number} was handed out although nobody was there")
            if how not in ("replied", "asked all", "NoPeer", "PeerLost", "Timeout"):
                verdict.blame(f"{life}: request {number} ended as {how}")
        if life.alive and (last := life.rows("ended")[-1:]) and last[0][4] != "replied":
            verdict.blame(f"{life}: in peace its last request ended as {last[0][4]}")


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
