"""A running spool: each of its queues as a state machine between pushers, a disk and pullers.

Every message has a number in its queue's stream, which is its position in the spool's outbox, and is in one of these
states:

    come -> on its way to the disk -> stored -> loaded: in the outbox of `relaying` -> settled
                 |                       |                 |
                 |                       +-- behind the window, on the disk alone
                 +-- could not be stored: given back to its pusher

Events:
- batch: what a pusher has sent goes to the disk; what makes no sense is rejected. What has come before, by its origin
  number, does not go there again: its pusher is told of it in its turn, once all that came earlier is answered.
- stored: the disk has synced it. Now the pusher is told, and it is loaded at once if nothing older waits on the disk.
- failed: the disk could not take it. It goes back to its pusher. On a full disk the queue takes nothing more until
  there is room; after any other failure it is *broken*: it leaves the roster, and pushers go direct.
- records: a piece of the stream, as it was asked for, is loaded, but for what is settled.
- report, once each turn: what pullers have settled, and attempts that failed, go to the journal; when half of the
  window is empty more is asked for.
- dead: a letter is kept in memory, as by every holder, and its message stays unsettled on the disk until the letter is
  pulled, purged or forgotten. Loaded again after a restart it is a dead letter at once, without its history.
- full: the queue has reached a limit, or the disk its free space: no more credit, until there is a tenth less.
- close: no credit, then all that is on its way to the disk is stored, then links end, then the outbox goes.

What a crash (kill -9, power cut) costs, by where a message is:

    come, or on its way to the disk   nothing: its pusher holds it, and pushes it again, redelivered
    stored, the pusher not told       nothing: its pusher pushes it again, and is told at once
    loaded, or at a puller            nothing: it is unsettled, and delivered again; all that was found is redelivered
                                      unless the spool was closed, when only what had been on its way is
    settled, journal not on the medium  it is delivered again, redelivered, after a power cut; a killed process loses
                                      none of the journal
    an attempt charged                as settled: at worst an attempt more

A message is settled once it is acked, expired or no dead letter any more; nothing else removes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from zq.core.inbox import Inbox
from zq.core.origins import Origins
from zq.core.outbox import Kept, Outbox, Piece
from zq.core.pulling import Puller, Pulling
from zq.core.pushing import Pushing
from zq.core.ranges import Ranges, merged
from zq.core.timers import Timers
from zq.info import HeldQueue
from zq.wire.batch import ATTEMPT_MOST, EXTRA, NAMED, PARTS, REDELIVERED, Batch, Items, Run
from zq.wire.data import Malformed
from zq.wire.stored import Stamp, Stored, decode, encode, from_batch, groups_of, part_of

WINDOW, WINDOW_BYTES = 16_384, 32 << 20  # messages, bytes: what of a backlog is in memory; a pusher's default window
UNDUE = 8  # windows of messages that are not due yet, or behind their key, beside those that could be sent
CREDIT, CREDIT_BYTES = 16_384, 64 << 20  # messages, bytes: on their way to the disk, of all pushers; the default window
ROOMY = 0.9  # of a limit: from there on what was full takes more
LOOK = 1.0  # s between looks at a full disk


class Limits(NamedTuple):
    """What a queue may take of its disk; None is no limit."""

    max_bytes: int | None = None
    max_messages: int | None = None
    min_free: int = 0  # bytes that are left to others


class Room(NamedTuple):
    """What the disk says of itself: bytes of the stream, bytes that are free."""

    used: int
    free: int


class Coming(NamedTuple):
    """A batch that is not answered yet."""

    batch: Batch
    runs: Sequence[Run]  # of all that this spool is to have of it
    stored: Stored | None  # what is on its way to the disk; None: all of it came before


class Item(NamedTuple):
    """A record as it was read; `stored` is None where it is damaged or missing."""

    first: int
    last: int
    flags: int
    runs: Sequence[Run]
    body: bytes | None


class Disk(Protocol):
    """What keeps the streams. Nothing here waits; answers come as events of `Spooling`, in order."""

    def append(self, stream: bytes, length: int, runs: Sequence[Run], body: bytes, flags: int) -> None:
        """Answered by `on_stored` or `on_failed`."""

    def read(self, stream: bytes, first: int) -> None:
        """Answered by `on_records`."""

    def settle(self, stream: bytes, first: int, last: int) -> None: ...

    def charge(self, stream: bytes, number: int, attempts: int) -> None: ...

    def look(self, stream: bytes) -> None:
        """Answered by `on_room`."""

    def stamp(self) -> Stamp:
        """What the machine's clocks show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A stream as it was found."""

    queue: str
    stream: bytes
    first: int  # the oldest there is
    safe: int  # the newest
    doubtful: int  # up to here messages may have been delivered before
    settled: Ranges
    attempts: dict[int, int]
    room: Room
    known: Origins = field(default_factory=Origins)  # what its messages, settled ones too, had been numbered by others


@dataclass(eq=False, slots=True)
class Spooled:
    """One queue of a spool."""

    name: str
    stream: bytes
    limits: Limits
    puller: Puller
    outbox: Outbox
    safe: int
    next_load: int
    doubtful: int
    settled: Ranges
    attempts: dict[int, int]
    room: Room
    base: int = 1  # all below is settled
    came_doubtful: Ranges = field(default_factory=Ranges)  # given back by us, and stored after all
    known: Origins = field(default_factory=Origins)  # what has come, by origin
    storing: deque[Coming] = field(default_factory=deque)
    repeated: int = 0  # messages that came again
    reading: bool = False
    taken: int = 0  # messages: found unsettled, or stored since
    damaged: int = 0
    broken: str = ""
    closing: bool = False

    @property
    def unsettled(self) -> int:
        below = max(self.base - 1, 0)
        return self.safe - below - self.settled.count()

    @property
    def buried(self) -> int:
        """Of those, how many are dead letters."""
        return 0 if self.outbox.kept is None else len(self.outbox.kept.dead)

    @property
    def label(self) -> str:
        return f"the spool of {self.name}"


def _part(batch: Batch, start: int, stop: int) -> Batch:
    """Some of the messages of a batch; of its bytes those have all that come first."""
    part = batch.view(batch.skip + start, batch.skip + stop)
    part.size = 0 if start else batch.size
    return part


class _Entrance(Inbox):
    """Where a spool's puller puts what comes."""

    __slots__ = ("_store",)

    def __init__(self, store: Callable[[Batch], None]) -> None:
        super().__init__(lambda: None)
        self._store = store

    def put(self, batch: Batch) -> None:
        self._store(batch)

    def put_at(self, place: int, batch: Batch) -> None:
        self._store(batch)


class Spooling:
    """All spooled queues of this peer."""

    def __init__(
        self,
        timers: Timers,
        pulling: Pulling,
        relaying: Pushing,
        draw: Callable[[int], bytes],
        tell: Callable[[str], None],
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """`changed` hears when the roster entry is to be told again; `clock` is this peer's."""
        self._timers = timers
        self._pulling = pulling
        self._relaying = relaying
        self._draw = draw
        self._tell = tell
        self._changed = changed
        self._queues: dict[bytes, Spooled] = {}
        self._disks: dict[bytes, Disk] = {}
        self._clock = clock

    def __iter__(self) -> Iterator[Spooled]:
        return iter(list(self._queues.values()))

    def find(self, queue: str) -> Spooled | None:
        return next((spooled for spooled in self._queues.values() if spooled.name == queue), None)

    def open(self, found: Recovered, limits: Limits, disk: Disk, now: float) -> Spooled:
        outbox = self._relaying.open(found.queue, window=WINDOW, window_bytes=WINDOW_BYTES, now=now)
        outbox.outgoing.limit = -1  # nobody appends
        outbox.kept = Kept()
        stream = found.stream
        puller = self._pulling.open(
            self._draw(16),
            found.queue,
            _Entrance(lambda batch: self._on_batch(spooled, batch)),
            prefetch=CREDIT,
            prefetch_bytes=CREDIT_BYTES,
            now=now,
        )
        puller.stream = stream
        spooled = Spooled(
            name=found.queue,
            stream=stream,
            limits=limits,
            puller=puller,
            outbox=outbox,
            safe=found.safe,
            next_load=found.first,
            doubtful=found.doubtful,
            settled=found.settled,
            attempts=found.attempts,
            room=found.room,
            base=found.first,
            known=found.known,
        )
        spooled.settled.forget_below(found.first)
        spooled.taken = spooled.unsettled
        self._queues[stream], self._disks[stream] = spooled, disk
        self._judge(spooled)
        self._load_more(spooled)
        self._changed()
        return spooled

    # --- from pushers to the disk

    def _on_batch(self, spooled: Spooled, batch: Batch) -> None:
        try:
            came = self._disks[spooled.stream].stamp()
            stored = from_batch(batch, batch.link.max_attempts, came)
            if stored.flags & EXTRA:
                groups_of(stored)  # what it asks for makes sense
        except Malformed as error:
            self._pulling.reject(batch, str(error), self._clock())
            return
        places = spooled.known.missing(stored.runs)
        fresh = sum(stop - start for start, stop in places)
        spooled.repeated += len(stored.items) - fresh
        if not fresh:
            spooled.storing.append(Coming(batch, stored.runs, None))
            self._answer_repeats(spooled)
            return
        rest = stored if fresh == len(stored.items) else part_of(stored, places)
        spooled.storing.append(Coming(batch, stored.runs, rest))
        for run in rest.runs:
            spooled.known.add(run.origin, run.first, run.first + run.length - 1)
        self._disks[spooled.stream].append(spooled.stream, len(rest.items), rest.runs, encode(rest), rest.flags)

    def _answer_repeats(self, spooled: Spooled) -> None:
        """Those that nothing stands before any more: now it is certain what became of what they repeat."""
        while spooled.storing and spooled.storing[0].stored is None:
            self._answer(spooled, spooled.storing.popleft())

    def _answer(self, spooled: Spooled, coming: Coming) -> bool:
        """Tells the pusher what is stored, and gives back what is not; whether all of it was still to be told."""
        batch = coming.batch
        missing = spooled.known.missing(coming.runs)
        if not missing:
            return self._pulling.store(batch) == batch.live
        at = 0
        for start, stop in [*missing, (batch.live, batch.live)]:
            if at < start:
                self._pulling.store(_part(batch, at, start))
            if start < stop:
                self._pulling.give_back(_part(batch, start, stop))
            at = stop
        return False

    def on_stored(self, stream: bytes, firsts: Sequence[int], room: Room, now: float) -> None:
        """As many batches as there are `firsts`, the numbers of their first messages, are safe."""
        spooled = self._queues.get(stream)
        if spooled is None:
            return
        spooled.room = room
        for first in firsts:
            coming = spooled.storing.popleft()
            stored = coming.stored
            assert stored is not None
            count = len(stored.items)
            spooled.safe = first + count - 1
            spooled.taken += count
            if not self._answer(spooled, coming):
                spooled.came_doubtful.add(first, spooled.safe)
            self._answer_repeats(spooled)
            if spooled.next_load == first and not spooled.reading and self._has_room(spooled, WINDOW):
                self._load(spooled, first, stored, now)
                spooled.next_load = first + count
        self._judge(spooled)
        self._relaying.dispatch(spooled.outbox, now)

    def on_failed(self, stream: bytes, count: int, reason: str, *, full: bool, room: Room, now: float) -> None:
        """The disk has not taken so many batches."""
        spooled = self._queues.get(stream)
        if spooled is None:
            return
        spooled.room = room
        for _ in range(count):
            coming = spooled.storing.popleft()
            assert coming.stored is not None
            for run in coming.stored.runs:
                spooled.known.remove(run.origin, run.first, run.first + run.length - 1)
            self._answer(spooled, coming)
            self._answer_repeats(spooled)
        if full:
            self._set_full(spooled, True, f"{spooled.label} takes no more: {reason}")
            self._look_later(spooled, now)
        elif not spooled.broken:
            spooled.broken = reason
            spooled.puller.hidden = True
            self._set_full(spooled, True, f"{spooled.label} cannot store any more, and only delivers: {reason}")
            self._changed()

    # --- how full it is

    def _judge(self, spooled: Spooled) -> None:
        limits, room = spooled.limits, spooled.room
        share = ROOMY if spooled.puller.full else 1.0
        reasons = []
        if limits.max_bytes is not None and room.used >= limits.max_bytes * share:
            reasons.append(f"{room.used:,} bytes of {limits.max_bytes:,}")
        if limits.max_messages is not None and spooled.unsettled >= limits.max_messages * share:
            reasons.append(f"{spooled.unsettled:,} messages of {limits.max_messages:,}")
        if room.free < limits.min_free / share:
            reasons.append(f"{room.free:,} bytes free, {limits.min_free:,} are left to others")
        full = bool(reasons or spooled.broken or spooled.closing)
        self._set_full(spooled, full, f"{spooled.label} takes no more: {'; '.join(reasons)}")
        if room.free < limits.min_free / share:
            self._look_later(spooled, self._clock())

    def _set_full(self, spooled: Spooled, full: bool, why: str) -> None:
        if spooled.puller.full is full:
            return
        spooled.puller.full = full
        for link in spooled.puller.links.values():
            link.news = True
        if not spooled.closing:
            self._tell(why if full else f"{spooled.label} has room again")
        self._changed()

    def _look_later(self, spooled: Spooled, now: float) -> None:
        self._timers.set_if_unset((spooled, "room"), now + LOOK, lambda when: self._look(spooled))

    def _look(self, spooled: Spooled) -> None:
        if spooled.stream in self._disks:
            self._disks[spooled.stream].look(spooled.stream)

    def on_room(self, stream: bytes, room: Room) -> None:
        spooled = self._queues.get(stream)
        if spooled is not None:
            spooled.room = room
            self._judge(spooled)

    # --- from the disk to pullers

    @staticmethod
    def _has_room(spooled: Spooled, messages: int) -> bool:
        outbox = spooled.outbox
        blocked = outbox.delayed + outbox.keyed
        few = outbox.held - blocked < messages and blocked < UNDUE * WINDOW
        return few and (outbox.held_bytes < WINDOW_BYTES or not outbox.held)

    def _load_more(self, spooled: Spooled) -> None:
        if spooled.reading or spooled.next_load > spooled.safe or not self._has_room(spooled, WINDOW // 2):
            return
        spooled.next_load = spooled.settled.first_missing(max(spooled.next_load, spooled.base))
        if spooled.next_load > spooled.safe:
            return
        spooled.reading = True
        self._disks[spooled.stream].read(spooled.stream, spooled.next_load)

    def on_records(self, stream: bytes, items: Sequence[Item], now: float) -> None:
        """A piece of the stream, from where it was asked for. Empty: it could not be read, and is asked for again."""
        spooled = self._queues.get(stream)
        if spooled is None:
            return
        spooled.reading = False
        for item in items:
            if item.last < spooled.next_load:
                continue
            if item.body is None:
                self._lose(spooled, max(item.first, spooled.next_load), item.last)
            else:
                try:
                    stored = decode(item.body, item.last - item.first + 1, item.flags, item.runs)
                    self._load(spooled, item.first, stored, now)
                except Malformed:
                    self._lose(spooled, max(item.first, spooled.next_load), item.last)
            spooled.next_load = item.last + 1
        self._relaying.dispatch(spooled.outbox, now)
        if not items:
            self._timers.set_if_unset((spooled, "read"), now + LOOK, lambda when: self._load_more(spooled))

    def _lose(self, spooled: Spooled, first: int, last: int) -> None:
        """What the disk has not got any more."""
        count = sum(high - low + 1 for low, high in self._settle(spooled, first, last))
        if count:
            spooled.damaged += count
            self._tell(f"{spooled.label}: {count} messages, {first} to {last}, are damaged and lost")

    def _load(self, spooled: Spooled, number: int, stored: Stored, now: float) -> None:
        outbox = spooled.outbox
        outbox.max_attempts = stored.max_attempts
        since = now - stored.came.until(self._disks[spooled.stream].stamp())
        for start, items, run, plan in groups_of(stored):
            first = number + start
            for low, high in self._unsettled(spooled, max(first, spooled.next_load), first + len(items) - 1):
                attempts = spooled.attempts.get(low, stored.attempt)
                redelivered = bool(stored.flags & REDELIVERED) or attempts > 1 or low <= spooled.doubtful
                redelivered = redelivered or low in spooled.came_doubtful
                part = Run(run.origin, run.first + low - first, high - low + 1, run.time)
                flags = stored.flags & (EXTRA | PARTS | NAMED)
                these = items if high - low + 1 == len(items) else items[low - first : high - first + 1]
                if attempts == ATTEMPT_MOST:
                    self._load_dead(spooled, low, these, stored, flags, part, now)
                    continue
                outbox.load(
                    low, these, stored.parts, flags, part, stored.topic, plan, now,
                    attempt=attempts, redelivered=redelivered, since=since,
                )  # fmt: skip

    def _load_dead(
        self, spooled: Spooled, number: int, items: Items, stored: Stored, flags: int, run: Run, now: float
    ) -> None:
        from_disk = Outbox(queue=spooled.name, window=1, window_bytes=1)
        piece: Piece = from_disk.load(
            number, items, stored.parts, flags, run, stored.topic, None, now, attempt=1, redelivered=True, since=now
        )
        self._relaying.bury_loaded(spooled.outbox, piece, "it had died before the spool was started again", now)

    def _unsettled(self, spooled: Spooled, first: int, last: int) -> list[tuple[int, int]]:
        """The parts of first..last that are not settled; those with attempts of their own are alone."""
        parts: list[tuple[int, int]] = []
        first = max(first, spooled.base)
        while (first := spooled.settled.first_missing(first)) <= last:
            end = first
            if first not in spooled.attempts:
                stop = spooled.settled.next_start(first)
                end = last if stop is None else min(last, stop - 1)
                charged = [number for number in spooled.attempts if first < number <= end] if spooled.attempts else []
                doubtful = [at for at in (spooled.doubtful + 1,) if first < at <= end]
                end = min([end + 1, *charged, *doubtful]) - 1
            parts.append((first, end))
            first = end + 1
        return parts

    # --- what became of them

    def report(self) -> None:
        """Once each turn."""
        for spooled in self._queues.values():
            outbox = spooled.outbox
            kept = outbox.kept
            assert kept is not None
            for number, attempts in kept.charged:
                self._charge(spooled, number, attempts)
            kept.charged.clear()
            settled = [*kept.settled, *self._letters_gone(spooled, kept)]
            if settled:
                kept.settled.clear()
                for first, last in merged(settled):
                    self._settle(spooled, first, last)
                self._judge(spooled)
            self._load_more(spooled)

    def _letters_gone(self, spooled: Spooled, kept: Kept) -> list[tuple[int, int]]:
        """The messages whose dead letters nobody keeps any more."""
        letters = self._relaying.letters_of(spooled.name) if kept.dead else None
        if letters is None or letters.kept is None or not letters.kept.settled:
            return []
        positions = [position for first, last in letters.kept.settled for position in range(first, last + 1)]
        letters.kept.settled.clear()
        numbers = [kept.dead.pop(position) for position in positions if position in kept.dead]
        return [(number, number) for number in numbers]

    def _charge(self, spooled: Spooled, number: int, attempts: int) -> None:
        if number not in spooled.settled and number >= spooled.base:
            spooled.attempts[number] = attempts
            self._disks[spooled.stream].charge(spooled.stream, number, attempts)

    def _settle(self, spooled: Spooled, first: int, last: int) -> list[tuple[int, int]]:
        if last < spooled.base:
            return []
        news = spooled.settled.add(max(first, spooled.base), last)
        for low, high in news:
            for number in [number for number in spooled.attempts if low <= number <= high]:
                del spooled.attempts[number]
            self._disks[spooled.stream].settle(spooled.stream, low, high)
        spooled.base = spooled.settled.first_missing(spooled.base)
        spooled.settled.forget_below(spooled.base)
        spooled.came_doubtful.forget_below(spooled.base)
        return news

    # --- the end

    def close(self, spooled: Spooled) -> None:
        """Takes no more; `is_stored` says when all that had come is on the disk."""
        spooled.closing = True
        spooled.puller.hidden = True
        self._set_full(spooled, True, "")
        self._changed()

    def is_stored(self, spooled: Spooled) -> bool:
        return not spooled.storing

    def forget(self, spooled: Spooled) -> int:
        """Gives up the queue; what its pullers have not settled is delivered again when it is opened. Returns the
        highest number of it that may have been delivered."""
        self.report()
        if spooled.stream in self._queues:
            del self._queues[spooled.stream], self._disks[spooled.stream]
        for what in ("room", "read"):
            self._timers.cancel((spooled, what))
        letters = self._relaying.letters_of(spooled.name)
        if letters is not None:
            self._relaying.close(letters)
        under_way = list(self._relaying.in_flight(spooled.outbox))
        under_way += [piece for piece in spooled.outbox.pieces() if piece.redelivered]
        self._relaying.close(spooled.outbox)
        self._changed()
        return max((piece.position + piece.count - 1 for piece in under_way), default=0)

    # --- reports

    def rows(self, rows: list[list[object]]) -> list[list[object]]:
        """Rows of `relaying` for the roster entry, with what is on the disk alone."""
        held = {spooled.name: spooled.unsettled - spooled.buried for spooled in self._queues.values()}
        return [[queue, held.get(str(queue), count), age] for queue, count, age in rows]

    def ledger(self, rows: Sequence[HeldQueue]) -> tuple[HeldQueue, ...]:
        """The same for the ledger."""
        held = {spooled.name: spooled for spooled in self._queues.values()}
        return tuple(self._row(row, held.get(row.queue)) for row in rows)

    @staticmethod
    def _row(row: HeldQueue, spooled: Spooled | None) -> HeldQueue:
        if spooled is None:
            return row
        dropped = dict(row.dropped)
        kept = spooled.outbox.kept
        assert kept is not None
        if spooled.damaged:
            dropped["damaged"] = spooled.damaged
        gone = row.acked + row.expired + sum(dropped.values())
        taken = spooled.taken + kept.retried
        waiting = taken - row.in_flight - gone
        return replace(row, taken=taken, waiting=waiting, dropped=dropped)
