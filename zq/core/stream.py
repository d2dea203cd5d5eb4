"""One topic stream of a running spool, as it is in memory, and the seam to what keeps it on a disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from zq.core.cursors import Found, StreamCursor, Stretch, Word
from zq.core.heads import Heads, Key
from zq.core.inbox import SubscriptionInbox
from zq.core.spooled import CREDIT, CREDIT_BYTES, Room
from zq.core.subscription import Subscription
from zq.info import Gap
from zq.record import dataclass, field
from zq.wire.batch import Batch, Run
from zq.wire.kept import Kept, KeptGap
from zq.wire.names import Filter

Position = tuple[int, float]  # kind and value, see zq.wire.kept


class Retention(NamedTuple):
    """What a stream keeps; None is no limit."""

    max_age: float | None = None  # s since it came
    max_bytes: int | None = None
    max_messages: int | None = None
    min_free: int = 0  # bytes that are left to others: beyond, the stream stops


class Newest(NamedTuple):
    """So many messages of topics that match one of these."""

    messages: int
    filters: tuple[Filter, ...]


class Disk(Protocol):
    """What keeps the streams. Nothing here waits; answers come as events of `Streams`, in order."""

    def append(self, stream: bytes, length: int, run: Run, body: bytes, flags: int) -> None:
        """Answered by `on_stored` or `on_failed`; after a failure all are refused until somebody looks to `go_on`."""

    def read(self, stream: bytes, cursor: str, first: int) -> None:
        """Answered by `on_records`."""

    def seek(self, stream: bytes, cursor: str, place: float | Newest) -> None:
        """Answered by `on_sought` with the number of the first message that came at that wall clock or later, or of the
        first of the newest."""

    def note(self, stream: bytes, word: Word) -> None: ...

    def save(self, stream: bytes, number: int, heads: Mapping[Key, int], retained: Mapping[str, int]) -> None:
        """These are the last numbers stored of each publisher's topic, and the retained messages, up to that number of
        the stream."""

    def look(self, stream: bytes, most_bytes: int | None, *, go_on: bool) -> None:
        """Answered by `on_room`; with the number below which all is to be trimmed to have at most so many bytes.
        `go_on`: he knows of all that has failed, and what he appends from now on follows what was stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredTopics:
    """A stream as it was found."""

    filter: str
    stream: bytes
    first: int  # the oldest that was not trimmed
    safe: int
    heads: dict[Key, int]
    retained: dict[str, int]  # topic: number in the stream of its retained message
    stored_to: float  # wall clock: what was published before is stored, or was never to be
    cursors: tuple[Found, ...]
    damaged: bool  # cursors may have been lost: one that is not known begins at the beginning
    room: Room


class Entrance(SubscriptionInbox):
    """Where the subscription puts what has come."""

    __slots__ = ("_clear", "_store", "stored")
    keeps = True

    def __init__(self, store: Callable[[Batch | Gap], None], clear: Callable[[Key, int], None]) -> None:
        super().__init__("wait", lambda: None)
        self._store = store
        self._clear = clear
        self.stored: list[Batch | Gap] = []

    def offer(self, batch: Batch, queued: int = 0) -> bool:
        if self.messages and (self.messages + batch.live > CREDIT or self.bytes + batch.size > CREDIT_BYTES):
            self.refused = True
            return False
        self.messages += batch.live
        self.bytes += batch.size
        self._store(batch)
        return True

    def clear(self, publisher: bytes, topic: str, number: int) -> None:
        self._clear((publisher, topic), number)

    def tell(self, gap: Gap) -> None:
        self._store(gap)

    def settle_taken(self) -> list[Batch | Gap]:
        done, self.stored = self.stored, []
        for item in done:
            if isinstance(item, Batch):
                self.messages -= item.live
                self.bytes -= item.size
        return done

    def has_room(self, queued: int = 0) -> bool:
        return self.messages <= CREDIT // 2 and self.bytes <= CREDIT_BYTES // 2


@dataclass(eq=False, slots=True)
class Reader:
    """A durable subscription that reads by a cursor here."""

    peer: bytes
    puller: bytes
    cursor: str
    filters: tuple[Filter, ...]
    begin: Position


@dataclass(eq=False, slots=True)
class TopicStream:
    """One stream."""

    stretch: Stretch
    retention: Retention
    disk: Disk
    heads: Heads
    retained: dict[str, int]
    damaged: bool
    room: Room
    began: float  # this peer's clock: everything before it is stored, or was never to be
    cursors: dict[str, StreamCursor] = field(default_factory=dict)
    readers: dict[tuple[bytes, bytes], Reader] = field(default_factory=dict)  # by peer and puller
    beginning: dict[str, Reader] = field(default_factory=dict)  # cursors of which it is not known yet where
    subscription: Subscription | None = None  # None: it has stopped
    entrance: Entrance | None = None
    storing: deque[tuple[Batch | Gap, Kept | KeptGap]] = field(default_factory=deque)
    recalls: dict[int, list[tuple[bytes, int, list[int]]]] = field(default_factory=dict)  # see `on_recall`
    came: float = 0.0  # wall clock at which the newest came; it never goes back
    unsaved: int = 0  # bytes since the table of heads was written
    trimming: bool = False
    problem: str = ""
    broken: bool = False
    closing: bool = False

    @property
    def id(self) -> bytes:
        return self.stretch.stream

    @property
    def label(self) -> str:
        return f"the spool of {self.stretch.filter.text}"
