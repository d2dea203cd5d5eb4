"""The asking side of requests: which replier gets one, and how each of them ends, exactly once.

    WAITING --depart--> SENT --reply, failure, peer lost--> ENDED
      |  ^---turned away--'  |
      '--nobody, abandoned---'--abandoned--> ENDED

Events:
- take: callers' calls enter the line of their service and depart to the replier with the fewest unanswered ones.
- entry: a peer names its repliers. Settled: who waits for a service that nobody offers ends with NoPeer.
- reply: the call ends. *Turned away* means that the replier has closed or is overloaded and no program has had the
  request nor ever will: another replier gets it, under a new number. Nothing else is ever sent a second time.
- gone, or a session in which the peer had declared us gone: whatever it had ends with PeerLost.
- abandoned: the caller's time ran out, or it was interrupted. A reply that comes after that is counted and dropped.

Numbers are origin numbers, given at departure, so they rise with every frame. Each request carries the *floor* of its
addressee: everything below has ended here, so the addressee remembers only numbers from there on, and a frame that
comes late or twice is never handed to a program again.

Nothing is repeated, so a frame that is lost with its connection has to be missed: the addressee is asked which of the
calls it does not have (any more), every two seconds and whenever a connection is made anew. What it names was lost on
the way, there or back, unless it travels on a work connection that still stands: mailboxes keep their order. It ends
with PeerLost; with Timeout if its time is over.
What a crash at each point loses: of this peer, the calls, whose callers are gone with it; of the replier, nothing that
this side does not hear of as PeerLost.

It is longer than most: a call is in one of a few tables at a time, and every event moves some between them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator

from zq.core.call import BY_MAILBOX, MOST_REQUESTS, Call, Key, Seat, Stage, Tally
from zq.core.timers import Timers
from zq.core.topics import Origin
from zq.errors import Error, NoPeer, PeerLost, Refused, RemoteError, Timeout
from zq.info import RequestedService
from zq.wire.batch import Parts
from zq.wire.frames import Entry, Inquiry, Missing
from zq.wire.requests import CLOSED, REPLIED, TURNED_AWAY, ReplyFrame, encode_request, is_small

STALLED = 0.05  # s until a connection that took nothing is tried again
INQUIRE = 2.0  # s between two looks whether a peer still has what it was sent: a small frame beside its heartbeats
MISSED_FOR = 10.0  # s for which an abandoned request counts when the next replier is chosen


class Requesting:
    """All requests of this peer.

    `send` is False when the peer takes nothing now, `say` is for what may be lost; `generation_of` counts the work
    connections to a peer, and `is_queue` knows the realm's queues.
    """

    def __init__(
        self,
        origin: Origin,
        timers: Timers,
        send: Callable[[bytes, Parts], bool],
        say: Callable[[bytes, Inquiry], None],
        generation_of: Callable[[bytes], int],
        is_queue: Callable[[str], bool],
    ) -> None:
        self._origin = origin
        self._timers = timers
        self._send = send
        self._say = say
        self._generation_of = generation_of
        self._is_queue = is_queue
        self.pile: deque[Call] = deque()  # what callers have left
        self.undecided: set[str] = set()  # services that nobody is known to offer, and calls wait for
        self._seats: dict[str, dict[Key, Seat]] = {}
        self._rows: dict[bytes, dict[bytes, str]] = {}  # of each peer: replier to service
        self._lines: dict[str, deque[Call]] = {}
        self._apart: dict[str, list[Call]] = {}  # calls that not every replier may have: they hold nobody up
        self._sent: dict[bytes, dict[int, Call]] = {}  # of each peer, by number, which rises
        self._missed: dict[int, tuple[bytes, Seat, str]] = {}  # abandoned, by number
        self._tallies: dict[str, Tally] = {}
        self._turn = 0

    # --- calls

    def serve(self, now: float, wall: float) -> None:
        """Takes what callers have left."""
        touched: set[str] = set()
        while self.pile:
            call = self.pile.popleft()
            if call.ended:
                continue
            call.wall = wall
            self._tally(call.service).asked += 1
            self._line_up(call)
            touched.add(call.service)
        for service in touched:
            self.dispatch(service, now)

    def _tally(self, service: str) -> Tally:
        tally = self._tallies.get(service)
        if tally is None:
            tally = self._tallies[service] = Tally()
        return tally

    def _line_up(self, call: Call) -> None:
        if call.target is None and not call.tried:
            self._lines.setdefault(call.service, deque()).append(call)
        else:
            self._apart.setdefault(call.service, []).append(call)

    def repliers(self, service: str) -> list[Key]:
        """Who offers it, as far as this peer knows."""
        return list(self._seats.get(service, ()))

    def nobody(self, service: str) -> Error:
        """What a request ends with that nobody is there for."""
        if self._is_queue(service):
            return Refused(f"{service} is a queue, not a service; push to it, or ask a service that replies")
        return NoPeer(f"nobody in the realm replies to {service}; start a replier of it, or wait_for_repliers")

    def abandon(self, call: Call, now: float) -> bool:
        """The caller waits no more. True when it has ended already: then that is what it ended with."""
        if call.ended:
            return True
        if call.wall:  # it was taken
            self._tally(call.service).abandoned += 1
        seat = call.seat
        if call.stage is Stage.SENT and seat is not None:
            self._remove(call)
            number = call.number
            self._missed[number] = (seat.key[0], seat, call.service)
            seat.missed += 1
            self._timers.set(("missed", number), now + MISSED_FOR, lambda when: self._forget(number))
        call.step(Stage.ENDED)
        self.dispatch(call.service, now)
        return False

    def _forget(self, number: int) -> None:
        missed = self._missed.pop(number, None)
        if missed is not None:
            missed[1].missed -= 1
            self._timers.cancel(("missed", number))

    def _end(self, call: Call, error: Error | None = None) -> None:
        call.error = error
        call.step(Stage.ENDED)
        call.wake()

    # --- sending

    def dispatch(self, service: str, now: float) -> None:
        """Lets depart what can."""
        apart = [call for call in self._apart.pop(service, ()) if not call.ended]
        for call in apart:
            if not self._place(call, now):
                self._apart.setdefault(service, []).append(call)
        line = self._lines.get(service)
        while line:
            if not (line[0].ended or self._place(line[0], now)):
                return
            line.popleft()
        self._lines.pop(service, None)
        if service not in self._apart:
            self.undecided.discard(service)

    def _place(self, call: Call, now: float) -> bool:
        """False: it has to wait."""
        seats = self._seats.get(call.service, {})
        if call.target is not None:
            candidates = [seats[call.target]] if call.target in seats and not call.tried else []
        else:
            candidates = [seat for key, seat in seats.items() if key not in call.tried]
        if not candidates:
            if call.error is not None:  # somebody was there, and turned it away
                return self._give_up(call, call.error)
            if call.target is not None:
                return self._give_up(call, NoPeer(f"a replier of {call.service} has closed before it could be asked"))
            self.undecided.add(call.service)
            return False
        able = [seat for seat in candidates if seat.has_room(call.size)]
        stalled = bool(able)
        while able:
            seat = min(able, key=lambda seat: (seat.sent + seat.missed, seat.turn))
            if self._depart(call, seat, now):
                return True
            able.remove(seat)
        if stalled:
            self._timers.set_if_unset(
                (self, call.service), now + STALLED, lambda when: self.dispatch(call.service, when)
            )
        return False

    def _give_up(self, call: Call, error: Error) -> bool:
        """It was never at a program."""
        if isinstance(error, NoPeer):
            self._tally(call.service).nobody += 1
        else:
            self._tally(call.service).failed += 1
        self._end(call, error)
        return True

    def _depart(self, call: Call, seat: Seat, now: float) -> bool:
        peer, replier = seat.key
        sent = self._sent.get(peer, {})
        number = self._origin.run(1, call.wall).first
        parts = encode_request(
            peer,
            self._origin.id,
            replier,
            number=number,
            floor=next(iter(sent), number),
            patience=math.inf if call.deadline is None else max(call.deadline - now, 0.0),
            time=call.wall,
            item=call.item,
        )
        if not self._send(peer, parts):
            return False
        call.step(Stage.SENT)
        call.number, call.seat = number, seat
        call.generation = BY_MAILBOX if is_small(parts) else self._generation_of(peer)
        self._inquire_later(peer, now)
        sent[number] = call
        self._sent[peer] = sent
        seat.sent += 1
        seat.bytes += call.size
        self._turn += 1
        seat.turn = self._turn
        return True

    def _remove(self, call: Call) -> None:
        seat = call.seat
        assert seat is not None
        peer = seat.key[0]
        del self._sent[peer][call.number]
        if not self._sent[peer]:
            del self._sent[peer]
        seat.sent -= 1
        seat.bytes -= call.size

    def _inquire_later(self, peer: bytes, now: float) -> None:
        self._timers.set_if_unset(("inquire", peer), now + INQUIRE, lambda when: self.inquire(peer, when))

    def inquire(self, peer: bytes, now: float) -> None:
        """Asks a peer what it does not have: a connection to it was made anew, or it is time."""
        if peer in self._sent:
            self._say(peer, Inquiry(list(self._sent[peer])[:MOST_REQUESTS]))
            self._inquire_later(peer, now)

    # --- what comes back

    def on_missing(self, sender: bytes, missing: Missing, now: float) -> None:
        sent = self._sent.get(sender, {})
        generation = self._generation_of(sender)
        answered = set(missing.answered)
        for number in (*missing.unseen, *missing.answered):
            call = sent.get(number)
            if call is not None and (number in answered or call.generation != generation):
                self._remove(call)
                self._miss(call, now)
                self.dispatch(call.service, now)

    def _miss(self, call: Call, now: float) -> None:
        """The replier does not have it. It lets go of one whose time is over, of which a caller that stalls may hear
        here first."""
        if call.deadline is not None and now >= call.deadline:
            self._tally(call.service).abandoned += 1
            self._end(call, Timeout(f"no reply from {call.service} in time; it may have been done"))
        else:
            self._tally(call.service).lost += 1
            what = f"a request to {call.service}, or its reply, was lost with a connection; it may have been done"
            self._end(call, PeerLost(what))

    def on_reply(self, sender: bytes, reply: ReplyFrame, now: float) -> None:
        call = self._sent.get(sender, {}).get(reply.request)
        if call is None:
            missed = self._missed.get(reply.request)
            if missed is not None and missed[0] == sender:
                self._tally(missed[2]).late += 1
                self._forget(reply.request)
            return
        self._remove(call)
        tally = self._tally(call.service)
        seat = call.seat
        assert seat is not None
        if reply.outcome == REPLIED:
            tally.replied += 1
            reply.service = call.service
            call.reply = reply
            self._end(call)
        elif reply.outcome == TURNED_AWAY:
            kind, text = reply.failure()
            closed = NoPeer(f"the last replier of {call.service} has just closed")
            call.error = closed if kind == CLOSED else RemoteError(kind, text)
            call.tried.add(seat.key)
            call.step(Stage.WAITING)
            self._line_up(call)
        else:
            tally.failed += 1
            self._end(call, RemoteError(*reply.failure()))
        self.dispatch(call.service, now)

    # --- the realm

    def on_entry(self, peer: bytes, entry: Entry, now: float) -> None:
        before = self._rows.get(peer, {})
        rows: dict[bytes, str] = {id: service for service, id in entry.replies}
        if rows == before:
            return
        self._rows[peer] = rows
        for id, service in before.items():
            if rows.get(id) != service:
                self._leave(service, (peer, id))
        for id, service in rows.items():
            if before.get(id) != service:
                self._seats.setdefault(service, {})[peer, id] = Seat((peer, id))
        for service in {*before.values(), *rows.values()}:
            self.dispatch(service, now)

    def _leave(self, service: str, key: Key) -> None:
        seats = self._seats.get(service, {})
        seats.pop(key, None)
        if not seats:
            self._seats.pop(service, None)

    def on_settled(self, now: float) -> None:
        """Everyone who can be found has told what it offers."""
        for service in list(self.undecided):
            self.undecided.discard(service)
            if service in self._seats:
                continue
            waiting = [*self._lines.pop(service, ()), *self._apart.pop(service, ())]
            for call in waiting:
                if not call.ended:
                    self._tally(service).nobody += 1
                    self._end(call, self.nobody(service))

    def on_proven(self, peer: bytes, now: float) -> None:
        """It is reached again: what was under way may be lost."""
        self.inquire(peer, now)
        for service in set(self._rows.get(peer, {}).values()):
            self.dispatch(service, now)

    def on_gone(self, peer: bytes, now: float) -> None:
        rows = self._rows.pop(peer, {})
        for id, service in rows.items():
            self._leave(service, (peer, id))
        self.on_lost(peer, now)
        for service in set(rows.values()):
            self.dispatch(service, now)  # those who wait for it may have to hear that nobody is there

    def on_lost(self, peer: bytes, now: float) -> None:
        """It is gone, or had declared us gone: it answers nothing that it had."""
        for number in [number for number, missed in self._missed.items() if missed[0] == peer]:
            self._forget(number)
        lost = list(self._sent.get(peer, {}).values())
        for call in lost:
            self._remove(call)
            self._tally(call.service).lost += 1
            who = peer.hex()[:8]
            self._end(call, PeerLost(f"peer {who} was gone before it replied to {call.service}; it may have done it"))
        for service in {call.service for call in lost}:
            self.dispatch(service, now)

    # --- accounts

    def __iter__(self) -> Iterator[Call]:
        """Every call that was taken and has not ended."""
        for calls in self._sent.values():
            yield from calls.values()
        for line in (*self._lines.values(), *self._apart.values()):
            yield from (call for call in line if not call.ended)

    def ledger(self) -> tuple[RequestedService, ...]:
        under_way: dict[str, list[Call]] = {}
        for call in self:
            under_way.setdefault(call.service, []).append(call)
        return tuple(
            RequestedService(
                service=service,
                asked=tally.asked,
                waiting=sum(call.stage is Stage.WAITING for call in under_way.get(service, ())),
                sent=sum(call.stage is Stage.SENT for call in under_way.get(service, ())),
                replied=tally.replied,
                failed=tally.failed,
                lost=tally.lost,
                nobody=tally.nobody,
                abandoned=tally.abandoned,
                late=tally.late,
            )
            for service, tally in self._tallies.items()
        )
