"""What callers send to a queue that has an outbox on disk: it is taken when it is synced there.

A call leaves its messages in the pile, which gives each a ticket, and waits until the last of them is safe. If that
takes longer than it wants to wait, it withdraws what is not: that is never delivered, though the disk may be writing it
just now. (Should the process be killed right then, it may be delivered all the same; so may what a failing disk has not
confirmed, once the outbox is opened again.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zq.core.outgoing import SMALL, Item, size_of
from zq.core.spooled import Spooled
from zq.engine.engine import Engine
from zq.errors import Closed, Refused, SpoolDamaged, SpoolFull, Timeout, Undelivered
from zq.handles.steps import Steps, Wait

if TYPE_CHECKING:
    from zq.handles.outgoing import Stream

NOBODY_TELLS = (
    'a spool has stored messages of {}: nobody tells their pusher when they are processed; flush until "stored"'
)
CHUNK = 256  # messages of a sequence packed at once
Pack = Callable[[list[Any]], tuple[list[Item], Refused | None]]


class Deposits:
    """The outbox behind a stream. Thread-safe."""

    def __init__(self, stream: Stream, spooled: Spooled, directory: Path) -> None:
        assert spooled.intake is not None
        self.spooled = spooled
        self.intake = spooled.intake
        self.directory = directory
        self.stream = stream

    def append(self, items: Sequence[Item]) -> int:
        """Leaves as many as there is room for; returns how many. Their tickets end with `intake.given`."""
        pile, intake, count = self.intake.outgoing, self.intake, 0
        for item in items:
            size = size_of(item)
            large = size > SMALL or not isinstance(item, bytes)
            if pile.limit <= len(pile.items) or (large and not self.stream.has_room_for(size)):
                break
            if large:
                pile.large_in += size
            pile.items.append(item)
            count += 1
        intake.given += count
        return count


class Call:
    """The messages of one call."""

    def __init__(
        self, deposits: Deposits, check: Callable[[], None], deadline: float | None, timeout: float | None
    ) -> None:
        """`check` raises if the pusher or its peer is closed."""
        self._deposits = deposits
        self._intake = deposits.intake
        self._stream = deposits.stream
        self._engine: Engine = deposits.stream.engine
        self._check_open = check
        self._deadline = deadline
        self._timeout = timeout
        self._tickets: list[tuple[int, int]] = []

    def put_steps(self, data: Iterable[Any], pack: Pack) -> Steps[int]:
        """Returns how many there were, when all are safe. Timeout.sent says how many are taken."""
        iterator, sent = iter(data), 0
        most = CHUNK if isinstance(data, Sequence) else 1
        try:
            while chunk := list(islice(iterator, most)):
                items, error = pack(chunk)
                sent += len(items)
                yield from self._append_steps(items)
                if error is not None:
                    yield from self._safe_steps()
                    raise error
            yield from self._safe_steps()
        except Timeout as late:
            taken = self._engine.call(self._withdraw)
            if taken < sent:
                raise type(late)(str(late), sent=taken) from None
        except Refused:
            raise
        except BaseException:
            if not (self._engine.closed or self._engine.forked):
                self._engine.later(self._withdraw_in_passing)
            raise
        return sent

    def _append_steps(self, items: list[Item]) -> Steps[None]:
        stream, intake = self._stream, self._intake
        while items:
            self._check()
            with stream.lock:
                count = self._deposits.append(items)
                last = intake.given
            if not count:
                size = size_of(items[0])
                yield from self._wait_steps(lambda size=size: stream.has_room_for(size))  # type: ignore[misc]
                continue
            first = last - count + 1
            if self._tickets and self._tickets[-1][1] == first - 1:
                first = self._tickets.pop()[0]
            self._tickets.append((first, last))
            self._engine.mark(intake)
            del items[:count]

    def _safe_steps(self) -> Steps[None]:
        if self._tickets:
            last = self._tickets[-1][1]
            yield from self._wait_steps(lambda: self._intake.safe >= last)

    def _wait_steps(self, ready: Callable[[], bool]) -> Steps[None]:
        engine, intake = self._engine, self._intake
        while not ready():
            self._check()
            woken = yield Wait(self._stream.room, lambda: ready() or intake.problem or engine.closed, self._deadline)
            if not woken and not ready():
                self._check()
                raise self._late()

    def _check(self) -> None:
        self._check_open()
        if self._intake.closed:
            raise Closed(f"the outbox of {self._intake.queue} in {self._deposits.directory} is closed")
        if problem := self._intake.problem:
            raise SpoolDamaged(
                f"the outbox of {self._intake.queue} in {self._deposits.directory} stores nothing any more: {problem}; "
                "what was not confirmed may be there or not. Mend the disk, then open the outbox again"
            )

    def _late(self) -> Timeout:
        intake = self._intake
        if intake.lacking:
            return SpoolFull(f"{intake.lacking}; that has lasted {self._timeout} s, and the message was not taken")
        where = f"the outbox of {intake.queue} in {self._deposits.directory}"
        return Timeout(f"{where} has not synced a message within {self._timeout} s; it was not taken")

    def _withdraw_in_passing(self) -> None:
        self._withdraw()

    def _withdraw(self) -> int:
        """Engine's thread. Returns how many are taken all the same."""
        engine, intake = self._engine, self._intake
        if intake.problem:
            return sum(intake.safe_of(first, last) for first, last in self._tickets)
        came = self._deposits.spooled.stamp()
        taken = sum(intake.withdraw(first, last, came) for first, last in self._tickets)
        engine.dirty.add(intake)  # others may go on
        return taken


class OutboxReceipt:
    """Whether what callers had left for an outbox when first looked at is confirmed: stored in it; with `processed`, by
    those who pulled it; with `leaving`, taken by somebody, if anybody is there to take it. Engine's thread."""

    def __init__(self, deposits: Deposits, *, processed: bool = False, leaving: bool = False) -> None:
        self._deposits = deposits
        self._engine: Engine = deposits.stream.engine
        self._processed = processed
        self._leaving = leaving
        self._target: int | None = None
        self._number: int | None = None

    def complete(self) -> bool:
        intake, spooled = self._deposits.intake, self._deposits.spooled
        if self._target is None:
            self._target = intake.given
        if intake.safe < self._target and not intake.problem:
            return False
        if self._number is None:
            self._number = spooled.safe
        if not (self._processed or self._leaving) or spooled.settled_through(self._number):
            if self._processed and spooled.outbox.stored:
                raise Refused(NOBODY_TELLS.format(intake.queue))
            return True
        return self._leaving and not (self._could_go(spooled) and self._is_anybody_there())

    @staticmethod
    def _could_go(spooled: Spooled) -> bool:
        """Whether something waits for nothing but somebody to take it, or to settle it."""
        outbox = spooled.outbox
        return bool(outbox.in_flight or outbox.ready or spooled.next_load <= spooled.safe)

    def _is_anybody_there(self) -> bool:
        node = self._engine.node
        return not node.is_settled() or bool(node.forwarding.links(self._deposits.intake.queue))

    def undelivered(self) -> Undelivered:
        spooled, node = self._deposits.spooled, self._engine.node
        queue = spooled.name
        pullers = len(node.forwarding.pullers(queue))
        what = f"{pullers} pullers of {queue} to settle them" if pullers else f"a puller of {queue}"
        count = spooled.left if self._processed else 0
        unsafe = self._deposits.intake.given - self._deposits.intake.safe
        return Undelivered(count + unsafe, node.forwarding.unsettled_ids(spooled.outbox), what)
