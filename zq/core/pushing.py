"""The pushing side of queues: outboxes, and the links on which their messages go to pullers.

Events:
- take: callers' messages enter the outbox; dispatch gives them to the links with the most free credit.
- entry: a peer names its pullers; each gets a link, opened by a probe.
- state: what arrived, what is settled and how, how much more may be sent.
- work connection made anew: a probe asks where the puller stands, its state brings the resends.
- gone, goodbye: the links to that peer end; what was unsettled is waiting again. A crash charges an attempt to what
  had been handed to the program, and always to the lowest unsettled number that had arrived; a charged message goes
  alone from then on, so that one that kills its worker takes no others along.

Nothing is sent before the peer knows its realm (`may_send`), so that nobody is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from zq.core.link import Flight, SendingLink
from zq.core.outbox import Outbox, Piece
from zq.core.timers import Timers
from zq.core.topics import Origin
from zq.info import HeldQueue
from zq.wire.batch import ATTEMPT_MOST, REDELIVERED, BatchHeader, Parts, encode_batch
from zq.wire.frames import ACKED, NACKED, REJECTED, STORED, End, Entry, Probe, State

PROBE_AFTER, PROBE_MOST = 0.2, 2.0  # s without news until a link is probed, doubled up to
STALLED = 0.05  # s until a full connection is tried again
WANTED_MOST = 65_536  # messages; more than any puller grants at once


class Pushing:
    """All queues this peer pushes to."""

    def __init__(
        self,
        origin: Origin,
        timers: Timers,
        draw: Callable[[int], bytes],
        send: Callable[[bytes, Probe | End], None],
        send_work: Callable[[bytes, Parts], bool],
        generation_of: Callable[[bytes], int],
        session_of: Callable[[bytes], int],
    ) -> None:
        """`generation_of` counts the work connections to a peer; `send_work` is False when it takes nothing now."""
        self._origin = origin
        self._timers = timers
        self._draw = draw
        self._send = send
        self._send_work = send_work
        self._generation_of = generation_of
        self._session_of = session_of
        self._outboxes: dict[str, Outbox] = {}
        self._links: dict[bytes, SendingLink] = {}
        self._by_queue: dict[str, dict[tuple[bytes, bytes], SendingLink]] = {}  # by peer and puller
        self._pullers: dict[bytes, list[list[object]]] = {}  # rows of each peer's entry
        self.may_send = False
        self.released: set[Outbox] = set()  # have room for what callers left; the owner takes again

    def __iter__(self) -> Iterator[Outbox]:
        return iter(self._outboxes.values())

    def open(self, queue: str, *, window: int, window_bytes: int, now: float) -> Outbox:
        outbox = self._outboxes[queue] = Outbox(queue=queue, window=window, window_bytes=window_bytes)
        self._by_queue[queue] = {}
        for peer in self._pullers:
            self._open_links(peer, now)
        return outbox

    def close(self, outbox: Outbox) -> None:
        """Forgets the queue; what it still holds is the caller's to report."""
        outbox.outgoing.limit = -1
        for link in list(self._by_queue.pop(outbox.queue).values()):
            self._forget(link)
            self._send(link.peer, End(link.id))
        del self._outboxes[outbox.queue]
        for what in ("delayed", "stalled"):
            self._timers.cancel((outbox, what))
        self.released.discard(outbox)

    # --- links

    def on_entry(self, peer: bytes, entry: Entry, now: float) -> None:
        self._pullers[peer] = entry.pulls
        self._open_links(peer, now)

    def _open_links(self, peer: bytes, now: float) -> None:
        for queue, puller in self._pullers[peer]:
            links = self._by_queue.get(str(queue))
            assert isinstance(puller, bytes)
            if links is not None and (peer, puller) not in links:
                link = SendingLink(
                    id=self._draw(16),
                    outbox=self._outboxes[str(queue)],
                    peer=peer,
                    puller=puller,
                    session=self._session_of(peer),
                )
                self._links[link.id] = links[peer, puller] = link
                self._probe(link, now)

    def _forget(self, link: SendingLink) -> None:
        self._links.pop(link.id, None)
        self._by_queue.get(link.outbox.queue, {}).pop((link.peer, link.puller), None)
        self._timers.cancel((link, "probe"))

    def _probe(self, link: SendingLink, now: float) -> None:
        """Says where this end stands and asks for the other; again after a while, later each time, if there is need."""
        wanted = min(link.outbox.ready, WANTED_MOST)
        first = link.outbox.first()
        link.told = link.next - 1 + link.returned + wanted
        link.patience = min(max(link.patience * 2, PROBE_AFTER), PROBE_MOST)
        self._timers.set((link, "probe"), now + link.patience, lambda when: self._probe_again(link, when))
        self._send(
            link.peer,
            Probe(
                link.id,
                0,
                link.session,
                link.outbox.queue,
                link.puller,
                link.floor,
                link.next - 1,
                link.returned,
                wanted,
                first.chunk.size_of(first.start, first.start + 1) if first is not None else 0,
            ),
        )

    def _probe_again(self, link: SendingLink, now: float) -> None:
        if self._needs_probe(link) or not link.confirmed:
            self._probe(link, now)

    @staticmethod
    def _needs_probe(link: SendingLink) -> bool:
        return bool(link.flights) or not link.is_heard or (link.outbox.ready > 0 and link.free <= 0)

    def on_proven(self, peer: bytes, now: float) -> None:
        """Its mailbox was lost and is reached again: what was said meanwhile may be lost."""
        for link in self._links_to(peer):
            link.patience = 0.0
            self._probe(link, now)

    def on_work_connection(self, peer: bytes, now: float) -> None:
        """A new work connection: what was under way on the old one may be lost."""
        for link in self._links_to(peer):
            if link.flights:
                link.patience = 0.0
                self._probe(link, now)

    def _links_to(self, peer: bytes) -> list[SendingLink]:
        return [link for link in self._links.values() if link.peer == peer]

    # --- sending

    def take(self, outbox: Outbox, now: float, wall: float) -> int:
        taken = outbox.take(self._origin, now, wall)
        self.dispatch(outbox, now)
        if taken:
            outbox.outgoing.wake()
        return taken

    def dispatch(self, outbox: Outbox, now: float) -> None:
        """Gives what is waiting to the links with the most free credit, fairly."""
        links = self._by_queue[outbox.queue]
        if not self.may_send or not links:
            return
        due = outbox.wake_delayed(now)
        if due is not None:
            self._timers.set((outbox, "delayed"), due, lambda when: self.dispatch(outbox, when))
        stalled: set[SendingLink] = set()
        while (piece := outbox.first()) is not None:
            size = piece.chunk.size_of(piece.start, piece.start + 1)
            able = [
                link for link in links.values() if not link.reserved and link not in stalled and link.may_send(size)
            ]
            if piece.alone:
                able = self._empty_one(links, able)
            if not able:
                break
            link = max(able, key=lambda link: link.free)
            most = min(link.free, -(-outbox.ready // len(able)))
            most_bytes = max(link.limit_bytes - link.sent_bytes, size)
            if not self._depart(link, outbox.pick(most, most_bytes), now):
                stalled.add(link)
        self._settle_demand(outbox, links, now)

    def _empty_one(self, links: dict[tuple[bytes, bytes], SendingLink], able: list[SendingLink]) -> list[SendingLink]:
        """A link with nothing under way for a message that goes alone; else one is reserved until it is empty."""
        empty = [link for link in able if not link.flights]
        if empty:
            return empty[:1]
        if able and not any(link.reserved for link in links.values()):
            min(able, key=lambda link: link.next - link.floor).reserved = True
        return []

    def _depart(self, link: SendingLink, pieces: list[Piece], now: float) -> bool:
        flight = link.depart(pieces)
        if not self._transmit(link, flight):
            self._undo(link, flight)
            self._timers.set_if_unset(
                (link.outbox, "stalled"), now + STALLED, lambda when: self.dispatch(link.outbox, when)
            )
            return False
        link.reserved = pieces[0].alone
        self._probe_later(link, now)
        return True

    def _probe_later(self, link: SendingLink, now: float) -> None:
        self._timers.set_if_unset((link, "probe"), now + PROBE_AFTER, lambda when: self._probe_again(link, when))

    def _undo(self, link: SendingLink, flight: Flight) -> None:
        del link.flights[flight.first]
        link.firsts.pop()
        link.next = flight.first
        link.sent_bytes -= flight.size
        link.outbox.unpick(flight.pieces)

    def _transmit(self, link: SendingLink, flight: Flight) -> bool:
        first = flight.pieces[0]
        parts = first.chunk.parts
        wanted = min(link.outbox.ready, WANTED_MOST)
        header = BatchHeader(
            addressee=link.peer,
            sender=self._origin.id,
            link=link.id,
            lane=0,
            attempt=first.attempt,
            flags=first.chunk.flags | (REDELIVERED if first.redelivered else 0),
            first=flight.first,
            length=flight.count,
            floor=link.floor,
            returned=link.returned,
            wanted=wanted,
        )
        items = [item for piece in flight.pieces for item in piece.chunk.items[piece.start : piece.stop]]
        frame = encode_batch(header, [piece.run() for piece in flight.pieces], items)
        if not self._send_work(link.peer, (frame, *parts)):
            return False
        flight.generation = self._generation_of(link.peer)
        link.told = max(link.told, link.next - 1 + link.returned + wanted)
        return True

    def _settle_demand(self, outbox: Outbox, links: dict[tuple[bytes, bytes], SendingLink], now: float) -> None:
        """Asks for credit where all that was asked for has been granted; gives back what nothing is waiting for."""
        for link in links.values():
            if outbox.ready:
                if link.free <= 0 and link.limit >= link.told:
                    link.patience = 0.0
                    self._probe(link, now)
                elif link.free <= 0:  # it was asked; the answer may be lost
                    self._probe_later(link, now)
            elif link.free > link.keep:
                link.returned += link.free - link.keep
                link.patience = 0.0
                self._probe(link, now)

    # --- receipts

    def on_state(self, peer: bytes, state: State, now: float) -> None:
        link = self._links.get(state.link)
        if link is None or link.peer != peer:
            self._send(peer, End(state.link))  # we ended it: the puller may forget it
            return
        outbox = link.outbox
        self._merge(link, state, now)
        if state.closed:
            self._end(link, charge=False)
            self._send(peer, End(link.id))
        elif link.flights:
            self._resend(link)
        if link.reserved and not link.flights:
            link.reserved = False
        if not self._needs_probe(link):
            self._timers.cancel((link, "probe"))
        self.dispatch(outbox, now)
        if outbox.outgoing.items:
            self.released.add(outbox)
        outbox.outgoing.wake()  # last: a caller that goes on at once would compete for the interpreter

    def _merge(self, link: SendingLink, state: State, now: float) -> None:
        if state.expected > link.next:
            return  # more than was sent: not a state of this link
        link.confirmed = True
        link.heard = max(link.heard, state.heard)
        news = state.expected > link.expected
        link.expected = max(link.expected, state.expected)
        link.limit = max(link.limit, state.limit)
        link.limit_bytes = max(link.limit_bytes, state.limit_bytes)
        link.handed = max(link.handed, min(state.handed, link.next - 1))
        link.keep = state.keep
        outbox = link.outbox
        for first, last, outcome in state.settled:
            pieces = link.settle(first, last)
            news |= bool(pieces)
            if outcome in (ACKED, STORED):
                for piece in pieces:
                    outbox.ack(piece)
            elif pieces:
                outbox.retry(pieces)
        for number, outcome, delay, _ in state.refused:
            for piece in link.settle(number, number):
                news = True
                if outcome == REJECTED:
                    outbox.drop(piece, "rejected")
                elif outcome == NACKED:
                    again = piece.slice(piece.start, piece.stop)
                    again.attempt = min(again.attempt + 1, ATTEMPT_MOST)
                    again.alone, again.nacked = False, True
                    outbox.retry([again], due=now + float(delay) if delay > 0 else None)
        if news:
            link.patience = 0.0

    def _resend(self, link: SendingLink) -> None:
        """What the present connection has not carried and the puller does not have goes out again, in order."""
        for flight in link.to_send_again(self._generation_of(link.peer)):
            if not self._transmit(link, flight):
                break  # the next state tries again

    # --- the end of links

    def on_gone(self, peer: bytes, now: float, *, crashed: bool) -> None:
        self._pullers.pop(peer, None)
        self.on_session(peer, now, crashed=crashed)

    def on_session(self, peer: bytes, now: float, *, crashed: bool) -> None:
        """The links to that peer are over; it may be back already for new ones."""
        touched: dict[str, Outbox] = {}
        for link in self._links_to(peer):
            touched[link.outbox.queue] = link.outbox
            self._end(link, charge=crashed)
        if peer in self._pullers:
            self._open_links(peer, now)
        for outbox in touched.values():
            self.dispatch(outbox, now)

    def _end(self, link: SendingLink, *, charge: bool) -> None:
        self._forget(link)
        if not charge:
            link.outbox.retry(list(link.in_flight()))
            return
        pieces: list[Piece] = []
        lowest = True
        for number, piece in link.unsettled():
            if number <= link.handed or (lowest and number < link.expected):
                piece.attempt = min(piece.attempt + 1, ATTEMPT_MOST)
                piece.alone = True
            lowest = False
            pieces.append(piece)
        link.outbox.retry(pieces)

    # --- reports

    def in_flight(self, outbox: Outbox) -> Iterator[Piece]:
        for link in self._by_queue[outbox.queue].values():
            yield from link.in_flight()

    def unsettled_ids(self, outbox: Outbox) -> list[str]:
        return outbox.unsettled_ids(self.in_flight(outbox))

    def pullers(self, queue: str) -> list[SendingLink]:
        return list(self._by_queue.get(queue, {}).values())

    def rows(self, now: float) -> list[list[object]]:
        """As they stand in this peer's roster entry: queue, messages held, seconds the oldest has been."""
        rows: list[list[object]] = []
        for outbox in self._outboxes.values():
            oldest = outbox.oldest(self.in_flight(outbox)) if outbox.held else None
            rows.append([outbox.queue, outbox.held, 0.0 if oldest is None else now - oldest])
        return rows

    def ledger(self) -> tuple[HeldQueue, ...]:
        return tuple(
            outbox.row(
                (link.peer, piece) for link in self._by_queue[outbox.queue].values() for piece in link.in_flight()
            )
            for outbox in self._outboxes.values()
        )
