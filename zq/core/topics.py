"""The publishing side of topics: numbers, ring, fences, repairs, and holding back for slow subscribers.

Events and what they do:
- take: what callers left is numbered, published and put in the ring, unless a follower holds the topic back.
- entry, fence: a subscriber's filters come by mailbox, its fence through the feed; when both are here, the heads of
  all matching topics go back in-band, behind everything published before its subscription took effect.
- seen: what a follower has received and what its program has taken.
- repair: frames from the ring go out again, on the work connection.
- quiet: the head is repeated after the last message, so that the loss of the end of a burst is noticed.

A topic is *held* while a waiting follower has not taken what is more than a window old, for at most its patience;
then the follower is *behind* until it is within half a window, and is not waited for.

A crash loses the ring and what callers left and was not published yet; subscribers see a Gap of unknown length.

It is longer than most: numbers, ring, fences and holding back change together, message by message.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from zq.core.outgoing import SMALL, Cut, Outgoing, cut, fitting, size_of
from zq.core.ring import RING_BYTES, Published, Ring, Track
from zq.core.timers import Timers
from zq.info import PublishedTopic
from zq.record import dataclass, field
from zq.wire.batch import CLEARED, REPORT, RETAIN, Parts, Run, encode_topic, topic_prefix
from zq.wire.frames import (
    INHERIT_PATIENCE,
    NO_PATIENCE,
    Entry,
    Fence,
    Head,
    Refilled,
    Repair,
    Seen,
    encode_fence,
    refill_frame,
)
from zq.wire.names import Filter

if TYPE_CHECKING:
    from zq.core.bound import Hold

WINDOW = 16_384  # messages a waiting subscriber may be behind: what one handles in some 50 ms
WINDOW_BYTES = 64 << 20  # the same in bytes
QUIET = 0.02  # s after the last message until the head is repeated
QUIET_GROWTH, QUIET_MOST = 4.0, 5.0  # factor and s; how the repeats back off
TAKEN_AGAIN = 0.5  # s that a topic is held until its followers are asked what they have taken
FLUSH_REPEAT = 0.05  # s between heads while somebody waits for them to arrive
OWED_MOST = 2_000  # topics in a goodbye; names of 255 bytes each fit in a mailbox frame
REFILL_BYTES, REFILL_FRAMES = 1 << 20, 64  # answer to one repair at most; the subscriber asks again


@dataclass(slots=True)
class Follower:
    """A subscribing peer, as one topic sees it."""

    peer: bytes
    handles: int  # subscriptions behind it
    patience: float  # s, INHERIT_PATIENCE or NO_PATIENCE
    taken: int  # numbers up to here were taken by the program
    arrived: int = 0
    stalled_since: float | None = None
    behind: bool = False

    @property
    def waits(self) -> bool:
        return self.patience != NO_PATIENCE


@dataclass(slots=True, eq=False)
class Topic:
    """One topic this peer publishes."""

    name: str
    retain: bool
    patience: float
    prefix: bytes
    outgoing: Outgoing = field(default_factory=Outgoing)
    track: Track = field(default_factory=Track)
    head: int = 0
    first_clock: float = 0.0
    last_clock: float = 0.0
    cleared: int = 0  # the retained value is forgotten if it has this number or a lower one
    followers: dict[bytes, Follower] = field(default_factory=dict)
    marks: list[tuple[int, int]] = field(
        default_factory=list
    )  # (number, bytes published up to it), for waiting followers
    size: int = 0  # bytes published
    quiet: float = QUIET
    quiet_at: float = math.inf  # when it is looked whether the head has to be repeated
    ample: int = 0  # up to this number no follower holds it back, if it stays within so many bytes published
    ample_size: int = 0
    bound: tuple[Hold, ...] = ()  # queues that have its messages as well

    def bytes_behind(self, taken: int) -> int:
        index = bisect_right(self.marks, (taken, 1 << 62))
        return self.size - (self.marks[index - 1][1] if index else (self.marks[0][1] if self.marks else self.size))

    def arrived_everywhere(self, number: int) -> bool:
        return all(follower.arrived >= number for follower in self.followers.values())

    def missing_at(self, number: int) -> list[bytes]:
        return [follower.peer for follower in self.followers.values() if follower.arrived < number]


class Origin:
    """The one counter for everything a peer sends."""

    def __init__(self, id: bytes) -> None:
        self.id = id
        self._next = 1

    def run(self, count: int, wall: float) -> Run:
        first = self._next
        self._next += count
        return Run(self.id, first, count, wall)


class Topics:
    """All topics this peer publishes. `hear` gets what this peer's own subscriptions want."""

    def __init__(
        self, origin: Origin, timers: Timers, publish: Callable[[Parts], None], hear: Callable[[Parts], None]
    ) -> None:
        self._origin = origin
        self.publisher = origin.id
        self._timers = timers
        self._publish = publish
        self._hear = hear
        self._ring = Ring(RING_BYTES)
        self._topics: dict[str, Topic] = {}
        self._entries: dict[bytes, tuple[Entry, list[tuple[Filter, float, int]]]] = {}
        self._fences: dict[bytes, bytes] = {}  # subscriber: nonce of the fence it subscribes, as it surfaced last
        self.released: set[Topic] = set()  # may go on; the owner takes again
        self.blocked: dict[Topic, None] = {}  # by a queue that has no room
        self.clock: Callable[[], float] | None = None  # where callers append while a turn runs; see `take`

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._topics.values())

    def open(self, name: str, *, retain: bool, patience: float) -> Topic:
        topic = Topic(name=name, retain=retain, patience=patience, prefix=topic_prefix(name))
        self._topics[name] = topic
        for peer in self._entries:
            self._follow(topic, peer)
        return topic

    # --- publishing

    def take(self, topic: Topic, now: float, wall: float) -> int:
        """Publishes what is in the pile, as far as the followers allow; returns how many."""
        outgoing = topic.outgoing
        outgoing.marked = False
        most = len(outgoing.items)
        if not self._is_ample(topic, most) and (topic.followers or topic.bound):
            most = self._room(topic, now)
        items = outgoing.take(most)
        more = bool(outgoing.items)
        # Some may have been left after this turn began: with its time they would look older than a subscription that
        # was there before them, which would then not get them. Too late a time only makes them look too young.
        clock = now if self.clock is None else self.clock()
        for piece in cut(items):
            self._send(topic, piece, clock, wall)
        if items:
            outgoing.wake()  # only now: a caller that goes on at once would compete for the interpreter
            topic.quiet = QUIET
            if now + QUIET < topic.quiet_at:  # it is not looked sooner already, and then put off
                self._look_at_head(topic, now + QUIET)
        if items and more and self._room(topic, now):  # the stall begins now; it is over already without patience
            self.released.add(topic)
        return len(items)

    def _send(self, topic: Topic, piece: Cut, now: float, wall: float) -> None:
        bodies, joined, parts, size, flags, _ = piece
        run = self._origin.run(len(bodies), wall)
        first = topic.head + 1
        flags |= RETAIN if topic.retain else 0
        frame = (encode_topic(topic.prefix, flags, run, first, now, (joined,)), *parts)
        topic.head += len(bodies)
        self._emit(topic, frame)  # first: what follows need not be waited for
        if first == 1:
            topic.first_clock = now
        topic.last_clock = now
        topic.size += size
        if topic.followers:
            topic.marks.append((topic.head, topic.size))
        self._ring.add(topic.track, Published(first, len(bodies), now, frame, size))
        for hold in topic.bound:
            hold.take(piece, run, now)

    def _emit(self, topic: Topic, frame: Parts) -> None:
        self._publish(frame)
        if self._origin.id in topic.followers:
            self._hear(frame)

    @staticmethod
    def _is_ample(topic: Topic, count: int) -> bool:
        """Whether there is room for so many, as `_room` found last: it can only have become more since."""
        outgoing = topic.outgoing
        return (
            topic.head + count <= topic.ample
            and topic.size + count * SMALL <= topic.ample_size
            and outgoing.large_in == outgoing.large_out
            and not topic.bound
        )

    def _room(self, topic: Topic, now: float) -> int:
        """How many of the messages in the pile may go out before the slowest waiting follower is a window behind, or
        a queue that the topic is bound to has a full window.

        What a follower has not taken stays within the ring's budget, so that it can be repaired.
        """
        items = topic.outgoing.items
        most, size = WINDOW, WINDOW_BYTES
        for hold in topic.bound if items else ():
            free, free_bytes = hold.room(size_of(items[0]))
            most, size = min(most, free), min(size, free_bytes)
            if not free:
                self.blocked[topic] = None
                self._timers.set_if_unset((topic, "bound"), now + TAKEN_AGAIN, lambda when: self.released.add(topic))
        for follower in topic.followers.values():
            if not follower.waits or follower.behind:
                continue
            free, free_bytes = WINDOW - (topic.head - follower.taken), WINDOW_BYTES - topic.bytes_behind(follower.taken)
            if topic.head == follower.taken or (free > 0 and (not items or free_bytes >= size_of(items[0]))):
                follower.stalled_since = None
                most, size = min(most, free), min(size, free_bytes)
                continue
            patience = (
                topic.patience if follower.patience == INHERIT_PATIENCE else max(follower.patience, topic.patience)
            )
            if follower.stalled_since is None:
                follower.stalled_since = now
            until = follower.stalled_since + patience
            if now >= until:
                follower.behind = True
                continue
            most = 0
            self._timers.set_if_unset((topic, "held"), now + TAKEN_AGAIN, lambda when: self._ask_taken(topic, when))
            if until < math.inf:
                self._timers.set((topic, "stall", follower.peer), until, lambda when: self.released.add(topic))
        topic.ample, topic.ample_size = topic.head + most, topic.size + size
        return fitting(topic.outgoing, min(most, len(items)), size)

    def _ask_taken(self, topic: Topic, now: float) -> None:
        """Its followers hold the topic back, as far as we know: what they told last may be lost."""
        if topic.outgoing.items:
            self._emit_head(topic, REPORT, now)
            self.released.add(topic)

    def unblock(self) -> None:
        """Queues have room, perhaps."""
        self.released.update(self.blocked)
        self.blocked.clear()

    # --- heads

    def announce_head(self, topic: Topic, now: float) -> None:
        """Asks every follower to report what has arrived; repeated until all has (see `arrived_everywhere`)."""
        self._emit_head(topic, REPORT, now)
        self._timers.set((topic, "flush"), now + FLUSH_REPEAT, lambda when: self._flush_again(topic, when))

    def _flush_again(self, topic: Topic, now: float) -> None:
        if not topic.arrived_everywhere(topic.head):
            self.announce_head(topic, now)

    def clear(self, topic: Topic, now: float) -> None:
        """Nothing of it is retained, what callers have left included. Who keeps such values is told, and again with
        every head that follows."""
        topic.cleared = topic.head + len(topic.outgoing.items)
        if topic.followers and topic.head and not topic.outgoing.items:
            self._emit_head(topic, 0, now)

    def _emit_head(self, topic: Topic, flags: int, now: float) -> None:
        flags |= CLEARED if topic.cleared >= topic.head else 0
        self._emit(topic, (encode_topic(topic.prefix, flags, Run(self._origin.id, 0, 0, 0.0), topic.head, now, ()),))

    def _look_at_head(self, topic: Topic, when: float) -> None:
        topic.quiet_at = when
        self._timers.set((topic, "quiet"), when, lambda now: self._repeat_head(topic, now))

    def _repeat_head(self, topic: Topic, now: float) -> None:
        topic.quiet_at = math.inf
        if topic.arrived_everywhere(topic.head):
            return
        if topic.quiet == QUIET and now < topic.last_clock + QUIET:  # there was more since
            self._look_at_head(topic, topic.last_clock + QUIET)
            return
        self._emit_head(topic, REPORT if topic.quiet > QUIET else 0, now)
        topic.quiet = min(topic.quiet * QUIET_GROWTH, QUIET_MOST)
        self._look_at_head(topic, now + topic.quiet)

    # --- subscribers

    def on_entry(self, peer: bytes, entry: Entry, now: float) -> None:
        """The filters of `peer` (this one included) as they are now."""
        rows = [(Filter(text), float(patience), handle) for text, patience, handle in entry.filters]
        self._entries[peer] = (entry, rows)
        for topic in self._topics.values():
            self._follow(topic, peer)
        if self._fences.get(peer) == entry.fence:
            self._answer(peer, entry.fence, now)

    def on_fence(self, peer: bytes, nonce: bytes, now: float) -> None:
        self._fences[peer] = nonce
        known = self._entries.get(peer)
        if known is not None and known[0].fence == nonce:
            self._answer(peer, nonce, now)

    def on_fence_lifted(self, peer: bytes, nonce: bytes) -> None:
        """It does not subscribe that fence any more, or its connection has ended."""
        if self._fences.get(peer) == nonce:
            del self._fences[peer]

    def on_gone(self, peer: bytes) -> None:
        """Its fence stays as long as its connection: if it is met again, that answers its entry."""
        self._entries.pop(peer, None)
        for topic in self._topics.values():
            self._unfollow(topic, peer)

    def _follow(self, topic: Topic, peer: bytes) -> None:
        matching = [
            (patience, handle) for filter, patience, handle in self._entries[peer][1] if filter.matches(topic.name)
        ]
        topic.ample = 0
        if not matching:
            self._unfollow(topic, peer)
            return
        # The most patient of its subscriptions counts; one that inherits is as patient as the topic.
        patience = max(patience for patience, _ in matching)
        handles = len({handle for _, handle in matching})
        follower = topic.followers.get(peer)
        if follower is None:
            topic.followers[peer] = Follower(peer=peer, handles=handles, patience=patience, taken=topic.head)
            if not topic.marks or topic.marks[-1][0] != topic.head:
                topic.marks.append((topic.head, topic.size))
        else:
            follower.handles, follower.patience = handles, patience

    def _unfollow(self, topic: Topic, peer: bytes) -> None:
        if topic.followers.pop(peer, None) is not None:
            self._trim_marks(topic)
            self.released.add(topic)

    def _answer(self, peer: bytes, nonce: bytes, now: float) -> None:
        heads = [
            Head(
                topic.name, topic.head, topic.first_clock, topic.last_clock, topic.retain and topic.cleared < topic.head
            )
            for topic in self._topics.values()
            if peer in topic.followers and topic.head
        ]
        frame = (encode_fence(Fence(peer, nonce, self._origin.id, now, heads)),)
        if peer == self._origin.id:
            self._hear(frame)
        else:
            self._publish(frame)

    def owed_heads(self, peer: bytes) -> list[list[object]]:
        """Of topics of which `peer` has not said that all has arrived, with what is held back, or has said nothing."""
        owed: list[list[object]] = []
        for topic in self._topics.values():
            last, follower = topic.head + len(topic.outgoing.items), topic.followers.get(peer)
            if last if peer not in self._entries else follower is not None and follower.arrived < last:
                owed.append([topic.name, last])
        return owed[:OWED_MOST]

    def on_seen(self, peer: bytes, seen: Seen) -> None:
        for name, arrived, taken in seen.topics:
            topic = self._topics.get(name)
            follower = topic.followers.get(peer) if topic else None
            if topic is None or follower is None or arrived > topic.head or taken > topic.head:
                continue  # a topic that is not ours, or more than there is: says nothing
            follower.arrived = max(follower.arrived, arrived)
            follower.taken = max(follower.taken, taken)
            lag = topic.head - follower.taken
            if follower.behind and lag <= WINDOW // 2 and topic.bytes_behind(follower.taken) <= WINDOW_BYTES // 2:
                follower.behind = False
                follower.stalled_since = None
                topic.ample = 0
            self._trim_marks(topic)
            self.released.add(topic)

    def _trim_marks(self, topic: Topic) -> None:
        lowest = min((follower.taken for follower in topic.followers.values()), default=topic.head)
        index = bisect_right(topic.marks, (lowest, 1 << 62)) - 1  # the mark at or below stays: it is the base
        if index > 0:
            del topic.marks[:index]

    def refill(self, peer: bytes, repair: Repair) -> list[Parts]:
        """The answer to one repair: frames of the ring as they went out, then what could and could not be done."""
        topic = self._topics.get(repair.topic)
        if topic is None:
            end = Refilled(repair.request, repair.topic, 1, 1, 0)
            return [(end.encode(peer, self._origin.id),)]
        track = topic.track
        start = repair.first or track.since(repair.clock)
        header = refill_frame(peer, self._origin.id, repair.request)
        answer: list[Parts] = []
        last, size = max(start, track.oldest) - 1, 0
        for index in range(track.at(max(start, track.oldest)), len(track.frames)):
            frame = track.frames[index]
            if (
                frame.first > repair.last
                or len(answer) >= REFILL_FRAMES
                or (answer and size + frame.size > REFILL_BYTES)
            ):
                break
            answer.append((header, *frame.parts))
            last, size = frame.first + frame.length - 1, size + frame.size
        end = Refilled(repair.request, repair.topic, start, track.oldest, last)
        answer.append((end.encode(peer, self._origin.id),))
        return answer

    # --- reports

    def heads(self) -> list[list[object]]:
        return [[topic.name, topic.head] for topic in self._topics.values()]

    def ledger(self) -> tuple[PublishedTopic, ...]:
        return tuple(
            PublishedTopic(topic=topic.name, published=topic.head, in_ring=topic.track.held, left_ring=topic.track.left)
            for topic in self._topics.values()
        )
