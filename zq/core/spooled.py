"""One queue that is kept on a disk, or its dead letters, as it is in memory, and the seam to what keeps it there.

Nothing here decides when: that is done by those who store (`spooling`), load (`loading`) and bury (`burying`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from zq.core.intake import Intake
from zq.core.origins import Origins
from zq.core.outbox import Outbox, Piece
from zq.core.puller import Puller
from zq.core.pushing import Pushing
from zq.core.ranges import Ranges
from zq.record import dataclass, field
from zq.wire.batch import Run
from zq.wire.stored import Stamp, Stored

WINDOW, WINDOW_BYTES = 16_384, 4 << 20  # messages, bytes: what of a backlog is in memory
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
    """What keeps the streams. Nothing here waits; answers come as events of `spooling`, in order."""

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
    disk: Disk
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
    open: bool = True  # until it is given up

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

    def parts(self) -> list[Spooled]:
        """The queue, and its dead letters."""
        return [self] if self.letters is None else [self, self.letters]

    # --- what became of its messages

    def stamp(self) -> Stamp:
        """What the clocks of its machine show."""
        return self.disk.stamp()

    def charge(self, number: int, attempts: int) -> None:
        if number not in self.settled and number >= self.base:
            self.attempts[number] = attempts
            self.disk.charge(self.stream, number, attempts)

    def settle(self, first: int, last: int) -> list[tuple[int, int]]:
        """Nobody is to have them any more; returns which of them somebody was to have until now."""
        if last < self.base:
            return []
        news = self.settled.add(max(first, self.base), last)
        for low, high in news:
            for number in [number for number in self.attempts if low <= number <= high]:
                del self.attempts[number]
            self.disk.settle(self.stream, low, high)
        self.base = self.settled.first_missing(self.base)
        self.settled.forget_below(self.base)
        self.came_doubtful.forget_below(self.base)
        return news

    def discard(self, number: int, run: Run | None, reason: str, idle: dict[int, Piece]) -> bool:
        """Settles one that waits: False if it is at a puller, or settled. `idle`: what the outbox holds and has not
        sent."""
        if number < self.base or number in self.settled:
            return False
        if number in idle:
            self.outbox.discard(idle.pop(number), reason)
        elif number < self.next_load:
            return False
        else:
            self.outbox.write_off(run, reason)
        return bool(self.settle(number, number))
