"""The pulling side of queues: links from every pusher, in order and once, into the inbox of each puller handle.

Events:
- probe: opens a link, tells the pusher's floor and demand, and is answered with the link's state.
- batch: in order it goes to the inbox, early it is held, known it is dropped.
- settled by the program (see `settlement`): ack, nack, reject, give back; told to the pusher in the next state (see
  `receipts`), and again until its floor says that it knows.
- pusher gone: its links are orphans. What was received is still delivered; nobody waits for the receipts, and a
  nacked message is delivered again here, as often as its pusher's `max_attempts` allow; then it is dropped. If the
  pusher comes back it has given those messages to others, so what was not yet handed out is dropped.
- closing: what was received and not settled is returned, and the pusher confirms that the link is over.

Numbers are settled once: the first outcome counts; another that comes later is told to the log. A crash of this
process loses nothing: no receipt, no release.

It is one module, since all of it is about the same table of pullers and their links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from zq.core.credit import Prefetch
from zq.core.inbox import Inbox
from zq.core.lanes import WEIGHTS, Turns
from zq.core.overdue import Overdue
from zq.core.puller import CLOSING_MOST, Puller
from zq.core.receipts import Receipts
from zq.core.receiving import ReceivingLink, Settled
from zq.core.settlement import Settlement
from zq.core.timers import Timers
from zq.info import PulledQueue
from zq.wire.batch import GAP, Batch, BatchHeader
from zq.wire.data import Malformed
from zq.wire.frames import REJECTED, Binding, Entry, Probe, Since, State
from zq.wire.kept import queue_of
from zq.wire.names import Filter
from zq.wire.plan import HIGH, NORMAL

DOUBT_AGAIN = 0.5  # s until a pusher is asked again whether it has ended a link


class Pulling:
    """All puller handles of this peer."""

    def __init__(
        self,
        timers: Timers,
        send: Callable[[bytes, State | Since], None],
        session_of: Callable[[bytes], int],
        tell: Callable[[str], None] = lambda what: None,
    ) -> None:
        """`tell` hears of what an operator should know."""
        self._timers = timers
        self._send = send
        self._session_of = session_of  # the session the peer announced
        self._pullers: dict[bytes, Puller] = {}
        self._links: dict[bytes, ReceivingLink] = {}
        self._pushed: dict[bytes, set[str]] = {}  # peer: queues that it pushes to, by its newest entry
        self._settlement = Settlement(timers, self._remove, tell)
        self._receipts = Receipts(timers, send)

    def __iter__(self) -> Iterator[Puller]:
        return iter(self._pullers.values())

    def open(
        self,
        id: bytes,
        queue: str,
        inbox: Inbox,
        *,
        prefetch: int | None,
        prefetch_bytes: int,
        work_timeout: float | None = None,
        filters: Iterable[Filter] = (),
        now: float = 0.0,
    ) -> Puller:
        overdue = None if work_timeout is None else Overdue(work_timeout)
        puller = Puller(
            id=id,
            queue=queue,
            inbox=inbox,
            prefetch=Prefetch(prefetch),
            prefetch_bytes=prefetch_bytes,
            overdue=overdue,
        )
        puller.filters, puller.created = tuple(filters), now
        self._pullers[id] = puller
        return puller

    def rows(self) -> list[list[object]]:
        return [
            [puller.queue, puller.id]
            for puller in self._pullers.values()
            if not puller.closing and puller.stream is None and puller.cursor is None
        ]

    def spools(self) -> list[list[object]]:
        """As they stand there: queue, puller, stream, whether it takes no more."""
        return [
            [puller.queue, puller.id, puller.stream, int(puller.full)]
            for puller in self._pullers.values()
            if puller.stream is not None and not puller.hidden and not puller.closing
        ]

    def store(self, batch: Batch) -> int:
        """A spool has what came with it. Returns for how many messages that is news: the others were given back."""
        link: ReceivingLink = batch.link
        link.bytes_taken += batch.size
        link.news = True
        count = link.settle(batch.first + batch.skip, batch.first + batch.stop - 1, link.stored)
        if link.orphan and link.all_settled and not link.ended:
            self._remove(link)
        return count

    def give_back(self, batch: Batch) -> None:
        """A spool could not store it."""
        link: ReceivingLink = batch.link
        link.bytes_taken += batch.size
        link.news = True
        link.puller.given_back += link.settle(batch.first + batch.skip, batch.first + batch.stop - 1, link.given_back)

    def reject(self, batch: Batch, reason: str, now: float) -> None:
        """A spool cannot read it."""
        batch.link.bytes_taken += batch.size
        for place in range(batch.skip, batch.stop):
            settled = Settled(batch.first + place, REJECTED, 0.0, reason, batch, place)
            self._settlement.settle_other(batch.link, settled, now)

    def binds(self) -> list[list[object]]:
        """As they stand in this peer's roster entry: queue, puller, filters of the topics that it binds."""
        return [
            [puller.queue, puller.id, [filter.text for filter in puller.filters]]
            for puller in self._pullers.values()
            if puller.filters and not puller.closing
        ]

    def on_binding(self, peer: bytes, question: Binding, now: float) -> None:
        """A publisher asks when the puller came into being, by its clock. Of one that is closing the entry tells."""
        puller = self._pullers.get(question.puller)
        if puller is not None and not puller.closing and puller.is_of(question.queue):
            began = question.clock - (now - puller.created)
            self._send(peer, Since(question.queue, question.puller, began))

    # --- from the pusher

    def on_probe(self, peer: bytes, probe: Probe, now: float) -> None:
        if probe.session < self._session_of(peer):
            return  # of links that were over before
        link = self._links.get(probe.link)
        if link is None:
            puller = self._pullers.get(probe.puller)
            if puller is None or puller.closing or not puller.is_of(probe.queue):
                self._send(peer, State(probe.link, probe.lane, 1, [], [], 0, 0, 0, 0, True, 0))
                return
            if probe.lane not in WEIGHTS:
                raise Malformed(f"lane {probe.lane} is none")
            link = ReceivingLink(
                id=probe.link,
                peer=peer,
                session=probe.session,
                puller=puller,
                lane=probe.lane,
                queue=probe.queue,
                max_attempts=probe.max_attempts,
            )
            if link.lane != NORMAL and puller.turns is None:
                puller.turns = Turns()
            self._links[link.id] = puller.links[link.id] = link
            if probe.queue not in self._pushed.get(peer, (probe.queue,)):
                link.doubted = True  # a probe that was overtaken by the end of its link, or overtook the entry
                self._ask_whether_over(link, now)
        if link.peer != peer or link.orphan:
            return
        if link.lane != probe.lane:
            raise Malformed(f"a probe of lane {probe.lane} on a link of lane {link.lane}")
        if probe.sent + probe.returned >= link.sent + link.returned:
            link.max_attempts = probe.max_attempts
        self._demand(link, probe.sent, probe.returned, probe.wanted)
        link.first_bytes = probe.first_bytes
        for other in link.puller.links.values():
            other.reminded = False
        link.forget_below(min(probe.floor, link.expected))
        link.news = True

    def _demand(self, link: ReceivingLink, sent: int, returned: int, wanted: int) -> None:
        """The newest word counts: sent and returned only grow."""
        if (sent + returned, sent) >= (link.sent + link.returned, link.sent):
            link.sent = max(link.sent, sent)
            link.returned = max(link.returned, min(returned, link.limit))
            link.wanted = wanted

    def on_batch(self, header: BatchHeader, batch: Batch, now: float) -> bool:
        """False when it is more than the link allows. What belongs to a link that is over is dropped."""
        link = self._links.get(header.link)
        if link is None or link.peer != header.sender or link.orphan or link.puller.closing:
            return True
        if batch.last + header.returned > link.limit or header.lane != link.lane:
            return False
        batch.link = link
        if link.puller.cursor is None:
            batch.queue = link.puller.queue
            batch.flags &= ~GAP  # of a queue there are none
        link.forget_below(min(header.floor, link.expected))
        self._demand(link, batch.last, header.returned, header.wanted)
        link.soon = True
        if batch.first > link.expected:
            link.held.setdefault(batch.first, batch)
            return True
        self._accept(link, batch, now)
        while link.held and (early := link.held.pop(min(link.held), None)) is not None:
            if early.first > link.expected:
                link.held[early.first] = early
                break
            self._accept(link, early, now)
        return True

    def _accept(self, link: ReceivingLink, batch: Batch, now: float) -> None:
        if batch.last < link.expected:
            return  # had it: the pusher could not know
        rest = batch.after(link.expected)
        link.expected = batch.last + 1
        link.trail.note(batch.first, batch.last, batch.runs)
        puller = link.puller
        puller.received += rest.live
        if link.lane == HIGH:
            puller.overtaking.put(puller.inbox, rest)
        else:
            puller.inbox.put(rest)
        if puller.overdue is not None:
            self._settlement.lend(puller.overdue, link, rest, now)
        self._settlement.sample_later(puller, now)

    def on_end(self, peer: bytes, link_id: bytes) -> None:
        """The pusher has ended the link. What the program has of it is settled in vain."""
        link = self._links.get(link_id)
        if link is not None and link.peer == peer:
            self._settlement.take_back(link)
            self._remove(link)

    def _remove(self, link: ReceivingLink) -> None:
        link.ended = True
        self._links.pop(link.id, None)
        link.puller.links.pop(link.id, None)
        self._timers.cancel((link, "doubt"))
        for number in link.delayed:
            self._timers.cancel((link, number))
        link.puller.delayed -= len(link.delayed)
        link.delayed.clear()

    # --- from the program

    def on_taken(self, puller: Puller, now: float) -> None:
        """Callers have taken batches from the inbox, or settled messages."""
        self._settlement.on_taken(puller, now)

    # --- pushers coming and going

    def _links_of(self, peer: bytes) -> list[ReceivingLink]:
        """Those included that were made here."""
        return [link for puller in self._pullers.values() for link in puller.links.values() if link.peer == peer]

    def on_proven(self, peer: bytes) -> None:
        """Its mailbox was lost and is reached again: what was said meanwhile may be lost."""
        for link in self._links_of(peer):
            link.news = True

    def on_entry(self, peer: bytes, entry: Entry, now: float) -> None:
        """Links of queues that it pushes to no more are over; if it has not told us, that was lost."""
        pushed = self._pushed[peer] = {row[0] for row in entry.pushes}
        pushed |= {queue_of(row[0], stream) for _, stream, _, rows in entry.streams for row in rows}
        for link in self._links_of(peer):
            link.doubted = link.queue not in pushed
            self._ask_whether_over(link, now)

    def _ask_whether_over(self, link: ReceivingLink, now: float) -> None:
        if link.doubted and not (link.ended or link.orphan):
            link.news = True
            self._timers.set((link, "doubt"), now + DOUBT_AGAIN, lambda when: self._ask_whether_over(link, when))

    def on_gone(self, peer: bytes) -> None:
        self._pushed.pop(peer, None)
        for link in self._links_of(peer):
            link.orphan = True
            link.held.clear()
            if link.all_settled or link.puller.closing:
                self._remove(link)

    def on_session(self, peer: bytes) -> None:
        """The pusher had declared us gone, and is back: its old links are over."""
        for link in self._links_of(peer):
            self._end(link)

    def on_back(self, peer: bytes) -> None:
        """We had declared the pusher gone, and it is back: by now it has given to others what it had left here."""
        for link in self._links_of(peer):
            if link.orphan:
                self._end(link)

    def _end(self, link: ReceivingLink) -> None:
        link.orphan = True
        self._settlement.take_back(link)
        self._remove(link)

    # --- closing

    def close(self, puller: Puller, now: float) -> None:
        """Gives back what is not settled and tells every pusher; `is_closed` says when all have confirmed."""
        self.on_taken(puller, now)
        puller.closing = True
        self._timers.cancel((puller, "sample"))
        self._timers.cancel((puller, "work"))
        self._timers.cancel((puller, "late"))
        for link in list(puller.links.values()):
            link.held.clear()
            puller.given_back += link.settle(1, link.expected - 1, link.given_back)
            link.news = True
            if link.orphan:
                self._remove(link)
        puller.inbox.arrived.clear()
        puller.inbox.handing.drop()
        puller.inbox.messages = puller.inbox.bytes = 0
        self._repeat_closing(puller, now)

    def _repeat_closing(self, puller: Puller, now: float) -> None:
        for link in puller.links.values():
            link.news = True
        if puller.links:
            self._timers.set(
                (puller, "closing"), now + puller.closing_patience, lambda when: self._repeat_closing(puller, when)
            )
            puller.closing_patience = min(puller.closing_patience * 2, CLOSING_MOST)

    def is_closed(self, puller: Puller) -> bool:
        return not puller.links

    def forget(self, puller: Puller) -> None:
        for link in list(puller.links.values()):
            self._remove(link)
        self._timers.cancel((puller, "closing"))
        self._pullers.pop(puller.id, None)

    # --- states

    def report(self, now: float) -> None:
        """Sends the states that are due; called once after each turn."""
        self._receipts.report(self._pullers.values(), now)

    def ledger(self) -> tuple[PulledQueue, ...]:
        return tuple(puller.row() for puller in self._pullers.values() if puller.stream is None)
