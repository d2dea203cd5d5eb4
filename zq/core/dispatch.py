"""Which of the waiting messages go to which puller: to the one with the most free credit, a frame at a time.

A message that goes alone (it may have killed its worker) waits for a puller with nothing under way, and until then one
is *reserved*: it gets nothing new. While several lanes have something that can be sent, they take turns.
"""

from __future__ import annotations

from collections.abc import Callable

from zq.core.lanes import WEIGHTS
from zq.core.link import Flight, SendingLink
from zq.core.outbox import Outbox
from zq.core.piece import Piece
from zq.core.pool import Pool
from zq.core.probing import WANTED_MOST, Probing
from zq.core.timers import Timers
from zq.wire.batch import REDELIVERED, BatchHeader, Parts, encode_batch
from zq.wire.plan import NORMAL

STALLED = 0.05  # s until a full connection is tried again
EVERYTHING = 1 << 62  # messages; more than any queue has
TURN = 16  # messages that a lane sends in its turn, times its weight, while others have something too: a quarter frame

Pools = dict[str, dict[int, Pool]]  # links by queue and lane


class Dispatch:
    """Sends what is waiting in outboxes on the links of `pools`; `links` are all of a queue, those included on which
    nothing new is sent. `again` is to come back to an outbox; `send_work` is False when a peer's connection takes
    nothing now, and `generation_of` counts those connections."""

    def __init__(
        self,
        id: bytes,
        timers: Timers,
        pools: Pools,
        probing: Probing,
        send_work: Callable[[bytes, Parts], bool],
        generation_of: Callable[[bytes], int],
        links: Callable[[str], list[SendingLink]],
        again: Callable[[Outbox, float], None],
    ) -> None:
        self._id = id
        self._timers = timers
        self._pools = pools
        self._probing = probing
        self._send_work = send_work
        self._generation_of = generation_of
        self._links = links
        self._again = again

    def serve(self, outbox: Outbox, now: float, news: SendingLink | None) -> None:
        """Gives what is waiting to the links with the most free credit, fairly. `news` is a link that may have more."""
        pools = self._pools[outbox.queue]
        touched = [] if news is None else [news]
        unable: list[SendingLink] = []
        if not outbox.lanes:
            self._serve(outbox, pools[NORMAL], NORMAL, touched, unable, now)
        else:
            self._serve_in_turns(outbox, pools, touched, unable, now)
        for link in unable:
            pools[link.lane].offer(link)
        for lane, pool in pools.items():
            asking = outbox.lines[lane].ready > 0
            if asking is not pool.asking:
                pool.asking = asking
                self._probing.settle_demand(asking, pool, now)
            elif outbox.lanes:
                self._probing.settle_demand(asking, [link for link in touched if link.lane == lane], now)
            else:
                self._probing.settle_demand(asking, touched, now)

    def _serve_in_turns(
        self,
        outbox: Outbox,
        pools: dict[int, Pool],
        touched: list[SendingLink],
        unable: list[SendingLink],
        now: float,
    ) -> None:
        """While several lanes have something that can be sent, each sends by its weight."""
        able = [lane for lane in WEIGHTS if lane in pools and outbox.lines[lane].ready]
        while able:
            for lane in list(able):
                most = TURN * WEIGHTS[lane] if len(able) > 1 else outbox.lines[lane].ready
                if not self._serve(outbox, pools[lane], lane, touched, unable, now, most):
                    able.remove(lane)

    def _serve(
        self,
        outbox: Outbox,
        pool: Pool,
        lane: int,
        touched: list[SendingLink],
        unable: list[SendingLink],
        now: float,
        most: int = EVERYTHING,
    ) -> bool:
        """Sends from one lane what there is credit for, at most so many messages; whether it was that which ended it.

        Links that were used are added to `touched`, those that could not be used now to `unable`.
        """
        line = outbox.lines[lane]
        aside: list[SendingLink] = []
        while (piece := line.first()) is not None and most > 0:
            size = piece.chunk.size_of(piece.start, piece.start + 1)
            if piece.alone:
                link = self._empty_one(outbox, [link for link in pool if link not in unable and link.may_send(size)])
            else:
                link = self._richest(pool, size, aside)
            if link is None:
                break
            count = min(link.free, max(-(-line.ready // (pool.others + 1)), link.stride), most)
            most -= count
            most_bytes = max(link.limit_bytes - link.sent_bytes, size)
            if self._depart(link, outbox.pick(count, most_bytes, lane), now):
                touched.append(link)
                pool.offer(link)
            else:
                unable.append(link)
        unable += aside
        return most <= 0 and line.ready > 0

    def _richest(self, pool: Pool, size: int, aside: list[SendingLink]) -> SendingLink | None:
        """The link with the most free credit of those that can take a message of this size; others go `aside`."""
        while (link := pool.pop()) is not None:
            if link.may_send(size) and not self._is_reserved(link):
                return link
            aside.append(link)
        for link in aside:  # a message before this one was too large for them
            if link.may_send(size) and not self._is_reserved(link):
                aside.remove(link)
                return link
        return None

    def _empty_one(self, outbox: Outbox, able: list[SendingLink]) -> SendingLink | None:
        """A link to a puller with nothing under way for a message that goes alone; else one is reserved until then."""
        able = [link for link in able if not self._is_reserved(link)]
        for link in able:
            if not any(lane.flights for lane in self._lanes_of(link)):
                return link
        if able and not any(link.reserved for link in self._links(outbox.queue)):
            min(able, key=lambda link: link.next - link.floor).reserved = True
        return None

    def _lanes_of(self, link: SendingLink) -> list[SendingLink]:
        """All links of the same queue to the same puller."""
        if not link.outbox.lanes:
            return [link]
        key = link.peer, link.puller
        return [pool.links[key] for pool in self._pools[link.outbox.queue].values() if key in pool.links]

    def _is_reserved(self, link: SendingLink) -> bool:
        return link.reserved or (bool(link.outbox.lanes) and any(lane.reserved for lane in self._lanes_of(link)))

    def free(self, link: SendingLink) -> None:
        """Nothing is under way on it: if that is so on all lanes, the puller is reserved no more."""
        if not link.outbox.lanes:
            link.reserved = False
        elif not any(lane.flights for lane in self._lanes_of(link)):
            for lane in self._lanes_of(link):
                lane.reserved = False

    def _depart(self, link: SendingLink, pieces: list[Piece], now: float) -> bool:
        flight = link.depart(pieces)
        if not self.transmit(link, flight, now):
            self._undo(link, flight)
            self._timers.set_if_unset(
                (link.outbox, "stalled"), now + STALLED, lambda when: self._again(link.outbox, when)
            )
            return False
        link.reserved = pieces[0].alone
        self._probing.later(link, now)
        return True

    def _undo(self, link: SendingLink, flight: Flight) -> None:
        del link.flights[flight.first]
        link.firsts.pop()
        link.next = flight.first
        link.sent_bytes -= flight.size
        link.outbox.unpick(flight.pieces)

    def transmit(self, link: SendingLink, flight: Flight, now: float) -> bool:
        first = flight.pieces[0]
        parts = first.chunk.parts
        wanted = min(link.line.ready, WANTED_MOST)
        header = BatchHeader(
            addressee=link.peer,
            sender=self._id,
            link=link.id,
            lane=link.lane,
            attempt=first.attempt,
            flags=first.chunk.flags | (REDELIVERED if first.redelivered else 0),
            first=flight.first,
            length=flight.count,
            floor=link.floor,
            returned=link.returned,
            wanted=wanted,
        )
        items = (
            first.items(now)
            if len(flight.pieces) == 1
            else [item for piece in flight.pieces for item in piece.items(now)]
        )
        frame = encode_batch(header, [piece.run() for piece in flight.pieces], items, first.chunk.topic)
        if not self._send_work(link.peer, (frame, *parts)):
            return False
        flight.generation = self._generation_of(link.peer)
        link.told = max(link.told, link.next - 1 + link.returned + wanted)
        return True
