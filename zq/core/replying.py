"""The answering side of requests: each is handed to one program at most once, and answered at most once.

    arrived --handed out--> with the program --reply, fail--> answered
       | |                        '--closed, collected--> failed
       | '--its patience has passed, or its sender's floor--> dropped
       '--closed, overloaded--> turned away        any --requester lost--> dropped

Events:
- request: into the inbox of its replier, unless its number has been here before or is below the floor that its sender
  has told: a frame that comes twice, or after its requester has given up, reaches no program. One for a replier that
  has closed or has too much is turned away: its requester asks somebody else.
- handing out: what nobody waits for any more is dropped instead. A requester's patience is counted from the arrival of
  its request, which may have been long under way; the floor of its next one tells what it has given up before that.
- answers: what programs left is sent; of two answers the first counts. An answer to what is not held is counted.
- inquiry: requests that are neither held nor on their way back are named; they were lost, or their answers were.
- close: what no program has is turned away, what one has fails.
- gone, or a session in which the requester had declared us gone: its requests are dropped, and answers to them.

Requests are held by nobody but their requester and one replier: a crash of this peer loses what it holds, and the
requester hears PeerLost. A reply that its connection does not take waits here until it does or the peer is gone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

from zq.core.outgoing import Item
from zq.core.replier import Asked, Replier, RequestInbox
from zq.core.roster import REMEMBERED
from zq.core.seen import Seen
from zq.core.timers import Timers
from zq.core.topics import Origin
from zq.info import RepliedService
from zq.wire.batch import Parts
from zq.wire.frames import Inquiry, Missing
from zq.wire.requests import (
    CLOSED,
    FAILED,
    OVERLOADED,
    REPLIED,
    TURNED_AWAY,
    RequestFrame,
    encode_failure,
    encode_reply,
    is_small,
)

STALLED = 0.05  # s until a connection that took nothing is tried again
NAMED = 16_384  # answered ones, the newest, that are named when a connection was made anew; of others it is asked


class Replying:
    """All repliers of this peer."""

    def __init__(
        self,
        origin: Origin,
        timers: Timers,
        send: Callable[[bytes, Parts], bool],
        say: Callable[[bytes, Missing], None],
        generation_of: Callable[[bytes], int],
    ) -> None:
        """`send` is False when the peer takes nothing now, `say` is for what may be lost; `generation_of` counts the
        work connections to a peer."""
        self._origin = origin
        self._timers = timers
        self._send_now = send
        self._say = say
        self._generation_of = generation_of
        self.wall = 0.0  # s since 1970, as of the last turn
        self._repliers: dict[bytes, Replier] = {}
        self._held: dict[tuple[bytes, int], tuple[Replier, int]] = {}  # by requester and number: with its bytes
        self._seen: OrderedDict[bytes, Seen] = OrderedDict()
        self._unsent: dict[bytes, deque[tuple[int, Parts]]] = {}

    def __iter__(self) -> Iterator[Replier]:
        return iter(self._repliers.values())

    def open(self, id: bytes, service: str, inbox: RequestInbox) -> Replier:
        replier = self._repliers[id] = Replier(id, service, inbox)
        return replier

    def rows(self) -> list[list[object]]:
        """For the roster entry: service and id of each replier."""
        return [[replier.service, replier.id] for replier in self._repliers.values()]

    # --- requests

    def on_request(self, sender: bytes, frame: RequestFrame, now: float) -> None:
        seen = self._seen.get(sender)
        if seen is None:
            seen = self._seen[sender] = Seen()
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        if not seen.add(frame.number, frame.floor):
            return
        replier = self._repliers.get(frame.replier)
        if replier is None:
            self._turn_away(sender, frame.number, CLOSED, "the replier has closed", now)
        elif not replier.has_room(frame.size):
            replier.turned_away += 1
            replier.received += 1
            self._turn_away(
                sender, frame.number, OVERLOADED, f"the replier holds {replier.held:,} requests already", now
            )
        else:
            frame.service = replier.service
            replier.received += 1
            replier.held += 1
            replier.held_bytes += frame.size
            self._held[sender, frame.number] = (replier, frame.size)
            replier.inbox.arrived.append(Asked(frame, replier, now + frame.patience, seen))
            replier.inbox.wake()

    def _turn_away(self, peer: bytes, number: int, kind: str, text: str, now: float) -> None:
        self._answer(peer, number, TURNED_AWAY, encode_failure(kind, text), now)

    def _release(self, peer: bytes, number: int) -> Replier | None:
        held = self._held.pop((peer, number), None)
        if held is None:
            return None
        replier, size = held
        replier.held -= 1
        replier.held_bytes -= size
        return replier

    # --- answers

    def serve(self, replier: Replier, now: float) -> None:
        """Sends what programs have left."""
        while replier.answers:
            answer = replier.answers.popleft()
            frame = answer.asked.frame
            if self._release(frame.sender, frame.number) is None:
                replier.late += 1
                continue
            if answer.item is None:
                replier.dropped += 1
                continue
            if answer.outcome == REPLIED:
                replier.replied += 1
            else:
                replier.failed += 1
            self._answer(frame.sender, frame.number, answer.outcome, answer.item, now)

    def _answer(self, peer: bytes, request: int, outcome: int, item: Item, now: float) -> None:
        parts = encode_reply(
            peer,
            self._origin.id,
            request=request,
            number=self._origin.run(1, self.wall).first,
            time=self.wall,
            outcome=outcome,
            item=item,
        )
        if peer not in self._unsent and self._send(peer, request, parts):
            return
        self._unsent.setdefault(peer, deque()).append((request, parts))
        self._timers.set_if_unset((self, peer), now + STALLED, lambda when: self._send_again(peer, when))

    def _send(self, peer: bytes, request: int, parts: Parts) -> bool:
        if not self._send_now(peer, parts):
            return False
        seen = self._seen.get(peer)
        if seen is not None and not is_small(parts):
            seen.answer(request, self._generation_of(peer))
        return True

    def on_inquiry(self, peer: bytes, inquiry: Inquiry) -> None:
        """Names what is not here and not on its way: whoever asks will hear no more of it."""
        self._name_missing(peer, inquiry.requests)

    def on_connection(self, peer: bytes) -> None:
        """One to that peer was made anew: names the answers that may have been lost with the old one."""
        seen = self._seen.get(peer)
        if seen is not None:
            self._name_missing(peer, seen.numbers()[-NAMED:])

    def _name_missing(self, peer: bytes, numbers: list[int]) -> None:
        if peer in self._unsent:
            return  # it asks again
        seen = self._seen.get(peer) or Seen()
        generation = self._generation_of(peer)
        away = [number for number in numbers if (peer, number) not in self._held]
        unseen = [number for number in away if not seen.has(number)]
        answered = [number for number in away if seen.has(number) and seen.answered_over(number) != generation]
        if unseen or answered:
            self._say(peer, Missing(unseen, answered))

    def _send_again(self, peer: bytes, now: float) -> None:
        unsent = self._unsent.get(peer)
        while unsent and self._send(peer, *unsent[0]):
            unsent.popleft()
        if unsent:
            self._timers.set((self, peer), now + STALLED, lambda when: self._send_again(peer, when))
        else:
            self._unsent.pop(peer, None)
            self._timers.cancel((self, peer))

    # --- closing

    def close(self, replier: Replier, now: float) -> None:
        """Every requester that it holds a request of is told; nothing is taken any more."""
        self.serve(replier, now)
        replier.closed = True
        self._repliers.pop(replier.id, None)
        untouched: set[tuple[bytes, int]] = set()
        while True:
            try:
                asked = replier.inbox.arrived.popleft()
            except IndexError:
                break
            asked.answered = True  # here and now
            untouched.add((asked.frame.sender, asked.frame.number))
        for peer, number in [key for key, (holder, _) in self._held.items() if holder is replier]:
            self._release(peer, number)
            if (peer, number) in untouched:
                replier.turned_away += 1
                self._turn_away(peer, number, CLOSED, "the replier has closed", now)
            else:
                replier.failed += 1
                what = encode_failure(CLOSED, "the replier has closed before it answered; it may have done it")
                self._answer(peer, number, FAILED, what, now)

    def is_flushed(self) -> bool:
        """Whether every answer is on its way."""
        return not self._unsent

    # --- requesters coming and going

    def on_proven(self, peer: bytes, now: float) -> None:
        """It is reached again."""
        self.on_connection(peer)
        self._send_again(peer, now)

    def on_lost(self, peer: bytes) -> None:
        """It is gone, or had declared us gone: nobody waits for what it has asked."""
        self._unsent.pop(peer, None)
        self._timers.cancel((self, peer))
        for sender, number in [key for key in self._held if key[0] == peer]:
            replier = self._release(sender, number)
            if replier is not None:
                replier.dropped += 1
        for replier in self._repliers.values():
            arrived = replier.inbox.arrived
            for asked in arrived.copy():
                if asked.frame.sender == peer:
                    try:
                        arrived.remove(asked)
                    except ValueError:
                        continue  # a caller was faster: its answer will be late
                    asked.answered = True
        seen = self._seen.get(peer)
        if seen is not None:
            seen.close()

    def on_departed(self, peer: bytes) -> None:
        """It has said goodbye: its id is never used again."""
        self._seen.pop(peer, None)

    # --- accounts

    def ledger(self) -> tuple[RepliedService, ...]:
        return tuple(
            RepliedService(
                service=replier.service,
                received=replier.received,
                held=replier.held,
                replied=replier.replied,
                failed=replier.failed,
                turned_away=replier.turned_away,
                dropped=replier.dropped,
                late=replier.late,
            )
            for replier in self._repliers.values()
        )
