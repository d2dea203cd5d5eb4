"""The pulling side of queues: links from every pusher, in order and once, into the inbox of each puller handle.

Events:
- probe: opens a link, tells the pusher's floor and demand, and is answered with the link's state.
- batch: in order it goes to the inbox, early it is held, known it is dropped.
- settled by the program: ack, nack, reject, give back; told to the pusher in the next state, and again until its
  floor says that it knows.
- pusher gone: its links are orphans. What was received is still delivered; nobody waits for the receipts, and a
  nacked message is delivered again here, as often as its pusher's `max_attempts` allow; then it is dropped. If the
  pusher comes back it has given those messages to others, so what was not yet handed out is dropped.
- overdue: what the program has held for longer than the puller's work timeout is nacked, see `overdue`.
- closing: what was received and not settled is returned, and the pusher confirms that the link is over.

Numbers are settled once: the first outcome counts; another that comes later is told to the log. A crash of this
process loses nothing: no receipt, no release.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from zq.core.credit import Prefetch, share_out
from zq.core.inbox import Inbox
from zq.core.lanes import WEIGHTS, Overtaking, Turns, share_out_by_lane
from zq.core.overdue import Overdue
from zq.core.ranges import Ranges, runs_of
from zq.core.spans import Spans, Trail, complement
from zq.core.timers import Timers
from zq.info import PulledQueue
from zq.record import dataclass, field
from zq.wire.batch import ATTEMPT_MOST, GAP, REDELIVERED, Batch, BatchHeader
from zq.wire.data import Malformed
from zq.wire.frames import ACKED, NACKED, REJECTED, RETURNED, STORED, Binding, Entry, Probe, Since, State
from zq.wire.kept import queue_of
from zq.wire.names import Filter
from zq.wire.plan import HIGH, NORMAL

SAMPLE_AFTER, SAMPLE_MOST = 0.05, 1.0  # s until the hand-out is reported, doubled up to while nothing moves
CLOSING_AFTER, CLOSING_MOST = 0.1, 1.0  # s until a closing state is repeated, doubled up to
DOUBT_AGAIN = 0.5  # s until a pusher is asked again whether it has ended a link
LOCAL = b"local"  # begins the id of the link on which messages of a pusher that is gone are delivered again
SETTLED_ROWS = 1_000  # ranges in one state; when there are more they take turns
REFUSED_ROWS = 200  # the same of numbers with a reason, which may take 4 KB each; a mailbox frame has room for 1 MiB


class Settled(NamedTuple):
    """A number the program settled other than by ack."""

    number: int
    outcome: int
    delay: float
    reason: str
    batch: Batch
    place: int  # of the message in the batch


@dataclass(eq=False, slots=True)
class ReceivingLink:
    """The receiving end of a link. Callers append to `acks` and `others`, then look at `noted`; everything else is the
    engine's."""

    id: bytes
    peer: bytes
    session: int
    puller: Puller
    lane: int = NORMAL
    queue: str = ""  # as its pusher calls it
    max_attempts: int = ATTEMPT_MOST  # of its pusher
    expected: int = 1
    held: dict[int, Batch] = field(default_factory=dict)
    acks: list[int] = field(default_factory=list)
    others: deque[Settled] = field(default_factory=deque)
    noted: bool = False  # the engine knows that there is something in them, and has not looked yet
    settled: Ranges = field(default_factory=Ranges)
    acked: Ranges = field(default_factory=Ranges)
    given_back: Ranges = field(default_factory=Ranges)
    stored: Ranges = field(default_factory=Ranges)
    refused: dict[int, Settled] = field(default_factory=dict)
    settled_count: int = 0
    floor: int = 1
    limit: int = 0
    sent: int = 0
    returned: int = 0
    wanted: int = 0
    first_bytes: int = 0
    bytes_taken: int = 0  # by the program
    keep: int = 0
    handed: int = 0
    orphan: bool = False
    ended: bool = False
    reminded: bool = False  # of credit that others wait for
    doubted: bool = False  # its pusher says that it pushes to this queue no more
    delayed: set[int] = field(default_factory=set)  # numbers delivered here after a while
    trail: Trail = field(default_factory=Trail)  # whose the numbers are
    turn: int = 0  # states sent
    news: bool = True  # the pusher does not know the present state

    @property
    def in_use(self) -> int:
        if self.ended:
            return 0
        promised = self.expected - 1 if self.orphan else self.limit - self.returned
        return promised - self.settled_count

    @property
    def unused(self) -> int:
        """Credit the pusher has and does not use, as far as we have heard."""
        return self.limit - self.sent - self.returned

    @property
    def all_settled(self) -> bool:
        return self.settled_count >= self.expected - 1

    def settle(self, first: int, last: int, into: Ranges) -> int:
        """Marks numbers that were received; returns for how many that is news."""
        count = 0
        for low, high in self.settled.add(max(first, 1), min(last, self.expected - 1)):
            into.add(low, high)
            count += high - low + 1
        self.settled_count += count
        self.news |= count > 0
        return count

    def forget_below(self, floor: int) -> None:
        if floor > self.floor:
            self.floor = floor
            self.trail.forget_below(floor)
            self.acked.forget_below(floor)
            self.given_back.forget_below(floor)
            self.stored.forget_below(floor)
            for number in [number for number in self.refused if number < floor]:
                del self.refused[number]

    def unsettled(self, spans: Spans) -> bool:
        """Puts in what is queued and handed out, by the origins' numbers; False when there is no room for all."""
        out_of_order = self.queued_here() if self.id.startswith(LOCAL) else None
        for low, high in complement(self.settled, self.floor, self.expected - 1):
            for first, count, origin, number in self.trail.origins(low, high):
                handed = min(max(self.handed - first + 1, 0), count)
                if out_of_order is not None:
                    handed = int(first not in out_of_order)  # one by one, as they were noted
                for start, stop, state in ((0, handed, "handed out"), (handed, count, "queued")):
                    if start < stop and not spans.add(origin, number + start, number + stop - 1, state, self.peer):
                        return False
        return True

    def queued_here(self) -> set[int]:
        """The numbers of a link made here that are not handed out: those with a delay are overtaken by others."""
        inbox = self.puller.inbox
        waiting = [batch for batch in list(inbox.arrived) if isinstance(batch, Batch)]
        if isinstance(inbox.handing.batch, Batch) and inbox.handing.waiting:
            waiting.append(inbox.handing.batch)
        return self.delayed | {batch.first + batch.skip for batch in waiting if batch.link is self}

    def state(self, limit_bytes: int, *, closed: bool) -> State:
        """As it is; `closed` is said only with everything that was settled, as it is the last word."""
        rows = [[low, high, ACKED] for low, high in self.acked]
        rows += [[low, high, RETURNED] for low, high in self.given_back]
        rows += [[low, high, STORED] for low, high in self.stored]
        refused = [[item.number, item.outcome, item.delay, item.reason] for item in self.refused.values()]
        closed = closed and len(rows) <= SETTLED_ROWS and len(refused) <= REFUSED_ROWS
        rows, refused = self._turn(rows, SETTLED_ROWS), self._turn(refused, REFUSED_ROWS)
        self.turn += 1
        self.trail.tidy(self.settled)
        heard = self.sent + self.returned
        return State(
            self.id,
            self.lane,
            self.expected,
            rows,
            refused,
            self.limit,
            limit_bytes,
            self.keep,
            self.handed,
            closed,
            heard,
        )

    def _turn(self, rows: list[list[Any]], most: int) -> list[list[Any]]:
        """Those whose turn it is, for one state."""
        start = self.turn * most % len(rows) if len(rows) > most else 0
        return (rows[start:] + rows[:start])[:most]


@dataclass(eq=False, slots=True)
class Puller:
    """One puller handle."""

    id: bytes
    queue: str
    inbox: Inbox
    prefetch: Prefetch
    prefetch_bytes: int
    overdue: Overdue | None = None  # with a work timeout
    hung: bool = False  # its program has taken nothing for that long: it gets nothing more
    stream: bytes | None = None  # it is the way into a spool's stream
    full: bool = False  # of a spool: it takes nothing more
    hidden: bool = False  # of a spool: nobody is to begin to use it
    cursor: str | None = None  # it is a durable subscription's: the name of its position at spools
    filters: tuple[Filter, ...] = ()  # of topics that the queue is bound to
    created: float = 0.0  # this peer's clock
    links: dict[bytes, ReceivingLink] = field(default_factory=dict)
    turns: Turns | None = None  # of the lanes, once there is more than the normal one
    overtaking: Overtaking = field(default_factory=Overtaking)
    closing: bool = False
    closing_patience: float = CLOSING_AFTER
    sample: float = SAMPLE_AFTER
    handing: Batch | None = None  # the newest that was taken, as last looked; when the next one is, it is whole
    turn: int = 0
    delayed: int = 0  # nacked here with a delay, their pusher being gone
    received: int = 0
    acked: int = 0
    nacked: int = 0
    rejected: int = 0
    given_back: int = 0

    @property
    def queued(self) -> int:
        return self.inbox.queued + self.delayed

    def is_of(self, queue: str) -> bool:
        """Whether a pusher of that queue is one of its own."""
        return queue == self.queue or (self.cursor is not None and queue.startswith(self.queue))

    def row(self) -> PulledQueue:
        settled = self.acked + self.nacked + self.rejected + self.given_back
        queued = min(self.queued, self.received - settled)
        spans = Spans()
        for link in self.links.values():
            if not link.unsettled(spans):
                break
        return PulledQueue(
            queue=self.queue,
            received=self.received,
            queued=queued,
            handed_out=self.received - queued - settled,
            acked=self.acked,
            nacked=self.nacked,
            rejected=self.rejected,
            returned=self.given_back,
            spans=spans.rows(),
        )


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
        self._tell = tell
        self._send = send
        self._session_of = session_of  # the session the peer announced
        self._pullers: dict[bytes, Puller] = {}
        self._links: dict[bytes, ReceivingLink] = {}
        self._pushed: dict[bytes, set[str]] = {}  # peer: queues that it pushes to, by its newest entry

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
            self._settle_other(batch.link, settled, now)

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
        link.news = True
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
            self._lend(puller.overdue, link, rest, now)
        puller.sample = SAMPLE_AFTER
        self._timers.set_if_unset((puller, "sample"), now + SAMPLE_AFTER, lambda when: self._sample(puller, when))

    # --- work timeouts

    def _lend(self, overdue: Overdue, link: ReceivingLink, batch: Batch, now: float) -> None:
        overdue.on_batch(link, batch)
        puller = link.puller
        self._timers.set_if_unset((puller, "work"), now + overdue.until_look, lambda when: self._look(puller, when))

    def _look(self, puller: Puller, now: float) -> None:
        overdue = puller.overdue
        if overdue is None or puller.closing:
            return
        self.on_taken(puller, now)
        late = overdue.look(puller.inbox.queued, now)
        reason = f"held for longer than the work_timeout of {overdue.seconds:g} s"
        for link, number, batch in late:
            self._settle_other(link, Settled(number, NACKED, 0.0, reason, batch, number - batch.first), now)
        if late:
            self._tell(f"{len(late)} of {puller.queue} {reason}: somebody else gets them")
        if (late and not puller.inbox.queued) or overdue.is_stalled(now):
            self._hang(puller)
        if overdue.pending:
            self._timers.set((puller, "work"), now + overdue.until_look, lambda when: self._look(puller, when))

    def _hang(self, puller: Puller) -> None:
        """What it has not handed out goes back, and it gets no more, until somebody waits for a message there."""
        puller.hung = puller.inbox.stalled = True
        for link in puller.links.values():
            if not link.orphan:
                self._take_back(link, link.handed + 1)
        puller.inbox.wake()

    def _come_round(self, puller: Puller) -> None:
        puller.hung = False
        for link in puller.links.values():
            link.news = True  # there is credit again

    def on_end(self, peer: bytes, link_id: bytes) -> None:
        """The pusher has ended the link. What the program has of it is settled in vain."""
        link = self._links.get(link_id)
        if link is not None and link.peer == peer:
            self._take_back(link)
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

    def _take_back(self, link: ReceivingLink, first: int = 1) -> None:
        """What was not handed out yet leaves the inbox: others get it. All from `first` on is settled as returned."""
        inbox = link.puller.inbox
        link.puller.given_back += link.settle(first, link.expected - 1, link.given_back)
        for batch in [item for item in list(inbox.arrived) if isinstance(item, Batch) and item.link is link]:
            try:
                inbox.arrived.remove(batch)
            except ValueError:
                continue  # a caller was faster
            inbox.messages -= batch.live
            inbox.bytes -= batch.size
        if isinstance(inbox.handing.batch, Batch) and inbox.handing.batch.link is link:
            inbox.handing.drop()

    # --- from the program

    def on_taken(self, puller: Puller, now: float) -> None:
        """Callers have taken batches from the inbox, or settled messages."""
        for batch in puller.inbox.settle_taken():
            if isinstance(batch, Batch):
                link: ReceivingLink = batch.link
                link.bytes_taken += batch.size
                link.handed = max(link.handed, batch.first + batch.skip - 1)
                link.news = True
                self._taken_whole(puller)
                puller.handing = batch
        self._note_handed(puller)
        for link in list(puller.links.values()):
            link.noted = False  # before looking: who appends from here on says so again
            if link.acks or link.others:
                self._drain(link, now)
        if puller.hung and not puller.inbox.stalled:
            self._come_round(puller)

    def _note_handed(self, puller: Puller) -> bool:
        """How far each link's messages were handed out; True when that moved."""
        handing = puller.inbox.handing
        if not isinstance(handing.batch, Batch):
            return False
        handed, link = handing.handed, handing.batch.link
        if handed <= link.handed:
            return False
        link.handed = handed
        link.news = True
        return True

    @staticmethod
    def _taken_whole(puller: Puller) -> None:
        """The program has gone on to the next batch, which may be of another link."""
        batch, puller.handing = puller.handing, None
        if batch is not None and batch.first + batch.stop - 1 > batch.link.handed:
            batch.link.handed = batch.first + batch.stop - 1
            batch.link.news = True

    def _sample(self, puller: Puller, now: float) -> None:
        """A program that holds on to a message for long: its pusher should know which one it is."""
        if puller.closing:
            return
        if self._note_handed(puller):
            puller.sample = SAMPLE_AFTER
        else:
            puller.sample = min(puller.sample * 2, SAMPLE_MOST)
        if puller.queued:
            self._timers.set((puller, "sample"), now + puller.sample, lambda when: self._sample(puller, when))

    def _drain(self, link: ReceivingLink, now: float) -> None:
        puller, acks = link.puller, link.acks[:]
        del link.acks[: len(acks)]
        count, acked = len(acks), 0
        for first, last in runs_of(acks):
            acked += link.settle(first, last, link.acked)
        puller.acked += acked
        others = 0
        while link.others:
            item = link.others.popleft()
            others += self._settle_other(link, item, now)
            count += 1
        if count > acked + others:
            self._tell(f"{count - acked - others} of {puller.queue} settled too late: somebody else has them")
        puller.prefetch.settled(acked + others, now)
        if link.orphan:
            for other in puller.links.values():
                other.news = True  # there may be credit for them now
            if link.all_settled:
                self._remove(link)

    def _settle_other(self, link: ReceivingLink, item: Settled, now: float) -> int:
        puller = link.puller
        if item.outcome == RETURNED:
            count = link.settle(item.number, item.number, link.given_back)
            puller.given_back += count
            if count and link.orphan:
                self._deliver_here(link, item, now)
            return count
        count = link.settle(item.number, item.number, Ranges())
        if count:
            link.refused[item.number] = item
            if item.outcome == NACKED:
                puller.nacked += 1
                if link.orphan and item.batch.attempt < link.max_attempts:
                    self._deliver_here(link, item, now)
                elif link.orphan:
                    times = f"{item.batch.attempt} attempts failed"
                    self._tell(f"a message of {puller.queue} is dropped: {times}, and the peer that pushed it is gone")
            else:
                puller.rejected += 1
        return count

    def _deliver_here(self, link: ReceivingLink, item: Settled, now: float) -> None:
        """The pusher is gone: nobody else delivers it again, so this peer does, on a link of its own making."""
        puller = link.puller
        local_id = LOCAL + link.peer
        local = puller.links.get(local_id)
        if local is None:
            local = puller.links[local_id] = ReceivingLink(
                id=local_id,
                peer=link.peer,
                session=link.session,
                puller=puller,
                max_attempts=link.max_attempts,
                orphan=True,
            )
        again = item.batch.view(item.place, item.place + 1)
        again.first = local.expected - item.place  # so that its one message has the local link's next number
        again.attempt = min(again.attempt + (item.outcome == NACKED), ATTEMPT_MOST)
        again.flags |= REDELIVERED
        again.link = local
        if puller.overdue is not None:
            self._lend(puller.overdue, local, again, now)
        number = local.expected
        local.trail.note(number, number, [item.batch.run_of(item.place)])
        local.trail.tidy(local.settled)  # nobody is told the state of that link
        local.expected += 1
        local.limit += 1
        puller.received += 1
        if item.delay > 0:
            puller.delayed += 1
            local.delayed.add(number)
            self._timers.set(
                (local, number), now + item.delay, lambda when: self._deliver_delayed(local, number, again)
            )
        else:
            puller.inbox.put(again)

    @staticmethod
    def _deliver_delayed(local: ReceivingLink, number: int, batch: Batch) -> None:
        local.delayed.remove(number)
        local.puller.delayed -= 1
        local.puller.inbox.put(batch)

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
        self._take_back(link)
        self._remove(link)

    # --- closing

    def close(self, puller: Puller, now: float) -> None:
        """Gives back what is not settled and tells every pusher; `is_closed` says when all have confirmed."""
        self.on_taken(puller, now)
        puller.closing = True
        self._timers.cancel((puller, "sample"))
        self._timers.cancel((puller, "work"))
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

    def report(self) -> None:
        """Sends the states that have news; called once after each turn."""
        for puller in self._pullers.values():
            links = [link for link in puller.links.values() if not link.orphan]
            if not any(link.news for link in links):
                continue
            if not puller.closing:
                puller.turn += 1
                left = sum(link.in_use for link in puller.links.values() if link.orphan)
                size, turn = 0 if puller.hung or puller.full else puller.prefetch.size - left, puller.turn % len(links)
                if puller.turns is None:
                    raised: list[Any] = share_out(size, links, turn)
                else:
                    raised = share_out_by_lane(size, links, turn, puller.turns)
                for link in raised:
                    link.news = True
                self._reclaim(links)
            for link in links:
                if link.news:
                    link.news = False
                    self._send(
                        link.peer, link.state(self._limit_bytes(puller, link, len(links)), closed=puller.closing)
                    )

    @staticmethod
    def _reclaim(links: list[ReceivingLink]) -> None:
        """While somebody waits for credit, those who have more than they may keep are told, once for each probe.

        They may not know of it, or keep what they could when there were fewer of them.
        """
        if any(link.wanted and link.unused <= 0 for link in links):
            for link in links:
                if link.unused > link.keep and not link.reminded:
                    link.reminded = link.news = True

    def _limit_bytes(self, puller: Puller, link: ReceivingLink, active: int) -> int:
        return link.bytes_taken + max(puller.prefetch_bytes // active, link.first_bytes)

    def ledger(self) -> tuple[PulledQueue, ...]:
        return tuple(puller.row() for puller in self._pullers.values() if puller.stream is None)
