"""Where callers leave packed messages for the engine, and how they are cut into frames.

A caller may append while `len(items) < limit`; whoever owns the state machine takes from the front. Appending and
cutting a list are single steps of the interpreter, so neither side needs a lock for them.

`marked` says that the owner has been told to look and has not begun to: who appends meanwhile need not tell it again.
A caller appends, then looks at the mark; the owner takes the mark away, then looks at what there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, takewhile
from typing import NamedTuple

from zq.wire.batch import EXTRA, PARTS
from zq.wire.data import Buffer, Extended, Packed
from zq.wire.limits import BATCH_BYTES, BATCH_MESSAGES
from zq.wire.plan import Plan, Planned

Item = bytes | Packed

PILE_MESSAGES = 2_048  # appended and not yet taken; four frames, so that the engine always finds a full one
SMALL = 4_096  # bytes; larger items are counted one by one against PILE_BYTES
PILE_BYTES = 64 << 20  # bytes of large items not yet taken; one larger than this passes alone


def _nobody() -> None:
    """Nobody waits for room."""


class Outgoing:
    """The pile of one stream. `limit` is lowered by the owner when it cannot take more; below 0 it is closed."""

    __slots__ = ("budget", "items", "large_in", "large_out", "limit", "marked", "wake")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.limit = PILE_MESSAGES
        self.marked = False
        self.budget = PILE_BYTES  # bytes of large items in the pile; one above it passes alone
        self.large_in = (
            0  # bytes of large items ever appended; only callers write it, under their lock, before they append
        )
        self.large_out = 0  # the same of those taken; only the owner writes it

        self.wake: Callable[[], object] = _nobody  # called when there may be room again

    def take(self, most: int) -> list[Item]:
        taken = self.items[:most]
        del self.items[: len(taken)]
        if self.large_in != self.large_out:
            self.large_out += sum(size_of(item) for item in taken if not is_small(item))
        return taken


def size_of(item: Item) -> int:
    if isinstance(item, bytes):
        return len(item)
    size = len(item.body)
    for part in item.parts:  # one, nearly always
        size += memoryview(part).nbytes
    return size


def fitting(outgoing: Outgoing, most: int, room: int, *, alone: bool = True) -> int:
    """How many of the first `most` items there are `room` bytes for; the first one always fits if it may be `alone`."""
    if outgoing.large_in == outgoing.large_out and most * SMALL <= room:
        return most
    fits = 0
    for item in outgoing.items[:most]:
        room -= size_of(item)
        if room < 0 and (fits or not alone):
            break
        fits += 1
    return fits


def is_small(item: Item) -> bool:
    return isinstance(item, bytes) and len(item) <= SMALL


class Cut(NamedTuple):
    """What goes into one frame."""

    bodies: list[bytes]
    joined: bytes  # all of them
    parts: tuple[Buffer, ...]
    size: int  # bytes
    flags: int  # EXTRA and PARTS
    plan: Plan | None = None  # the same for all


def cut(items: list[Item]) -> Iterable[Cut]:
    """What goes into one frame each. A message with parts has a frame to itself, one with extra fields shares it with
    others that have some. Messages with a plan are together only if it is one plan and they share their fate."""
    if len(items) == 1 and type(item := items[0]) is bytes:
        return (Cut([item], item, (), len(item), 0),)  # what nearly every frame is when nothing piles up
    return _cut(items)


def _cut(items: list[Item]) -> Iterator[Cut]:
    at = 0
    while at < len(items):
        if isinstance(first := items[at], Packed):
            body, parts = first
            plan = body.plan if isinstance(body, Planned) else None
            yield Cut([body], body, parts, size_of(first), PARTS | (EXTRA if isinstance(body, Extended) else 0), plan)
            at += 1
            continue
        if isinstance(first, Planned) and not first.plan.groups:
            yield Cut([first], first, (), len(first), EXTRA, first.plan)
            at += 1
            continue
        chunk = items[at : at + BATCH_MESSAGES]
        kind = type(first)
        bodies: list[bytes] = chunk  # type: ignore[assignment]
        if set(map(type, chunk)) != {kind}:
            bodies = bodies[: next(index for index, item in enumerate(chunk) if type(item) is not kind)]
        plan = None
        if isinstance(first, Planned):
            plan = first.plan
            bodies = list(takewhile(lambda body: body.plan == plan, bodies))  # type: ignore[attr-defined]  # noqa: B023
        joined = b"".join(bodies)  # costs less than asking each for its length
        if len(joined) > BATCH_BYTES:
            fits = sum(total <= BATCH_BYTES for total in accumulate(map(len, bodies)))
            bodies = bodies[: max(fits, 1)]
            joined = b"".join(bodies)
        yield Cut(bodies, joined, (), len(joined), EXTRA if issubclass(kind, Extended) else 0, plan)
        at += len(bodies)
