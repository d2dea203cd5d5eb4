"""A batch of a queue as a spool keeps it: what came, with what was said beside it.

    when it came: wall clock 8 (f64), boot id 8, time since boot 8 (f64) | attempt 2 |
        the pusher's maximum of attempts 2 | count of parts 2 | sizes of the parts, 4 each |
        with NAMED topic 0 | messages | parts

`flags` are those of the batch: PARTS, REDELIVERED, EXTRA and NAMED. Times in the extra fields are what remained of them
when it came. Decoders raise `Malformed` and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

import msgpack

from zq.message import DELAY, KEY, TTL
from zq.wire.batch import (
    EXTRA,
    NAMED,
    PARTS,
    REDELIVERED,
    Batch,
    Buffer,
    Items,
    Joined,
    Parts,
    Run,
    check,
    split,
)
from zq.wire.data import Malformed
from zq.wire.dead import PAIR
from zq.wire.dead import split as split_extra
from zq.wire.extra import extra_problem
from zq.wire.plan import NORMAL, Plan, Planned, plan_in

TRIMMED = 1 << 15  # flag of a record without a body: its messages were settled, and are not here any more
KEPT = PARTS | REDELIVERED | EXTRA | NAMED  # flags
NO_BOOT = bytes(8)  # a machine that does not tell its boots apart
_HEAD = struct.Struct(">d8sdHHH")
_SIZE = struct.Struct(">I")


class Stamp(NamedTuple):
    """A time by the clocks of a machine: by the one that everybody sets, and by its own since it was booted."""

    wall: float  # s since 1970
    boot: bytes  # eight bytes of the boot's id, or NO_BOOT
    uptime: float  # s, suspended ones too

    def until(self, now: Stamp) -> float:
        """Seconds that have passed: within one boot whatever the wall clock was set to meanwhile. Never negative."""
        same = self.boot == now.boot != NO_BOOT
        return max(now.uptime - self.uptime if same else now.wall - self.wall, 0.0)


class Stored(NamedTuple):
    """What a spool has of one batch."""

    came: Stamp
    attempt: int
    max_attempts: int
    flags: int
    runs: tuple[Run, ...]
    topic: str | None
    items: Items  # as they came, if nothing in them is to be looked at
    parts: Parts


class Group(NamedTuple):
    """Messages of one run that are treated alike; `plan` None: as if their sender had asked for nothing."""

    start: int  # of them in the batch
    items: Items
    run: Run
    plan: Plan | None


def from_batch(batch: Batch, max_attempts: int, came: Stamp) -> Stored:
    """What this receiver is to have of it. Malformed: not what it says it is."""
    items = _items(batch.body, batch.count, batch.flags)
    if batch.live < batch.count:
        items = items[batch.skip : batch.stop]
    runs = tuple(_runs_between(batch.runs, batch.skip, batch.stop))
    parts = tuple(batch.parts)
    return Stored(came, batch.attempt, max_attempts, batch.flags & KEPT, runs, batch.topic, items, parts)


def _runs_between(runs: Sequence[Run], start: int, stop: int) -> Iterator[Run]:
    at = 0
    for run in runs:
        low, high = max(start - at, 0), min(stop - at, run.length)
        if low < high:
            yield Run(run.origin, run.first + low, high - low, run.time)
        at += run.length


def part_of(stored: Stored, places: Sequence[tuple[int, int]]) -> Stored:
    """Of its messages only those at these places, (start, stop) each: one at least."""
    runs = tuple(run for start, stop in places for run in _runs_between(stored.runs, start, stop))
    items = [item for start, stop in places for item in stored.items[start:stop]]
    return stored._replace(runs=runs, items=items)


def encode(stored: Stored) -> bytes:
    """Its bytes but for what the log keeps beside them: flags, runs and the count of messages."""
    sizes = [memoryview(part).nbytes for part in stored.parts]
    head = _HEAD.pack(*stored.came, stored.attempt, min(stored.max_attempts, 0xFFFF), len(sizes))
    name = () if stored.topic is None else (stored.topic.encode() + b"\0",)
    items = (stored.items.body,) if isinstance(stored.items, Joined) else stored.items
    return b"".join((head, *map(_SIZE.pack, sizes), *name, *items, *stored.parts))


def decode(body: bytes, length: int, flags: int, runs: Sequence[Run]) -> Stored:
    if len(body) < _HEAD.size:
        raise Malformed("a stored batch is cut short")
    *came, attempt, max_attempts, count = _HEAD.unpack_from(body)
    start = _HEAD.size + count * _SIZE.size
    if len(body) < start:
        raise Malformed("a stored batch is cut short")
    sizes = [_SIZE.unpack_from(body, _HEAD.size + index * _SIZE.size)[0] for index in range(count)]
    end = len(body) - sum(sizes)
    topic = None
    if flags & NAMED:
        name, _, _ = body[start : start + 256].partition(b"\0")
        topic, start = name.decode("ascii", "replace"), start + len(name) + 1
    items = _items(memoryview(body)[start : max(end, start)], length, flags)
    parts: list[Buffer] = []
    for size in sizes:
        parts.append(body[end : end + size])
        end += size
    return Stored(Stamp(*came), attempt, max_attempts, flags, tuple(runs), topic, items, tuple(parts))


def _items(body: Buffer, count: int, flags: int) -> Items:
    """Of messages with extra fields each one has a say in what becomes of it."""
    if flags & EXTRA:
        return split(body, count)
    check(body, count)
    return Joined(body, count)


def groups_of(stored: Stored) -> list[Group]:
    """What is held together, in order. A message with a key or times of its own is a group of its own."""
    if not stored.flags & EXTRA:
        return _by_run(stored)
    planned = [(item, _plan_of(item)) for item in stored.items]
    items = [_with_floats(item, plan) if plan is not None else item for item, plan in planned]
    plans = [plan for _, plan in planned]
    groups: list[Group] = []
    at = 0
    for run in stored.runs:
        places = range(at, at + run.length)
        keys = [
            (place if (plan := plans[place]) is not None and not plan.groups else -1, plans[place]) for place in places
        ]
        for (_, plan), members in groupby(places, key=lambda place: keys[place - at]):
            these = list(members)
            first, count = these[0], len(these)
            part = Run(run.origin, run.first + first - at, count, run.time)
            groups.append(Group(first, items[first : first + count], part, plan))
        at += run.length
    return groups


def _by_run(stored: Stored) -> list[Group]:
    if len(stored.runs) == 1:
        return [Group(0, stored.items, stored.runs[0], None)]
    ends = list(accumulate(run.length for run in stored.runs))
    return [
        Group(end - run.length, stored.items[end - run.length : end], run, None)
        for run, end in zip(stored.runs, ends, strict=True)
    ]


def _plan_of(item: bytes) -> Plan | None:
    """What a message's extra fields ask for. Malformed if it has none that make sense."""
    try:
        extra = split_extra(item)[1]
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise Malformed(f"a message without extra fields: {error}") from None
    problem = extra_problem(extra) if item[:1] == PAIR else "a message without extra fields"
    if problem:
        raise Malformed(problem)
    if extra[TTL] is None and not extra[DELAY]:
        return plan_in(extra)
    lane = plan_in(extra)
    ttl = None if extra[TTL] is None else float(extra[TTL])
    return Plan(NORMAL if lane is None else lane.lane, extra[KEY], ttl, float(extra[DELAY] or 0.0))


def _with_floats(item: bytes, plan: Plan) -> Planned:
    """The message as its holder can treat it: its bytes end with ttl and delay as the plan has them."""
    if plan.ttl is not None or plan.delay:
        data, extra = split_extra(item)
        extra[TTL], extra[DELAY] = plan.ttl, plan.delay or None
        item = b"".join((PAIR, data, msgpack.packb(extra)))
    planned = Planned(item)
    planned.plan = plan
    return planned
