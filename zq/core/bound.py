"""One queue that is bound to topics: its pullers, and each of its topics from where on it is held. See `binding`."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from zq.core.outbox import Outbox
from zq.core.outgoing import Cut
from zq.core.pushing import Pushing
from zq.core.topics import Topic
from zq.record import dataclass, field
from zq.wire.batch import NAMED, PARTS, Parts, Run, decode_topic, split
from zq.wire.names import Filter

BOUND_WINDOW, BOUND_BYTES = 16_384, 64 << 20  # the defaults of a pusher


class Portion(NamedTuple):
    """Messages of one frame of a topic, for one queue."""

    run: Run
    bodies: list[bytes]
    parts: Parts
    size: int
    flags: int


@dataclass(eq=False, slots=True)
class Hold:
    """One topic of one binding."""

    topic: Topic
    binding: Binding
    start: int  # everything from here on enters the outbox
    pending: list[Portion] | None = None  # what was published while nobody knows yet where it starts
    last: int = 0  # position of its newest message in the outbox

    def room(self, first: int) -> tuple[int, int]:
        """How many messages and bytes more the queue has room for; 0 if not even for the `first`, of so many bytes,
        but that one passes alone when nothing is held."""
        binding = self.binding
        window, window_bytes, held, size = BOUND_WINDOW, BOUND_BYTES, binding.kept, binding.kept_bytes
        outbox = binding.outbox
        if outbox is not None:
            window, window_bytes = outbox.window, outbox.window_bytes
            held, size = held + outbox.held, size + outbox.held_bytes
        if held and window_bytes - size < first:
            return 0, 0
        return max(window - held, 0), window_bytes - size

    def take(self, piece: Cut, run: Run, now: float) -> None:
        """One frame of the topic was published."""
        portion = Portion(run, piece.bodies, piece.parts, piece.size, piece.flags)
        binding = self.binding
        if self.pending is None:
            binding.feed(self, portion, now)
        else:
            self.pending.append(portion)
            binding.kept += run.length
            binding.kept_bytes += piece.size


@dataclass(eq=False, slots=True)
class Bond:
    """One puller of a binding."""

    puller: bytes
    peer: bytes
    filters: tuple[Filter, ...]
    new: bool  # to this binding
    asked: bool = False  # it has not said yet when it came into being
    asked_at: float = 0.0  # last
    began: float = -math.inf  # what it has said; it was not there before
    answers: int = 0
    patience: float = 0.0

    def matches(self, topic: str) -> bool:
        return any(filter.matches(topic) for filter in self.filters)


@dataclass(eq=False, slots=True)
class Binding:
    """One queue that is bound to topics of this publisher."""

    queue: str
    pushing: Pushing
    changed: Callable[[], None]
    bonds: dict[tuple[bytes, bytes], Bond] = field(default_factory=dict)  # by peer and puller
    known: OrderedDict[tuple[bytes, bytes], None] = field(default_factory=OrderedDict)  # those that have been here
    filters: dict[Filter, None] = field(default_factory=dict)  # of the pullers that are here, or were not long ago
    holds: dict[str, Hold] = field(default_factory=dict)
    outbox: Outbox | None = None
    shared: bool = False  # the program pushes to the queue as well
    kept: int = 0  # messages that are pending
    kept_bytes: int = 0

    def matches(self, topic: str) -> bool:
        return any(filter.matches(topic) for filter in self.filters)

    def feed(self, hold: Hold, portion: Portion, now: float, *, again: bool = False) -> None:
        outbox = self.open(now)
        run, bodies, parts, size, flags = portion
        outbox.feed(bodies, parts, size, flags | NAMED, run, hold.topic.name, now, redelivered=again)
        hold.last = outbox.taken
        self.pushing.released.add(outbox)

    def open(self, now: float) -> Outbox:
        if self.outbox is None:
            self.outbox = self.pushing.find(self.queue)
            self.shared = self.outbox is not None
            if self.outbox is None:
                self.outbox = self.pushing.open(self.queue, window=BOUND_WINDOW, window_bytes=BOUND_BYTES, now=now)
            self.changed()
        return self.outbox


def in_ring(topic: Topic, first: int, last: int) -> list[Portion]:
    """What the ring has of the messages first..last; both stand where a frame begins or ends."""
    portions: list[Portion] = []
    frames = topic.track.frames
    for index in range(topic.track.at(first), len(frames)):
        frame = frames[index]
        if frame.first > last:
            break
        batch = decode_topic(frame.parts)
        bodies = [bytes(batch.body)] if batch.flags & PARTS else split(batch.body, batch.count)
        portions.append(Portion(batch.runs[0], bodies, frame.parts[1:], frame.size, batch.flags))
    return portions
