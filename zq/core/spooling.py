"""Queues that are kept on a disk, those of a running spool and those of outboxes: each is a state machine between
those who push, a disk, and those who pull.

A spool's messages come from pushers, through a puller of its own; those of an outbox from the callers of this peer (see
`intake`). The rest is the same, but for where they go: a spool's to pullers (`relaying`), those of an outbox to a spool
if there is one, else to pullers (`forwarding`).

Every message has a number in its queue's stream, which is its position in that outbox, and is in one of these states:

    come -> on its way to the disk -> stored -> loaded: in the outbox of `relaying` or `forwarding` -> settled
                 |                       |                 |
                 |                       +-- behind the window, on the disk alone
                 +-- could not be stored: given back to its pusher; of a caller's it is tried again

Events:
- batch: what a pusher has sent goes to the disk; what makes no sense is rejected. What has come before, by its origin
  number, does not go there again: its pusher is told of it in its turn, once all that came earlier is answered.
- stored: the disk has synced it. Now the pusher is told, and it is loaded at once if nothing older waits on the disk.
- failed: the disk could not take it. It goes back to its pusher. On a full disk the queue takes nothing more until
  there is room; after any other failure it is *broken*: it leaves the roster, and pushers go direct; callers are told.
- take: what callers have left for an outbox goes to the disk, as soon as that has answered what went before.
- records: a piece of the stream, as it was asked for, is loaded, but for what is settled.
- report, once each turn: what pullers have settled, and attempts that failed, go to the journal; when half of the
  window is empty more is asked for.
- dead: its letter, with reason and history, goes to a stream of its own; once that is synced the message is settled.
  Letters are delivered to pullers of `jobs.dead` as messages are to those of `jobs`, but for plans and attempts: nobody
  dies twice. What an operator does with them is in `letters`.
- full: the queue has reached a limit, or the disk its free space: no more credit, until there is a tenth less.
- close: no credit, then all that is on its way to the disk is stored, then links end, then the outbox goes, and once
  the last letters are stored, the queue.

What a crash (kill -9, power cut) costs, by where a message is:

    come, or on its way to the disk   nothing: its pusher holds it, and pushes it again, redelivered
    stored, the pusher not told       nothing: its pusher pushes it again, and is told at once
    loaded, or at a puller            nothing: it is unsettled, and delivered again; all that was found is redelivered
                                      unless the spool was closed, when only what had been on its way is
    settled, journal not on the medium  it is delivered again, redelivered, after a power cut; a killed process loses
                                      none of the journal
    an attempt charged                as settled: at worst an attempt more
    dead, its letter not synced       it is delivered once more, redelivered, and dies again
    its letter synced, not settled    the same: there are two letters then, and the second says it was redelivered
    a letter retried, not settled     message and letter are both there: it may be retried twice

A message is settled once it is acked, expired, or a letter that is synced; nothing else removes it. A letter is settled
once it is acked or rejected by a puller, retried, purged, or older than as many as are to be kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from zq.core.dead import item_of
from zq.core.inbox import Inbox
from zq.core.intake import Intake
from zq.core.origins import Origins
from zq.core.outbox import Dead, Kept, Outbox, Piece
from zq.core.pulling import Puller, Pulling
from zq.core.pushing import Pushing
from zq.core.ranges import Ranges, merged
from zq.core.timers import Timers
from zq.errors import Refused
from zq.info import HeldQueue
from zq.record import dataclass, field, replace
from zq.wire import dead as wire
from zq.wire.batch import EXTRA, NAMED, PARTS, REDELIVERED, Batch, Run
from zq.wire.data import Malformed
from zq.wire.stored import KEPT, TRIMMED, Group, Stamp, Stored, decode, encode, from_batch, groups_of, part_of

WINDOW, WINDOW_BYTES = 16_384, 4 << 20  # messages, bytes: what of a backlog is in memory
UNDUE = 8  # windows of messages that are not due yet, or behind their key, beside those that could be sent
CREDIT, CREDIT_BYTES = 16_384, 4 << 20  # messages, bytes: on their way to the disk, of all pushers; each is there
# three times for a moment, and the whole process is to stay below 80 MB whatever comes
ROOMY = 0.9  # of a limit: from there on what was full takes more
LOOK = 1.0  # s between looks at a full disk, and between attempts to store a letter


class Limits(NamedTuple):
    """What a queue may take of its disk; None is no limit."""

    max_bytes: int | None = None
    max_messages: int | None = None
    min_free: int = 0  # bytes that are left to others
    max_dead: int | None = None  # dead letters; the oldest are forgotten


class Room(NamedTuple):
    """What the disk says of itself: bytes of the stream, bytes that are free."""

    used: int
    free: int


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

    def append_all(self, stream: bytes, batches: Sequence[Stored]) -> None:
        """The same for several that are synced together: when that fails it has taken the first of them, or none."""

    def read(self, stream: bytes, first: int) -> None:
        """Answered by `on_records`, in the order asked."""

    def settle(self, stream: bytes, first: int, last: int) -> None: ...

    def charge(self, stream: bytes, number: int, attempts: int) -> None: ...

    def look(self, stream: bytes) -> None:
        """Answered by `on_room`."""

    def stamp(self) -> Stamp:
        """What the machine's clocks show."""


Reader = Callable[[Sequence[Item], float], None]  # who has asked for a piece of a stream; empty: it cannot be read now


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


class Coming(NamedTuple):
    """What is on its way to the disk, and who is to know."""

    stored: Stored | None  # what is on its way to the disk; None: all of it came before
    safe: Callable[[int], object]  # told the number of the first of its messages
    failed: Callable[[], None]


@dataclass(eq=False, slots=True)
class Spooled:
    """One queue of a spool, or of callers that have an outbox; or the dead letters of such a queue."""

    name: str
    stream: bytes
    limits: Limits
    holder: Pushing  # that has the outbox
    outbox: Outbox
    safe: int
    next_load: int
    doubtful: int
    settled: Ranges
    attempts: dict[int, int]
    room: Room
    puller: Puller | None = None  # what takes from pushers
    intake: Intake | None = None  # what takes from callers; nobody pushes or sends dead letters
    letters: Spooled | None = None  # of a queue
    base: int = 1  # all below is settled
    came_doubtful: Ranges = field(default_factory=Ranges)  # given back by us, and stored after all
    known: Origins = field(default_factory=Origins)  # what has come, by origin
    storing: deque[Coming] = field(default_factory=deque)
    repeated: int = 0  # messages that came again
    readers: deque[Reader] = field(default_factory=deque)  # of what is being read
    reading: bool = False  # to be loaded
    dying: set[int] = field(default_factory=set)  # numbers of what is dead and has no letter on the disk yet
    unburied: list[Callable[[], None]] = field(default_factory=list)  # letters that the disk has not taken
    sent: int | None = None  # of one that is closing: no message above was ever delivered
    taken: int = 0  # messages: found unsettled, or stored since
    damaged: int = 0
    broken: str = ""
    closing: bool = False

    @property
    def unsettled(self) -> int:
        below = max(self.base - 1, 0)
        return self.safe - below - self.settled.count()

    @property
    def is_queue(self) -> bool:
        """And not dead letters."""
        return self.puller is not None or self.intake is not None

    @property
    def is_full(self) -> bool:
        return bool(self.puller and self.puller.full) or bool(self.intake and self.intake.full)

    @property
    def left(self) -> int:
        """Messages that are to be delivered."""
        return self.unsettled - len(self.dying)

    @property
    def label(self) -> str:
        return f"the {'spool' if self.holder.relays else 'outbox'} of {self.name}"

    def settled_through(self, number: int) -> bool:
        """Whether nobody is to have the messages up to there any more."""
        at = self.base
        while (at := self.settled.first_missing(at)) <= number and at in self.dying:
            at += 1
        return at > number


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
        forwarding: Pushing,
        draw: Callable[[int], bytes],
        tell: Callable[[str], None],
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """`changed` hears when the roster entry is to be told again; `clock` is this peer's."""
        self._timers = timers
        self._pulling = pulling
        self._relaying = relaying
        self._forwarding = forwarding
        self._draw = draw
        self._tell = tell
        self.changed = changed
        self._queues: dict[bytes, Spooled] = {}
        self._disks: dict[bytes, Disk] = {}
        self._clock = clock

    def __iter__(self) -> Iterator[Spooled]:
        return iter(list(self._queues.values()))

    def find(self, queue: str) -> Spooled | None:
        """Of a spool."""
        return next((spooled for spooled in self if spooled.name == queue and spooled.puller is not None), None)

    def intakes(self) -> list[Intake]:
        return [spooled.intake for spooled in self if spooled.intake is not None]

    def open(self, found: Recovered, letters: Recovered, limits: Limits, disk: Disk, now: float) -> Spooled:
        """A queue of a spool."""
        spooled = self._admit_queue(self._relaying, found, letters, limits, disk, now)
        puller = self._pulling.open(
            self._draw(16),
            found.queue,
            _Entrance(lambda batch: self._on_batch(spooled, batch)),
            prefetch=CREDIT,
            prefetch_bytes=CREDIT_BYTES,
            now=now,
        )
        puller.stream = found.stream
        spooled.puller = puller
        self._begin(spooled)
        return spooled

    def open_outbox(
        self, found: Recovered, letters: Recovered, limits: Limits, disk: Disk, intake: Intake, now: float
    ) -> Spooled:
        """A queue that callers of this peer push to."""
        spooled = self._admit_queue(self._forwarding, found, letters, limits, disk, now)
        spooled.intake = intake
        self._begin(spooled)
        return spooled

    def _begin(self, spooled: Spooled) -> None:
        for opened in self._parts(spooled):
            self._judge(opened)
            self._load_more(opened)
        self.changed()

    def _admit_queue(
        self, holder: Pushing, found: Recovered, letters: Recovered, limits: Limits, disk: Disk, now: float
    ) -> Spooled:
        outbox = holder.open(found.queue, window=WINDOW, window_bytes=WINDOW_BYTES, now=now)
        outbox.outgoing.limit = -1  # nobody appends
        spooled = self._admit(holder, found, outbox, limits, disk)
        dead = holder.open_letters(letters.queue, now)
        spooled.letters = self._admit(holder, letters, dead, Limits(max_messages=limits.max_dead), disk)
        return spooled

    def _admit(self, holder: Pushing, found: Recovered, outbox: Outbox, limits: Limits, disk: Disk) -> Spooled:
        outbox.kept = Kept()
        spooled = Spooled(
            name=found.queue,
            stream=found.stream,
            limits=limits,
            holder=holder,
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
        self._queues[found.stream], self._disks[found.stream] = spooled, disk
        return spooled

    # --- from pushers to the disk

    def _on_batch(self, spooled: Spooled, batch: Batch) -> None:
        try:
            came = self.stamp(spooled)
            stored = from_batch(batch, batch.link.max_attempts, came)
            if stored.flags & EXTRA:
                groups_of(stored)  # what it asks for makes sense
        except Malformed as error:
            self._pulling.reject(batch, str(error), self._clock())
            return
        runs, places = stored.runs, spooled.known.missing(stored.runs)
        fresh = sum(stop - start for start, stop in places)
        spooled.repeated += len(stored.items) - fresh
        if not fresh:
            spooled.storing.append(Coming(None, lambda first: self._answer(spooled, batch, runs), lambda: None))
            self._answer_repeats(spooled)
            return
        rest = stored if fresh == len(stored.items) else part_of(stored, places)
        for run in rest.runs:
            spooled.known.add(run.origin, run.first, run.first + run.length - 1)

        def is_safe(first: int) -> None:
            if not self._answer(spooled, batch, runs):
                spooled.came_doubtful.add(first, first + len(rest.items) - 1)

        def has_failed() -> None:
            for run in rest.runs:
                spooled.known.remove(run.origin, run.first, run.first + run.length - 1)
            self._answer(spooled, batch, runs)

        self.append(spooled, rest, is_safe, has_failed)

    def append(
        self, spooled: Spooled, stored: Stored, is_safe: Callable[[int], None], has_failed: Callable[[], None]
    ) -> None:
        """`is_safe` is told the number of the first of its messages, once they are synced."""
        spooled.storing.append(Coming(stored, is_safe, has_failed))
        self._disks[spooled.stream].append(
            spooled.stream, len(stored.items), stored.runs, encode(stored), stored.flags
        )  # fmt: skip

    # --- from callers to the disk

    def take(self, intake: Intake) -> None:
        """What they have left, unless the disk is busy with what came before."""
        spooled = next((spooled for spooled in self if spooled.intake is intake), None)
        if spooled is not None:
            self._hand_over(spooled)

    def _hand_over(self, spooled: Spooled) -> None:
        intake = spooled.intake
        assert intake is not None
        stamp = self.stamp(spooled)
        batches = intake.next(stamp)
        spooled.storing.extend(
            Coming(stored, lambda first: self._deposited(spooled, first), intake.on_failed) for stored in batches
        )
        if batches:
            self._disks[spooled.stream].append_all(spooled.stream, batches)

    def _deposited(self, spooled: Spooled, first: int) -> None:
        """What its sender has withdrawn meanwhile was never taken."""
        assert spooled.intake is not None
        for place in spooled.intake.on_stored():
            spooled.taken -= 1
            self._settle(spooled, first + place, first + place)

    def stamp(self, spooled: Spooled) -> Stamp:
        """What the clocks of its machine show."""
        return self._disks[spooled.stream].stamp()

    @staticmethod
    def _answer_repeats(spooled: Spooled) -> None:
        """Those that nothing stands before any more: now it is certain what became of what they repeat."""
        while spooled.storing and spooled.storing[0].stored is None:
            spooled.storing.popleft().safe(0)

    def _answer(self, spooled: Spooled, batch: Batch, runs: Sequence[Run]) -> bool:
        """Tells the pusher what is stored, and gives back what is not; whether all of it was still to be told."""
        missing = spooled.known.missing(runs)
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
            stored, is_safe, _ = spooled.storing.popleft()
            assert stored is not None
            count = len(stored.items)
            spooled.safe = first + count - 1
            spooled.taken += count
            is_safe(first)
            self._answer_repeats(spooled)
            if spooled.next_load == first and not spooled.reading and self._has_room(spooled, WINDOW):
                self._load(spooled, first, stored, now)
                spooled.next_load = first + count
        self._judge(spooled)
        if spooled.sent is None:
            spooled.holder.dispatch(spooled.outbox, now)
        if spooled.intake is not None:
            spooled.intake.outgoing.wake()
            self._hand_over(spooled)

    def on_failed(self, stream: bytes, count: int, reason: str, *, full: bool, room: Room, now: float) -> None:
        """The disk has not taken so many batches."""
        spooled = self._queues.get(stream)
        if spooled is None:
            return
        spooled.room = room
        for _ in range(count):
            spooled.storing.popleft().failed()
            self._answer_repeats(spooled)
        if not spooled.is_queue:
            self._set_trouble(spooled, reason)
        elif full:
            self._set_full(spooled, True, f"{spooled.label} takes no more: {reason}")
            self._look_later(spooled, now)
        elif not spooled.broken:
            spooled.broken = reason
            self._set_full(spooled, True, f"{spooled.label} cannot store any more, and only delivers: {reason}")
            if spooled.puller is not None:
                spooled.puller.hidden = True
            if spooled.intake is not None:
                spooled.intake.fail(reason)
            self.changed()

    def on_ended(self, disk: Disk | None, now: float) -> None:
        """It has ended, and answers nothing more."""
        for spooled in self:
            if self._disks[spooled.stream] is disk:
                asked = sum(coming.stored is not None for coming in spooled.storing)
                reason = "its disk thread has ended"
                self.on_failed(spooled.stream, asked, reason, full=False, room=spooled.room, now=now)

    # --- how full it is

    def _judge(self, spooled: Spooled) -> None:
        if not spooled.is_queue:
            self._forget_oldest(spooled)
            return
        limits, room = spooled.limits, spooled.room
        share = ROOMY if spooled.is_full else 1.0
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
        if spooled.is_full is full:
            return
        if spooled.puller is not None:
            spooled.puller.full = full
            for link in spooled.puller.links.values():
                link.news = True
        if spooled.intake is not None:
            spooled.intake.set_full((why or "it is being closed") if full else "")
        if not spooled.closing:
            self._tell(why if full else f"{spooled.label} has room again")
        self.changed()

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
            if spooled.intake is not None:
                self._hand_over(spooled)

    # --- from the disk to pullers

    @staticmethod
    def _has_room(spooled: Spooled, messages: int) -> bool:
        outbox = spooled.outbox
        blocked = outbox.delayed + outbox.keyed
        held = outbox.held - blocked + len(spooled.dying)
        few = spooled.sent is None and held < messages and blocked < UNDUE * WINDOW
        return few and (outbox.held_bytes < WINDOW_BYTES or not outbox.held)

    def _load_more(self, spooled: Spooled) -> None:
        if spooled.reading or spooled.next_load > spooled.safe or not self._has_room(spooled, WINDOW // 2):
            return
        spooled.next_load = spooled.settled.first_missing(max(spooled.next_load, spooled.base))
        if spooled.next_load > spooled.safe:
            return
        spooled.reading = True
        self.read(spooled, spooled.next_load, lambda items, now: self._load_items(spooled, items, now))

    def read(self, spooled: Spooled, first: int, reader: Reader) -> None:
        spooled.readers.append(reader)
        self._disks[spooled.stream].read(spooled.stream, first)

    def on_records(self, stream: bytes, items: Sequence[Item], now: float) -> None:
        """A piece of the stream, from where it was asked for. Empty: it could not be read."""
        spooled = self._queues.get(stream)
        if spooled is not None:
            spooled.readers.popleft()(items, now)

    def _load_items(self, spooled: Spooled, items: Sequence[Item], now: float) -> None:
        spooled.reading = False
        if spooled.sent is not None:
            return
        for item in items:
            if item.last < spooled.next_load:
                continue
            if item.flags & TRIMMED:
                self._settle(spooled, max(item.first, spooled.next_load), item.last)  # whatever the journal says
            elif item.body is None:
                self._lose(spooled, max(item.first, spooled.next_load), item.last)
            else:
                try:
                    stored = decode(item.body, item.last - item.first + 1, item.flags, item.runs)
                    self._load(spooled, item.first, stored, now)
                except Malformed:
                    self._lose(spooled, max(item.first, spooled.next_load), item.last)
            spooled.next_load = item.last + 1
        spooled.holder.dispatch(spooled.outbox, now)
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
        if spooled.is_queue:
            outbox.max_attempts = stored.max_attempts
        since = now - stored.came.until(self.stamp(spooled))
        for start, items, run, plan in groups_of(stored) if spooled.is_queue else as_letters(stored):
            first = number + start
            for low, high in self._unsettled(spooled, max(first, spooled.next_load), first + len(items) - 1):
                attempts = spooled.attempts.get(low, stored.attempt)
                redelivered = bool(stored.flags & REDELIVERED) or attempts > 1 or low <= spooled.doubtful
                redelivered = redelivered or low in spooled.came_doubtful
                part = Run(run.origin, run.first + low - first, high - low + 1, run.time)
                flags = stored.flags & (EXTRA | PARTS | NAMED)
                these = items if high - low + 1 == len(items) else items[low - first : high - first + 1]
                outbox.load(
                    low, these, stored.parts, flags, part, stored.topic, plan, now,
                    attempt=attempts, redelivered=redelivered, since=since,
                )  # fmt: skip

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
            for death in kept.dead:
                self._bury(spooled, death)
            kept.dead.clear()
            if kept.settled:
                settled, kept.settled = kept.settled, []
                for first, last in merged(settled):
                    self._settle(spooled, first, last)
                self._judge(spooled)
            self._load_more(spooled)

    # --- dead letters

    def _bury(self, spooled: Spooled, death: Dead) -> None:
        """The message is settled once its letter is on the disk."""
        piece, letters = death.piece, spooled.letters
        assert letters is not None
        if not letters.taken and not spooled.dying:
            what = f"a message of {spooled.name} is dead: {death.reason[:200]!r}"
            self._tell(f"{what}; more are only counted, see {letters.name}")
        number, chunk = piece.position, piece.chunk
        item = wire.wrap(
            item_of(piece), bool(chunk.flags & EXTRA), spooled.name, death.reason, death.at, piece.history
        )  # fmt: skip
        again = number <= spooled.doubtful or number in spooled.came_doubtful
        flags = (chunk.flags & KEPT & ~REDELIVERED) | EXTRA | (REDELIVERED if again else 0)
        stored = Stored(
            self.stamp(letters), 1, spooled.outbox.max_attempts, flags, (piece.run(),), chunk.topic, [item], chunk.parts
        )  # fmt: skip
        spooled.dying.add(number)

        def is_safe(first: int) -> None:
            spooled.dying.discard(number)
            self._settle(spooled, number, number)
            self._judge(spooled)
            self.changed()

        def bury() -> None:
            self.append(letters, stored, is_safe, lambda: letters.unburied.append(bury))

        bury()

    def _set_trouble(self, letters: Spooled, reason: str) -> None:
        """The disk takes no letters now. What died stays on it as it was, and counts as held, until it does."""
        if not letters.broken:
            letters.broken = reason
            self._tell(f"{letters.label} cannot store dead letters, and tries again: {reason}")
        self._timers.set_if_unset((letters, "bury"), self._clock() + LOOK, lambda when: self._bury_again(letters))

    def _bury_again(self, letters: Spooled) -> None:
        letters.broken = ""
        unburied, letters.unburied = letters.unburied, []
        for bury in unburied:
            bury()

    def _forget_oldest(self, letters: Spooled) -> None:
        """Of more than are to be kept; those that are at a puller are its own."""
        most = letters.limits.max_messages
        if most is None or letters.unsettled <= most:
            return
        idle = letters.outbox.idle()
        number = letters.base
        while letters.unsettled > most and (number := letters.settled.first_missing(number)) <= letters.safe:
            self.discard(letters, number, None, "forgotten", idle)
            number += 1

    def discard(self, letters: Spooled, number: int, run: Run | None, reason: str, idle: dict[int, Piece]) -> bool:
        """Settles one that waits: False if it is at a puller, or settled. `idle`: what the outbox holds and has not
        sent."""
        if number < letters.base or number in letters.settled:
            return False
        if number in idle:
            letters.outbox.discard(idle.pop(number), reason)
        elif number < letters.next_load:
            return False
        else:
            letters.outbox.write_off(run, reason)
        return bool(self._settle(letters, number, number))

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

    def purge(self, spooled: Spooled) -> int:
        """Settles all that waits, and returns how many messages that were. Refused, and nothing is done, if some of it
        is with a puller."""
        outbox = spooled.outbox
        if outbox.in_flight:
            where = ", ".join(sorted({spooled.holder.name_of(link.peer) for link in spooled.holder.busy(outbox)}))
            raise Refused(
                f"{outbox.in_flight:,} messages of {spooled.name} are in flight, at {where}: purge again when they are "
                "settled, or when the pullers are closed; nothing was purged"
            )
        self.report()
        first = max(spooled.next_load, spooled.base)
        count = outbox.purge("purged")
        behind = sum(high - low + 1 for low, high in self._settle(spooled, first, spooled.safe))
        if behind:
            outbox.dropped["purged"] = outbox.dropped.get("purged", 0) + behind
        self.report()
        self.changed()
        return count + behind

    # --- the end

    def close(self, spooled: Spooled) -> None:
        """Takes no more; `is_stored` says when all that had come is on the disk."""
        spooled.closing = True
        if spooled.puller is not None:
            spooled.puller.hidden = True
        self._set_full(spooled, True, "")
        self.changed()

    def is_stored(self, spooled: Spooled) -> bool:
        return not spooled.storing and (spooled.letters is None or not spooled.letters.storing)

    def stop(self, spooled: Spooled) -> None:
        """Its pullers have it no more; what they have not settled is delivered again when it is opened. `is_stored`
        says when the letters of what has died are on the disk."""
        self.report()
        for each in self._parts(spooled):
            under_way = list(each.holder.in_flight(each.outbox))
            under_way += [piece for piece in each.outbox.pieces() if piece.redelivered]
            numbers = [piece.position + piece.count - 1 for piece in under_way]
            each.sent = max([*numbers, *each.dying], default=0)
            each.holder.close(each.outbox)
        if spooled.intake is not None:
            spooled.intake.close()

    @staticmethod
    def _parts(spooled: Spooled) -> list[Spooled]:
        return [spooled] if spooled.letters is None else [spooled, spooled.letters]

    def forget(self, spooled: Spooled) -> list[tuple[bytes, int]]:
        """Gives up the queue. Returns its streams, each with the highest number that may have been delivered."""
        parts = self._parts(spooled)
        for each in parts:
            if each.stream in self._queues:
                del self._queues[each.stream], self._disks[each.stream]
            for what in ("room", "read", "bury"):
                self._timers.cancel((each, what))
        self.changed()
        return [(each.stream, each.sent or 0) for each in parts]

    # --- reports

    def rows(self, holder: Pushing, now: float) -> list[list[object]]:
        """Rows of a holder for the roster entry, with what is on the disk alone."""
        held = {spooled.name: spooled.left for spooled in self._used(holder)}
        return [[queue, held[str(queue)], age] for queue, count, age in holder.rows(now) if queue in held]

    def _used(self, holder: Pushing) -> list[Spooled]:
        """Without those of dead letters where there never were any."""
        return [spooled for spooled in self if spooled.holder is holder and (spooled.is_queue or spooled.taken)]

    def ledger(self, holder: Pushing) -> tuple[HeldQueue, ...]:
        """The same for the ledger."""
        held = {spooled.name: spooled for spooled in self._used(holder)}
        return tuple(self._row(row, held[row.queue]) for row in holder.ledger() if row.queue in held)

    @staticmethod
    def _row(row: HeldQueue, spooled: Spooled) -> HeldQueue:
        dropped = dict(row.dropped)
        if spooled.damaged:
            dropped["damaged"] = spooled.damaged
        gone = row.acked + row.stored + row.expired + sum(dropped.values())
        waiting = spooled.taken - row.in_flight - gone
        return replace(row, taken=spooled.taken, waiting=waiting, dropped=dropped)


def as_letters(stored: Stored) -> list[Group]:
    """What is held together of dead letters: nothing, and nobody has asked for anything."""
    groups: list[Group] = []
    for run in stored.runs:
        for index in range(run.length):
            at = len(groups)
            groups.append(Group(at, stored.items[at : at + 1], Run(run.origin, run.first + index, 1, run.time), None))
    return groups
