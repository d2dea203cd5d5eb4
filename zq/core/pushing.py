"""The pushing side of queues: outboxes, and the links on which their messages go to pullers.

Events:
- take: callers' messages enter the outbox; dispatch gives them to the links with the most free credit.
- entry: a peer names its pullers; each gets a link, opened by a probe.
- state: what arrived, what is settled and how, how much more may be sent.
- work connection made anew: a probe asks where the puller stands, its state brings the resends.
- a lane used for the first time: each puller gets a link for it, as if it had come just now.
- a delayed message is due, a ttl is over: the timer of the outbox looks at it, before anything is sent.
- gone, goodbye: the links to that peer end; what was unsettled is waiting again. A crash charges an attempt to what
  had been handed to the program, and always to the lowest unsettled number that had arrived; a charged message goes
  alone from then on, so that one that kills its worker takes no others along.
- a message that is rejected, or whose last attempt has failed, is dead: it leaves its outbox for that of the dead
  letters of its queue (`dead`).

A message may kill its worker before the worker's engine has told anybody that it came. To its pusher that looks as if
it had never arrived, which is nobody's fault; so the first time nothing is charged, but everything that was under way
is *doubted*. If that happens again to what is doubted, it goes alone from then on, and the lowest number is charged:
so a message ends after two crashes more than `max_attempts`, however fast it kills, and whatever is beside it.

While a spool of the queue is there, all goes to it and nothing to pullers; of several to the one with the smallest
stream. An outbox *turns* to another path once everything that it has sent has arrived: nothing that comes by the new
one overtakes it. Old links are *retired*: they bring receipts, and nothing is sent on them. A spool that is lost has
killed no program: nothing is charged. A spool's own outboxes (`relays`) always go to pullers.

Nothing is sent before the peer knows its realm (`may_send`), so that nobody is passed over.

It is one module, since all of it is about the same tables of outboxes and links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from zq.core.dead import new_dead_outbox
from zq.core.dispatch import Dispatch, Pools
from zq.core.failures import Failures
from zq.core.link import SendingLink
from zq.core.outbox import MAX_ATTEMPTS, Outbox, Piece
from zq.core.paths import Paths
from zq.core.pool import Pool
from zq.core.probing import Probing
from zq.core.timers import Timers
from zq.core.topics import Origin
from zq.info import HeldQueue
from zq.wire.batch import Parts
from zq.wire.frames import ACKED, NACKED, REJECTED, STORED, End, Entry, Probe, State
from zq.wire.plan import NORMAL


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
        *,
        name_of: Callable[[bytes], str] = lambda peer: "",
        tell: Callable[[str], None] = lambda what: None,
        relays: bool = False,
    ) -> None:
        """`generation_of` counts the work connections to a peer; `send_work` is False when it takes nothing now.
        `name_of` is what a peer is called, `tell` hears of what an operator should know."""
        self._origin = origin
        self._timers = timers
        self._draw = draw
        self._send = send
        self._generation_of = generation_of
        self._session_of = session_of
        self.name_of = name_of
        self._tell = tell
        self._outboxes: dict[str, Outbox] = {}
        self._links: dict[bytes, SendingLink] = {}
        self._pools: Pools = {}
        self._pullers: dict[bytes, list[list[object]]] = {}  # rows of each peer's entry
        self.relays = relays
        self.paths = Paths()
        self._retired: set[SendingLink] = set()
        self.may_send = False
        self.released: set[Outbox] = set()  # have room again: the owner takes what callers left, and counts
        self.opened = False  # there is a queue more that the owner does not know of
        self.probing = Probing(timers, send)
        self.ahead = 0.0  # s that the wall clock is before ours; kept by the owner
        self._failures = Failures(name_of, lambda now: now + self.ahead, self._letters_of, self.dispatch)
        self._dispatch = Dispatch(
            origin.id, timers, self._pools, self.probing, send_work, generation_of, self.links, self.dispatch
        )

    def __iter__(self) -> Iterator[Outbox]:
        return iter(self._outboxes.values())

    def open(
        self, queue: str, *, window: int, window_bytes: int, max_attempts: int = MAX_ATTEMPTS, now: float
    ) -> Outbox:
        return self._open(Outbox(queue=queue, window=window, window_bytes=window_bytes, max_attempts=max_attempts), now)

    def _open(self, outbox: Outbox, now: float) -> Outbox:
        self._outboxes[outbox.queue] = outbox
        self._pools[outbox.queue] = {NORMAL: Pool()}
        outbox.path = self.paths.spool_of(outbox)
        for peer in self._pullers:
            self._open_links(peer, now)
        return outbox

    def open_letters(self, name: str, now: float) -> Outbox:
        """The dead letters of a queue; theirs is `name`."""
        return self._open(new_dead_outbox(name), now)

    def _letters_of(self, name: str, told: str, now: float) -> Outbox:
        letters = self._outboxes.get(name)
        if letters is None:
            letters = self.open_letters(name, now)
            self.opened = True
            self._tell(told)
        return letters

    def find(self, queue: str) -> Outbox | None:
        return self._outboxes.get(queue)

    def dead_outboxes(self) -> list[Outbox]:
        """Those of dead letters, by name."""
        return sorted((outbox for outbox in self if outbox.dead), key=lambda outbox: outbox.queue)

    def close(self, outbox: Outbox) -> None:
        """Forgets the queue; what it still holds is the caller's to report."""
        outbox.outgoing.limit = -1
        for link in self.links(outbox.queue):
            self._forget(link)
            self._send(link.peer, End(link.id))
        del self._pools[outbox.queue]
        del self._outboxes[outbox.queue]
        for what in ("delayed", "stalled"):
            self._timers.cancel((outbox, what))
        self.released.discard(outbox)

    # --- links

    def on_entry(self, peer: bytes, entry: Entry, now: float) -> None:
        if not self.relays:
            self.paths.note(peer, entry.spools)
            self._turn_all(now)
        self.on_pullers(peer, entry.pulls, now)

    def on_pullers(self, peer: bytes, rows: list[list[object]], now: float) -> None:
        """Its pullers are these: queue and id."""
        self._pullers[peer] = rows
        self._open_links(peer, now)

    def _open_links(self, peer: bytes, now: float) -> None:
        for queue, puller in self._pullers[peer]:
            assert isinstance(puller, bytes)
            outbox = self._outboxes.get(str(queue))
            if outbox is not None and outbox.path is None:
                self._open_links_to(outbox, peer, puller, now)
        for outbox in self._outboxes.values():
            if outbox.path is not None and outbox.path[0] == peer:
                self._open_links_to(outbox, *outbox.path, now)

    def _open_links_to(self, outbox: Outbox, peer: bytes, puller: bytes, now: float) -> None:
        for lane, pool in self._pools[outbox.queue].items():
            if (peer, puller) not in pool.links:
                self._open_link(outbox, lane, pool, peer, puller, now)

    # --- spools

    def _turn_all(self, now: float) -> None:
        for outbox in self._outboxes.values():
            outbox.turning = self.paths.spool_of(outbox) != outbox.path
            if outbox.turning:
                self.dispatch(outbox, now)

    def _turn(self, outbox: Outbox, now: float) -> bool:
        """Takes the other path if everything has arrived on this one."""
        path = self.paths.spool_of(outbox)
        if path == outbox.path:
            outbox.turning = False
            return True
        links = self.links(outbox.queue)
        if any(link.expected < link.next for link in links if not link.retired):
            return False
        if outbox.taken > outbox.waiting:  # something has gone the other way
            where = "pullers, and no more to a spool" if path is None else f"the spool of {self.name_of(path[0])!r}"
            self._tell(f"messages of {outbox.queue} go to {where}")
        outbox.go_by(path, now)
        for link in links:
            if not link.retired:
                self._retire(link, now)
        for peer in self._pullers:
            self._open_links(peer, now)
        return True

    def _retire(self, link: SendingLink, now: float) -> None:
        if not link.flights:
            self._forget(link)
            self._send(link.peer, End(link.id))
            return
        self._pools[link.outbox.queue][link.lane].remove(link)
        self._retired.add(link)
        link.retired = True
        link.returned += max(link.free, 0)
        self.probing.probe(link, now)

    def _open_link(self, outbox: Outbox, lane: int, pool: Pool, peer: bytes, puller: bytes, now: float) -> None:
        session = self._session_of(peer)
        link = SendingLink(id=self._draw(16), outbox=outbox, peer=peer, puller=puller, session=session, lane=lane)
        link.spool = outbox.path is not None
        self._links[link.id] = pool.links[peer, puller] = link
        self.probing.probe(link, now)

    def _open_lanes(self, outbox: Outbox, now: float) -> None:
        """Those that are used for the first time, to all pullers."""
        pools = self._pools[outbox.queue]
        for lane in outbox.lanes[len(pools) - 1 :]:
            pools[lane] = Pool()
            for peer, puller in pools[NORMAL].links:
                self._open_link(outbox, lane, pools[lane], peer, puller, now)

    def _forget(self, link: SendingLink) -> None:
        self._links.pop(link.id, None)
        self._retired.discard(link)
        self._pools[link.outbox.queue][link.lane].remove(link)
        self.probing.cancel(link)

    def tell_options(self, outbox: Outbox, now: float) -> None:
        """They have changed."""
        for link in self.links(outbox.queue):
            self.probing.probe(link, now)

    def on_proven(self, peer: bytes, now: float) -> None:
        """Its mailbox was lost and is reached again: what was said meanwhile may be lost."""
        for link in self._links_to(peer):
            self.probing.at_once(link, now)

    def on_work_connection(self, peer: bytes, now: float) -> None:
        """A new work connection: what was under way on the old one may be lost."""
        for link in self._links_to(peer):
            if link.flights:
                self.probing.at_once(link, now)

    def _links_to(self, peer: bytes) -> list[SendingLink]:
        return [link for link in self._links.values() if link.peer == peer]

    # --- sending

    def take(self, outbox: Outbox, now: float, wall: float) -> int:
        taken = outbox.take(self._origin, now, wall)
        self.dispatch(outbox, now)
        if taken:
            outbox.outgoing.wake()
        return taken

    def dispatch(self, outbox: Outbox, now: float, news: SendingLink | None = None) -> None:
        """Gives what is waiting to the links with the most free credit, fairly. `news` is a link that may have more."""
        if outbox.turning and not self._turn(outbox, now):
            return  # the state that says what has arrived comes back to this
        self._wake_delayed(outbox, now)
        pools = self._pools[outbox.queue]
        if len(outbox.lanes) >= len(pools):
            self._open_lanes(outbox, now)
        if self.may_send and self._links:
            self._dispatch.serve(outbox, now, news)

    def _wake_delayed(self, outbox: Outbox, now: float) -> None:
        if not (outbox.later or outbox.expiring):
            return
        expired = outbox.expired
        due = outbox.wake_delayed(now)
        if due is None:
            self._timers.cancel((outbox, "delayed"))
        else:
            self._timers.set((outbox, "delayed"), due, lambda when: self.dispatch(outbox, when))
        if outbox.expired != expired:
            self.released.add(outbox)
            outbox.outgoing.wake()

    # --- receipts

    def on_state(self, peer: bytes, state: State, now: float) -> None:
        link = self._links.get(state.link)
        if link is None or link.peer != peer:
            self._send(peer, End(state.link))  # we ended it: the puller may forget it
            return
        outbox = link.outbox
        link.told_at = now
        self._merge(link, state, now)
        if state.closed:
            self._end(link, now, charge=False)
            self._send(peer, End(link.id))
        elif link.flights:
            self._resend(link, now)
        if not link.flights:
            self._dispatch.free(link)
        if link.retired and not link.flights and not state.closed:
            self._forget(link)
            self._send(peer, End(link.id))
        self.probing.settle(link)
        self.dispatch(outbox, now, None if state.closed or link.retired else link)
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
        self._pools[outbox.queue][link.lane].offer(link)
        before = outbox.in_flight
        for first, last, outcome in state.settled:
            pieces = link.settle(first, last)
            news |= bool(pieces)
            if outcome == ACKED:
                for piece in pieces:
                    outbox.ack(piece)
            elif outcome == STORED:
                for piece in pieces:
                    outbox.store(piece)
            elif pieces:
                outbox.retry(pieces, from_spool=link.spool)
        for number, outcome, delay, reason in state.refused:
            for piece in link.settle(number, number):
                news = True
                if outcome == REJECTED:
                    failed = self._failures.failed(link, piece, "rejected", reason, now)
                    self._failures.bury(outbox, failed, reason, now)
                elif outcome == NACKED:
                    again = self._failures.failed(link, piece, "nacked", reason, now)
                    again.alone, again.nacked = False, True
                    if not self._failures.is_dead(outbox, again, now):
                        outbox.retry([again], due=now + float(delay) if delay > 0 else None)
        if news:
            link.patience = 0.0
            link.paced(before - outbox.in_flight, now)

    def _resend(self, link: SendingLink, now: float) -> None:
        """What the present connection has not carried and the puller does not have goes out again, in order."""
        for flight in link.to_send_again(self._generation_of(link.peer)):
            if not self._dispatch.transmit(link, flight, now):
                break  # the next state tries again

    # --- the end of links

    def on_gone(self, peer: bytes, now: float, *, crashed: bool) -> None:
        self._pullers.pop(peer, None)
        self.paths.note(peer, [])
        self.on_session(peer, now, crashed=crashed)

    def on_session(self, peer: bytes, now: float, *, crashed: bool) -> None:
        """The links to that peer are over; it may be back already for new ones."""
        touched: dict[str, Outbox] = {}
        for link in self._links_to(peer):
            touched[link.outbox.queue] = link.outbox
            self._end(link, now, charge=crashed and not link.spool)
        self._turn_all(now)
        if peer in self._pullers:
            self._open_links(peer, now)
        for outbox in touched.values():
            self.dispatch(outbox, now)
            self.released.add(outbox)  # the dead have left room
            outbox.outgoing.wake()

    def _end(self, link: SendingLink, now: float, *, charge: bool) -> None:
        self._forget(link)
        if not charge:
            link.outbox.retry(list(link.in_flight()), from_spool=link.spool)
            return
        pieces: list[Piece] = []
        lowest = True
        for number, piece in list(link.unsettled()):
            again = piece
            if number <= link.handed or (lowest and (number < link.expected or piece.doubts)):
                again = self._failures.failed(link, piece, "lost", "its puller was lost", now)
                again.alone = True
                if self._failures.is_dead(link.outbox, again, now):
                    lowest = False
                    continue
            else:
                again.alone |= again.doubts > 0
                again.doubts += 1
            lowest = False
            pieces.append(again)
        link.outbox.retry(pieces)

    # --- reports

    def busy(self, outbox: Outbox) -> list[SendingLink]:
        """Links on which something is under way."""
        return [link for link in self.links(outbox.queue) if link.flights]

    def in_flight(self, outbox: Outbox) -> Iterator[Piece]:
        for link in self.links(outbox.queue):
            yield from link.in_flight()

    def held(self, outbox: Outbox) -> list[Piece]:
        """All that the outbox holds, in the order taken."""
        return sorted([*outbox.pieces(), *self.in_flight(outbox)], key=lambda piece: piece.position)

    def unsettled_ids(self, outbox: Outbox) -> list[str]:
        return outbox.unsettled_ids(self.in_flight(outbox))

    def pullers(self, queue: str) -> list[SendingLink]:
        """One link each: that of the normal lane, which is always there."""
        pools = self._pools.get(queue)
        return [] if pools is None else list(pools[NORMAL])

    def links(self, queue: str) -> list[SendingLink]:
        """Those of all lanes."""
        links = [link for pool in self._pools.get(queue, {}).values() for link in pool]
        if self._retired:
            links += [link for link in self._retired if link.outbox.queue == queue]
        return links

    def has(self, link: bytes) -> bool:
        return link in self._links

    def rows(self, now: float) -> list[list[object]]:
        """As they stand in this peer's roster entry: queue, messages held, seconds the oldest has been."""
        rows: list[list[object]] = []
        for outbox in self._outboxes.values():
            oldest = outbox.oldest(self.in_flight(outbox)) if outbox.held else None
            rows.append([outbox.queue, outbox.held, 0.0 if oldest is None else now - oldest])
        return rows

    def ledger(self) -> tuple[HeldQueue, ...]:
        return tuple(self.row(outbox) for outbox in self._outboxes.values())

    def row(self, outbox: Outbox) -> HeldQueue:
        """Its line of the ledger, with what is in flight to whom."""
        return outbox.row((link.peer, piece) for link in self.links(outbox.queue) for piece in link.in_flight())
