"""The holder of a queue's messages: what was taken from callers and nobody has confirmed yet.

Every message has one position (1, 2, ... in the order taken) and is in one of these states:

    taken -> waiting -> in flight on a link -> acked | stored | dropped{reason}
                ^  |         |
                |  |         +-- nacked, returned, or its link ended: waiting again
                |  +-- its ttl is over: expired
                |
                +-- in the line of its lane, not due yet (`later`), or behind another one of its key (`keys`)

A message with a key, a ttl or a delay is a chunk of its own, which knows in which of these it is (`Place`); all
others, whatever their lane, are in a line or in flight and are never looked at one by one. A delayed message joins
those of its key when it is due: until then it holds none of them up. A nacked one keeps its key until it is settled.
A ttl is looked at before a message leaves, and ends it there while it waits; on a link it is not looked at.

What has failed as often as `max_attempts` says is dropped as "dead", see `dead`.

A crash of this process loses all of them, except those already at a puller, which still delivers them.

It is longer than most: a message is in one of its places at a time, and whatever moves one keeps all the counters.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from zq.core.keys import Keys
from zq.core.line import Line
from zq.core.outgoing import PILE_BYTES, PILE_MESSAGES, SMALL, Outgoing, cut, fitting
from zq.core.piece import Chunk, Piece, Place
from zq.core.ranges import Ranges
from zq.core.spans import SPANS, Spans
from zq.core.topics import Origin
from zq.errors import IDS_KEPT
from zq.info import Gap, HeldQueue
from zq.record import dataclass, field
from zq.wire.batch import Items, Parts, Run, size_of
from zq.wire.plan import NORMAL, Plan

RETRIED = "retried"  # why a dead letter leaves that is a message of its queue again: not lost
MAX_ATTEMPTS = 5  # as many as Celery's and SQS's users commonly set; a handler's failures are spread over 2 s then
EXPIRING_KEPT = 64  # settled messages whose ttl is not over are kept in the heap; more, if no more than are held

__all__ = ["Chunk", "Outbox", "Piece"]


class Dead(NamedTuple):
    """One message that nobody is to have again."""

    piece: Piece
    reason: str
    at: float  # wall clock


@dataclass(eq=False, slots=True)
class Kept:
    """What has become of messages that are on a disk as well, since somebody last looked. Positions are those there."""

    settled: list[tuple[int, int]] = field(default_factory=list)
    charged: list[tuple[int, int]] = field(default_factory=list)  # position, attempts
    dead: list[Dead] = field(default_factory=list)  # unsettled until their letters are on that disk


@dataclass(eq=False, slots=True)
class Outbox:
    """One queue this peer pushes to."""

    queue: str
    window: int  # messages held at most; `send` waits beyond
    window_bytes: int  # bytes; one message above it passes alone
    max_attempts: int = MAX_ATTEMPTS  # deliveries that may fail; the message is dead after the last of them
    dead: bool = False  # of dead letters: nobody appends, and nobody waits until they are confirmed
    kept: Kept | None = None  # of a spool: what its journal is to know
    path: tuple[bytes, bytes] | None = None  # peer and puller of the spool that everything goes to
    turning: bool = False  # the path is another from when all that was sent on it has arrived
    outgoing: Outgoing = field(default_factory=Outgoing)
    lines: list[Line] = field(default_factory=lambda: [Line(), Line(), Line()])  # by lane
    lanes: list[int] = field(default_factory=list)  # those other than the normal one that were ever used
    keys: Keys = field(default_factory=Keys)
    later: list[tuple[float, int, Piece]] = field(default_factory=list)  # heap by due time
    expiring: list[tuple[float, int, Piece]] = field(default_factory=list)  # heap by the end of their time
    mortal: int = 0  # messages held that have such an end
    done: Ranges = field(default_factory=Ranges)  # positions that need nothing more
    taken: int = 0
    acked: int = 0
    stored: int = 0
    expired: int = 0
    in_flight: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    gaps: deque[Gap] = field(default_factory=lambda: deque(maxlen=SPANS))  # of topics, see `lose`
    lost: Spans = field(default_factory=lambda: Spans(newest=True))  # the newest dropped or expired and not retried
    redelivered: int = 0
    held_bytes: int = 0
    waiting: int = 0
    delayed: int = 0  # of those waiting, not due yet
    keyed: int = 0  # of those waiting, behind another one of their key

    def __post_init__(self) -> None:
        self._fit(self.outgoing)

    def refit(self, window: int, window_bytes: int, max_attempts: int) -> None:
        """Gives it other bounds, and a pile to whoever appends from now on; nobody appends to the old one any more."""
        self.window, self.window_bytes, self.max_attempts = window, window_bytes, max_attempts
        self._fit(Outgoing())

    def _fit(self, outgoing: Outgoing) -> None:
        self.outgoing = outgoing
        outgoing.limit = self._limit(self.window - self.held)
        outgoing.budget = min(PILE_BYTES, self.window_bytes)

    @property
    def held(self) -> int:
        return self.waiting + self.in_flight

    @property
    def ready(self) -> int:
        """Messages that could be sent now."""
        return self.waiting - self.delayed - self.keyed

    def take(self, origin: Origin, now: float, wall: float) -> int:
        """From the callers' pile into the outbox, as far as the window allows."""
        self.outgoing.marked = False
        room = self.window - self.held
        most = max(min(len(self.outgoing.items), room), 0)
        count = fitting(self.outgoing, most, self.window_bytes - self.held_bytes, alone=not self.held)
        # The limit goes down before the pile does, so that no caller sees room that is not there.
        self.outgoing.limit = self._limit(room - count) if self.outgoing.limit >= 0 else -1
        for bodies, _, parts, size, flags, plan in cut(self.outgoing.take(count)):
            chunk = Chunk(self.taken + 1, bodies, parts, size, flags, origin.run(len(bodies), wall), now)
            self.taken += len(bodies)
            self.waiting += len(bodies)
            self.held_bytes += size
            piece = Piece(chunk, 0, len(bodies))
            if plan is None:
                self.lines[NORMAL].append(piece)
            else:
                self._admit(piece, plan, now)
        if count and self.outgoing.limit >= 0:
            self.outgoing.limit = self._limit(
                self.window - self.held
            )  # the bytes count as well, now that they are known
        return count

    def feed(
        self,
        bodies: list[bytes],
        parts: Parts,
        size: int,
        flags: int,
        run: Run,
        topic: str,
        now: float,
        *,
        redelivered: bool,
    ) -> None:
        """Messages of a topic, whatever the window: in the normal lane, with no plan. Those that others may have
        overtaken are `redelivered`."""
        chunk = Chunk(self.taken + 1, bodies, parts, size, flags, run, now, topic=topic)
        piece = Piece(chunk, 0, run.length, redelivered=redelivered)
        self.taken += run.length
        self.waiting += run.length
        self.held_bytes += size
        if redelivered:
            self.lines[NORMAL].due(piece)
        else:
            self.lines[NORMAL].append(piece)

    def lose(self, gap: Gap, count: int, reason: str) -> None:
        """Messages of a topic that were to be taken and are no more; what their origin numbers were nobody knows."""
        self.gaps.append(gap)
        self.done.add(self.taken + 1, self.taken + count)
        self.taken += count
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    def give_up_bound(self, reason: str) -> None:
        """Drops what waits and came from topics."""
        given_up = self.lines[NORMAL].give_up()
        later = [piece for _, _, piece in self.later if piece.chunk.topic is not None]
        if later:
            self.delayed -= sum(piece.count for piece in later)
            self.later = [entry for entry in self.later if entry[2].chunk.topic is None]
            heapq.heapify(self.later)
        for piece in (*given_up, *later):
            self.waiting -= piece.count
            self.in_flight += piece.count  # from where `drop` takes it
            self.drop(piece, reason)

    def _limit(self, room: int) -> int:
        """What the pile may have: `room` by count, and by bytes as if all were as large as small items get."""
        by_bytes = (self.window_bytes - self.held_bytes) // SMALL
        if self.held and by_bytes <= 0:
            return 0
        return min(PILE_MESSAGES, max(room, 0), max(by_bytes, 1))

    def reopen(self) -> None:
        """After messages were released: callers may append again."""
        if self.outgoing.limit >= 0:
            self.outgoing.limit = self._limit(self.window - self.held)

    # --- plans

    def _admit(self, piece: Piece, plan: Plan, now: float) -> None:
        """A message whose sender asked for something."""
        chunk = piece.chunk
        self._into_lane(chunk, plan)
        if plan.groups:
            self.lines[plan.lane].append(piece)
            return
        if plan.ttl is not None:
            chunk.expires = now + plan.ttl
            self.mortal += 1
            self._watch(piece)
        if plan.delay:
            chunk.due = now + plan.delay
        if plan.delay and self.path is None:
            self._delay(piece, now + plan.delay)
        elif self._may_go(piece):
            self.lines[plan.lane].append(piece)

    def load(
        self,
        position: int,
        items: Items,
        parts: Parts,
        flags: int,
        run: Run,
        topic: str | None,
        plan: Plan | None,
        now: float,
        *,
        attempt: int,
        redelivered: bool,
        since: float,
    ) -> Piece:
        """Messages from a disk, whatever the window, behind all others; their plan counts `since` then."""
        size = size_of(items) + sum(memoryview(part).nbytes for part in parts)
        chunk = Chunk(position, items, parts, size, flags, run, now, topic=topic)
        piece = Piece(chunk, 0, len(items), attempt, redelivered)
        self.taken += len(items)
        self.waiting += len(items)
        self.held_bytes += size
        if plan is None:
            self.lines[NORMAL].append(piece)
        else:
            self._admit(piece, plan, since)
        return piece

    def go_by(self, path: tuple[bytes, bytes] | None, now: float) -> None:
        """To this spool from now on, or to pullers. A spool gets what is delayed at once, and pullers do not."""
        self.path, self.turning = path, False
        if path is None:
            self._hold_undue(now)
            return
        early = [entry for entry in self.later if entry[2].chunk.due == entry[0]]
        self.later = [entry for entry in self.later if entry[2].chunk.due != entry[0]]
        heapq.heapify(self.later)
        for _, _, piece in sorted(early, key=lambda entry: entry[1]):
            if piece.chunk.place is Place.OVER:
                continue
            self.delayed -= piece.count
            if self._may_go(piece):
                self.lines[piece.chunk.lane].due(piece)

    def _hold_undue(self, now: float) -> None:
        """What a spool could have had goes to pullers when it is due; until then it has no key."""
        for piece in [piece for piece in self.keys if (piece.chunk.due or 0.0) > now]:
            assert piece.chunk.plan is not None
            assert piece.chunk.plan.key is not None
            assert piece.chunk.due is not None
            self.keys.expire(piece.chunk.plan.key, piece)
            self.keyed -= piece.count
            self._delay(piece, piece.chunk.due)
        for piece in [piece for line in self.lines for piece in line.take_undue(now)]:
            assert piece.chunk.due is not None
            self._delay(piece, piece.chunk.due)
            if piece.chunk.has_key:
                self._pass_on(piece.chunk)

    def _into_lane(self, chunk: Chunk, plan: Plan) -> None:
        chunk.lane = plan.lane
        if plan.lane != NORMAL and plan.lane not in self.lanes:
            self.lanes.append(plan.lane)
        if not plan.groups:
            chunk.plan = plan

    def _delay(self, piece: Piece, due: float) -> None:
        self.delayed += piece.count
        piece.chunk.place = Place.LATER
        heapq.heappush(self.later, (due, piece.position, piece))

    def _may_go(self, piece: Piece) -> bool:
        """Whether it has its key, if it needs one; else it waits for that."""
        chunk = piece.chunk
        if chunk.plan is not None and chunk.plan.key is not None and not chunk.has_key:
            chunk.has_key = self.keys.claim(chunk.plan.key, piece)
            if not chunk.has_key:
                self.keyed += 1
                chunk.place = Place.KEYED
                return False
        chunk.place = Place.LINE
        return True

    def _watch(self, piece: Piece) -> None:
        """Looks at it when its time ends."""
        chunk = piece.chunk
        if chunk.expires is not None and not chunk.timed:
            chunk.timed = True
            if len(self.expiring) >= 2 * self.mortal + EXPIRING_KEPT:  # what is over leaves when it would have expired
                self.expiring = [entry for entry in self.expiring if entry[2].chunk.place is not Place.OVER]
                heapq.heapify(self.expiring)
            heapq.heappush(self.expiring, (chunk.expires, piece.position, piece))

    def wake_delayed(self, now: float) -> float | None:
        """What has expired is dropped, and what is due waits in front; returns when to look again."""
        while self.expiring and self.expiring[0][0] <= now:
            piece = heapq.heappop(self.expiring)[2]
            piece.chunk.timed = False
            self._expire(piece)
        while self.later and self.later[0][0] <= now:
            piece = heapq.heappop(self.later)[2]
            if piece.chunk.place is Place.OVER:
                continue
            self.delayed -= piece.count
            if self._may_go(piece):
                self.lines[piece.chunk.lane].due(piece)
        return min((heap[0][0] for heap in (self.expiring, self.later) if heap), default=None)

    def _expire(self, piece: Piece) -> None:
        """Its time is over. On its way it may be delivered all the same; it is looked at again when it comes back."""
        chunk = piece.chunk
        place, chunk.place = chunk.place, Place.OVER
        if place is Place.FLIGHT or place is Place.OVER:
            chunk.place = place
            return
        chunk.place = place
        self._take_out(piece)
        self.waiting -= 1
        self.expired += 1
        self._tell(self.lost, piece, "expired")
        self._forget(piece)
        chunk.items, chunk.parts = [], ()  # an empty one may be in a line for long

    def _take_out(self, piece: Piece) -> None:
        """Of a message with a plan, from where it waits."""
        chunk = piece.chunk
        place, chunk.place = chunk.place, Place.OVER
        if place is Place.LINE:
            self.lines[chunk.lane].expire(piece)
        elif place is Place.LATER:
            self.delayed -= 1
        else:
            assert chunk.plan is not None
            assert chunk.plan.key is not None
            self.keys.expire(chunk.plan.key, piece)
            self.keyed -= 1

    def _forget(self, piece: Piece) -> None:
        """It needs nothing more."""
        chunk = piece.chunk
        self.held_bytes -= piece.size
        if self.kept is not None:
            self.kept.settled.append((piece.position, piece.position + piece.count - 1))
        else:
            self.done.add(piece.position, piece.position + piece.count - 1)
        if chunk.plan is not None:
            chunk.place = Place.OVER
            self.mortal -= chunk.expires is not None
            if chunk.has_key:
                self._pass_on(chunk)
        self.reopen()

    def _pass_on(self, chunk: Chunk) -> None:
        """The next message of its key may go."""
        assert chunk.plan is not None
        assert chunk.plan.key is not None
        chunk.has_key = False
        following = self.keys.release(chunk.plan.key)
        if following is not None:
            self.keyed -= 1
            following.chunk.has_key = True
            following.chunk.place = Place.LINE
            self.lines[following.chunk.lane].insert(following)

    # --- waiting

    def first(self) -> Piece | None:
        """Of the normal lane."""
        return self.lines[NORMAL].first()

    def pick(self, most: int, most_bytes: int, lane: int = NORMAL) -> list[Piece]:
        """What one frame takes from the front of the lane (see Line.pick)."""
        picked = self.lines[lane].pick(most, most_bytes)
        count = 0
        for piece in picked:
            count += piece.count
            if piece.chunk.plan is not None:
                piece.chunk.place = Place.FLIGHT
        self.waiting -= count
        self.in_flight += count
        return picked

    def unpick(self, pieces: list[Piece]) -> None:
        """They could not be sent after all."""
        for piece in pieces:
            self.waiting += piece.count
            self.in_flight -= piece.count
            if piece.chunk.plan is not None:
                piece.chunk.place = Place.LINE
                self._watch(piece)
        self.lines[pieces[0].chunk.lane].unpick(pieces)

    # --- the end of a flight

    def ack(self, piece: Piece) -> None:
        self._release(piece)
        self.acked += piece.count

    def store(self, piece: Piece) -> None:
        """A spool has it."""
        self._release(piece)
        self.stored += piece.count

    def drop(self, piece: Piece, reason: str) -> None:
        self._release(piece)
        self.dropped[reason] = self.dropped.get(reason, 0) + piece.count
        if reason != RETRIED:
            self._tell(self.lost, piece, reason)

    def _release(self, piece: Piece) -> None:
        self.in_flight -= piece.count
        self._forget(piece)

    def retry(self, pieces: list[Piece], *, due: float | None = None, from_spool: bool = False) -> None:
        """Back to waiting, in front of everything fresh of their lane; not before `due` when it is given. What comes
        back from a spool may not be due yet, and pullers do not get it before."""
        count = 0
        back: list[Piece] = []
        for piece in pieces:
            piece.redelivered = True
            count += piece.count
            piece.chunk.place = Place.LINE
            when = piece.chunk.due if from_spool and self.path is None else due
            if when is not None:
                self._delay(piece, when)
            else:
                back.append(piece)
            self._watch(piece)
        if back:
            self.lines[back[0].chunk.lane].put_back(back)
        self.in_flight -= count
        self.waiting += count
        self.redelivered += count

    # --- one message more, or less, that no caller and no puller has to do with

    def put_again(self, piece: Piece, plan: Plan | None = None) -> None:
        """Takes one message whose chunk has the next position; it waits behind others that are redelivered, and of
        its key. Its plan has no times."""
        if plan is not None:
            self._into_lane(piece.chunk, plan)
        self.taken += piece.count
        self.waiting += piece.count
        self.held_bytes += piece.size
        if self._may_go(piece):
            self.lines[piece.chunk.lane].due(piece)

    def waiting_again(self) -> list[Piece]:
        """What could be sent now and was taken or delivered before, oldest first: the letters of a dead outbox."""
        return sorted(self.lines[NORMAL].again, key=lambda piece: piece.position)

    def idle(self) -> dict[int, Piece]:
        """What waits in the normal lane, by position."""
        return {piece.position: piece for piece in self.lines[NORMAL]}

    def purge(self, reason: str) -> int:
        """Drops all that waits, whatever for, and returns how many messages that were."""
        before = self.waiting
        for piece in list(self.pieces()):
            if piece.chunk.plan is not None:
                self._take_out(piece)
            elif piece.chunk.place is Place.LATER:
                self.delayed -= piece.count
            else:
                self.lines[piece.chunk.lane].remove(piece)
            self.waiting -= piece.count
            self.in_flight += piece.count  # from where `drop` takes it
            self.drop(piece, reason)
        self.later = []
        return before - self.waiting

    def write_off(self, run: Run | None, reason: str) -> None:
        """One message is dropped that is on a disk only."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if run is not None and reason != RETRIED:
            self.lost.add(run.origin, run.first, run.first, reason)

    def discard(self, piece: Piece, reason: str) -> None:
        """Drops one of those."""
        self.lines[NORMAL].remove(piece)
        self.waiting -= piece.count
        self.in_flight += piece.count  # from where `drop` takes it
        self.drop(piece, reason)

    # --- reports

    def settled_through(self, position: int) -> bool:
        return self.done.first_missing(1) > position

    def pieces(self) -> Iterator[Piece]:
        """All that wait."""
        for line in self.lines:
            yield from line
        yield from (piece for _, _, piece in self.later if piece.chunk.place is not Place.OVER)
        yield from self.keys

    def oldest(self, in_flight: Iterator[Piece]) -> float | None:
        """When the oldest message still held was taken."""
        return min((piece.chunk.taken_at for pieces in (self.pieces(), in_flight) for piece in pieces), default=None)

    def unsettled_ids(self, in_flight: Iterator[Piece]) -> list[str]:
        pieces = sorted([*self.pieces(), *in_flight], key=lambda piece: piece.position)
        ids: list[str] = []
        for piece in pieces:
            origin, first, length, _ = piece.run()
            ids.extend(f"{origin.hex()}-{first + index}" for index in range(length))
            if len(ids) >= IDS_KEPT:
                break
        return ids[:IDS_KEPT]

    @staticmethod
    def _tell(spans: Spans, piece: Piece, state: str, peer: bytes = b"") -> bool:
        origin, first, length, _ = piece.run()
        return spans.add(origin, first, first + length - 1, state, peer)

    def row(self, in_flight: Iterable[tuple[bytes, Piece]] = ()) -> HeldQueue:
        """`in_flight`: to whom, and what."""
        spans = Spans()
        room = all(self._tell(spans, piece, "in flight", peer) for peer, piece in in_flight)
        for piece in self.pieces() if room else ():
            if not self._tell(spans, piece, "waiting"):
                break
        return HeldQueue(
            queue=self.queue,
            taken=self.taken,
            waiting=self.waiting,
            in_flight=self.in_flight,
            acked=self.acked,
            stored=self.stored,
            expired=self.expired,
            dropped=dict(self.dropped),
            redelivered=self.redelivered,
            spans=spans.rows(),
            lost=self.lost.rows(),
            gaps=tuple(self.gaps),
        )
