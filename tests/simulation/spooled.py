"""Queues with spools and outboxes in the path: producers whose disks outlive them, spools, pushers and workers.

A run has two parts, as in `world`: some seconds in which processes are killed and stopped, machines lose their power,
links are cut and disks hang or are full; then peace, in which everything that was confirmed has to come to its end. A
disk keeps what it has synced; of its journal, which nobody syncs, a power cut takes the end.

Judged from outside: what was confirmed is done, or dead and kept; nobody gets a message as new that somebody had; no
disk has a message twice; of a key no holder has two under way; nothing comes before its delay is over; every ledger
balances all the time, and nothing is left over.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgpack

from tests.core.test_spooling import Medium, SlowDisk, number_in
from tests.simulation.oracle import Violation, check
from tests.simulation.rest import untold
from tests.simulation.world import WEATHERS
from zq.core.dead import item_of
from zq.core.inbox import Handing, Inbox
from zq.core.intake import Intake
from zq.core.outbox import Outbox
from zq.core.ranges import Ranges
from zq.core.receiving import Settled
from zq.core.spooled import Limits, Room, Spooled
from zq.core.topics import Origin
from zq.testing import SimulatedNetwork, SimulatedPeer
from zq.wire.batch import Batch, split
from zq.wire.frames import NACKED, REJECTED
from zq.wire.plan import HIGH, LOW, NORMAL, Plan, planned
from zq.wire.stored import Stored, encode

DRAIN = 150.0  # s in which all must be done after the last fault
SAMPLED = 8  # turns between looks at the ledger
MOST = 5  # attempts
HANG = (0.1, 4.0)  # s that a disk does nothing, or has no room


class Disk(SlowDisk):
    """One that may do nothing for a while, or have no room."""

    def __init__(self, peer: SimulatedPeer, *media: Medium) -> None:
        super().__init__(peer, *media)
        self.hangs_until = self.full_until = 0.0

    def _commit(self) -> None:
        network = self._peer.network
        if network.now < self.hangs_until:
            network.after(self.hangs_until - network.now, lambda: self._commit() if self._peer.alive else None)
        elif network.now < self.full_until:
            asked, self._asked = self._asked, []
            for stream, count in Counter(stream for stream, *_ in asked).items():
                self._answer(partial(self._refuse, stream, count))
        else:
            super()._commit()

    def _refuse(self, stream: bytes, count: int) -> None:
        spooling, now = self._peer.node.spooling, self._peer.clock()
        spooling.on_failed(stream, count, "no space left", full=True, room=Room(0, 1), now=now)

    def append_all(self, stream: bytes, batches: Sequence[Stored]) -> None:
        for batch in batches:
            self.append(stream, len(batch.items), batch.runs, encode(batch), batch.flags)

    def look(self, stream: bytes) -> None:
        self._answer(lambda: self._peer.node.spooling.on_room(stream, Room(0, 1)))


@dataclass(eq=False)
class Sent:
    """One message."""

    plan: Plan
    at: float
    tame: bool  # nobody nacks or rejects it: its pusher has its dead letters in memory
    confirmed: bool = False
    new: int = 0  # deliveries that claimed to be the first
    acked: bool = False
    rejected: bool = False

    @property
    def is_owed(self) -> bool:
        return self.confirmed and self.plan.ttl is None and not (self.acked or self.rejected)


@dataclass(eq=False)
class Place:
    """A machine with a disk: the processes that fill it one after another have what is on that."""

    kind: str  # "outbox" or "spool"
    media: tuple[Medium, Medium]
    peer: SimulatedPeer | None = None
    disk: Disk | None = None
    spooled: Spooled | None = None
    intake: Intake | None = None
    epoch: int = 0
    sent: list[int] = field(default_factory=list)  # by ticket, of this life


@dataclass(eq=False)
class Memory:
    """A pusher without a disk."""

    peer: SimulatedPeer
    outbox: Outbox
    sent: list[int] = field(default_factory=list)  # by position


class SpooledWorld:
    """One run. Raises Violation with what went wrong."""

    def __init__(self, seed: int, trace: Callable[[str], None] | None = None) -> None:
        self.random = random.Random(f"spooled {seed}")
        self.network = SimulatedNetwork(seed, self.random.choice(WEATHERS), after_turn=self._after_turn, trace=trace)
        self.messages: list[Sent] = []
        self.quiet = False
        self.workers: list[SimulatedPeer] = []
        self.pushers: list[Memory] = []
        self._turns = 0
        self._count = 0
        boxes, spools = self.random.choice((1, 1, 2)), self.random.choice((0, 1, 1, 1, 2))
        self.places = [self._place("outbox", number) for number in range(boxes)]
        self.places += [self._place("spool", number + boxes) for number in range(spools)]

    @staticmethod
    def _place(kind: str, number: int) -> Place:
        return Place(kind, (Medium(bytes([number]) * 16), Medium(bytes([number + 100]) * 16, "jobs.dead")))

    # --- who is there

    def _peer(self) -> SimulatedPeer:
        self._count += 1
        return self.network.peer(f"p{self._count}")

    def begin(self, place: Place) -> None:
        if place.peer is not None:
            return
        peer = place.peer = self._peer()
        place.disk = Disk(peer, *place.media)
        recovered, spooling = [medium.recovered() for medium in place.media], peer.node.spooling
        if place.kind == "spool":
            place.spooled = spooling.open(*recovered, Limits(), place.disk, peer.clock())
        else:
            place.epoch += 1
            origin = Origin(place.media[0].stream[:8] + place.epoch.to_bytes(8, "big"))
            place.intake, place.sent = Intake("jobs", MOST, origin), []
            place.spooled = spooling.open_outbox(*recovered, Limits(), place.disk, place.intake, peer.clock())
            self.network.after(self.random.uniform(0.0, 0.3), lambda: self._send(place, peer))
        peer.touch()

    def end(self, place: Place, *, vanish: bool, power: bool) -> None:
        peer = place.peer
        if peer is None or peer.stopped_at is not None:
            return
        self._note(peer)
        self.network.kill(peer, vanish=vanish)
        place.peer = place.intake = place.spooled = None
        for medium in place.media if power else ():
            kept = Ranges()
            for first, last in list(medium.settled)[: self.random.randrange(4)]:
                kept.add(first, last)
            medium.settled = kept
            medium.attempts.clear()

    def add_pusher(self) -> None:
        peer = self._peer()
        outbox = peer.node.push(
            "jobs", window=self.random.choice((5, 100, 1 << 14)), window_bytes=1 << 20, now=peer.clock()
        )
        pusher = Memory(peer, outbox)
        self.pushers.append(pusher)
        peer.touch()
        self.network.after(self.random.uniform(0.0, 0.3), lambda: self._push(pusher))

    def add_worker(self) -> None:
        peer = self._peer()
        self.workers.append(peer)
        inbox = Inbox(lambda: None)
        prefetch = self.random.choice((1, 4, 50))
        core = peer.node.pull("jobs", inbox, prefetch=prefetch, prefetch_bytes=1 << 20)
        pace = self.random.choice((0.02, 0.1, 0.3))

        def work() -> None:
            if not peer.alive:
                return
            while peer.stopped_at is None and inbox.arrived:
                batch = inbox.arrived.popleft()
                assert isinstance(batch, Batch)
                inbox.taken.append(batch)
                inbox.handing = Handing(batch, ())
                for place, item in list(enumerate(split(batch.body, batch.count)))[batch.skip : batch.stop]:
                    self._came(peer, batch, place, number_in(item))
            peer.touch(core)
            self.network.after(self.random.uniform(0.0, pace), work)

        peer.touch()
        work()

    def _came(self, peer: SimulatedPeer, batch: Batch, place: int, number: int) -> None:
        check(number < len(self.messages), f"message {number} was never sent")
        sent = self.messages[number]
        what = f"message {number} at {peer.name}, attempt {batch.attempt}"
        check(batch.attempt <= MOST, f"{what}, of {MOST}")
        check(
            self.network.now >= sent.at + sent.plan.delay - 0.001,
            f"{what}, comes before its delay is over: {self.network.now - sent.at:.4f} of {sent.plan}",
        )
        sent.new += not batch.redelivered
        check(sent.new <= 1, f"{what}, claims to be new once more")
        draw = 1.0 if self.quiet or sent.tame else self.random.random()
        if draw < 0.01:
            sent.rejected = True
            batch.link.others.append(Settled(batch.first + place, REJECTED, 0.0, "no", batch, place))
        elif draw < 0.15:
            batch.link.others.append(Settled(batch.first + place, NACKED, 0.0, "", batch, place))
        else:
            sent.acked = True
            batch.link.acks.append(batch.first + place)

    # --- what is sent

    def _new(self, *, tame: bool) -> tuple[int, bytes]:
        draw = self.random
        plan = Plan()
        if draw.random() < 0.3:
            delay = draw.choice((0.0, 0.0, 0.3, 2.0)) * draw.random()
            ttl = draw.choice((None, None, None, delay + 1.0))
            plan = Plan(draw.choice((NORMAL, HIGH, LOW)), draw.choice((None, "a", "b")), ttl, delay)
        number = len(self.messages)
        self.messages.append(Sent(plan, self.network.now, tame))
        if plan == Plan():
            return number, bytes(msgpack.packb(number))
        return number, planned(msgpack.packb([number, [None, None, *plan.extra]]), plan)  # type: ignore[return-value]

    def _send(self, place: Place, peer: SimulatedPeer) -> None:
        intake = place.intake
        if self.quiet or place.peer is not peer or intake is None:
            return
        if peer.stopped_at is None:
            for _ in range(self.random.choice((1, 1, 3, 20))):
                if len(intake.outgoing.items) < intake.outgoing.limit:
                    number, item = self._new(tame=False)
                    intake.outgoing.items.append(item)
                    intake.given += 1
                    place.sent.append(number)
            peer.touch(intake)
        self.network.after(self.random.uniform(0.0, 0.2), lambda: self._send(place, peer))

    def _push(self, pusher: Memory) -> None:
        peer, outgoing = pusher.peer, pusher.outbox.outgoing
        if self.quiet or not peer.alive:
            return
        if peer.stopped_at is None:
            for _ in range(self.random.choice((1, 1, 3, 20))):
                if len(outgoing.items) < outgoing.limit:
                    number, item = self._new(tame=True)
                    outgoing.items.append(item)
                    pusher.sent.append(number)
            peer.touch(pusher.outbox)
        self.network.after(self.random.uniform(0.0, 0.2), lambda: self._push(pusher))

    # --- what is seen

    def _after_turn(self, peer: SimulatedPeer) -> None:
        self._note(peer)
        self._turns += 1
        if self._turns % SAMPLED == 0:
            ledger = peer.node.ledger(peer.clock())
            check(ledger.balanced, f"the ledger of {peer.name} does not balance: {ledger}")
        for spooled in peer.node.spooling:
            under_way = Counter(
                piece.chunk.plan.key
                for piece in spooled.holder.in_flight(spooled.outbox)
                if piece.chunk.plan is not None and piece.chunk.plan.key is not None
            )
            check(max(under_way.values(), default=0) <= 1, f"{spooled.label} at {peer.name} has {under_way} under way")

    def _note(self, peer: SimulatedPeer) -> None:
        """What its programs have been confirmed."""
        for place in self.places:
            if place.peer is peer and place.intake is not None:
                for number in place.sent[: place.intake.safe]:
                    self.messages[number].confirmed = True
        for pusher in self.pushers:
            if pusher.peer is peer and peer.alive:
                dead = {number_in(item_of(piece)) for piece in self._letters(peer)}
                for first, last in pusher.outbox.done:
                    for number in pusher.sent[first - 1 : last]:
                        # Its letter dies with it: that is said.
                        self.messages[number].confirmed = number not in dead

    @staticmethod
    def _letters(peer: SimulatedPeer) -> list[object]:
        pushing = peer.node.pushing
        return [piece for letters in pushing.dead_outboxes() for piece in pushing.held(letters)]

    # --- faults

    def _one(self) -> SimulatedPeer | None:
        running = [peer for peer in self.network.peers if peer.alive and peer.stopped_at is None]
        return self.random.choice(running) if running and not self.quiet else None

    def _kill_a_place(self) -> None:
        if self.quiet:
            return
        place = self.random.choice(self.places)
        self.end(place, vanish=self.random.random() < 0.3, power=self.random.random() < 0.5)
        self.network.after(self.random.choice((0.0, 0.05, 1.0, 4.0)), lambda: self.quiet or self.begin(place))

    def _kill_another(self) -> None:
        if self.quiet:
            return
        if self.random.random() < 0.7 and self.workers:
            peer = self.workers.pop(self.random.randrange(len(self.workers)))
            self.network.after(self.random.uniform(0.0, 1.0), self.add_worker)
        elif self.pushers:
            peer = self.pushers.pop().peer
            self.network.after(self.random.uniform(0.0, 1.0), self.add_pusher)
        else:
            return
        if peer.stopped_at is None:
            self._note(peer)
        self.network.kill(peer, vanish=self.random.random() < 0.3)

    def _reset(self) -> None:
        connections = self.network.connections()
        busy = [connection for connection in connections if any(connection.under_way.values())]
        if connections and not self.quiet:
            self.network.reset(self.random.choice(busy or connections))

    def _partition(self) -> None:
        one, other = self._one(), self._one()
        if one is not None and other is not None and one is not other:
            self.network.sever(one, other, one_way=self.random.random() < 0.3)
            self.network.after(self.random.uniform(0.2, 8), lambda: self.network.heal(one, other))

    def _stop(self) -> None:
        if (peer := self._one()) is not None:
            self.network.stop(peer)
            self.network.after(self.random.uniform(0.1, 8), lambda: self.network.go_on(peer))

    def _spoil_a_disk(self) -> None:
        disk = self.random.choice(self.places).disk
        if disk is not None and not self.quiet:
            until = self.network.now + self.random.uniform(*HANG)
            if self.random.random() < 0.5:
                disk.hangs_until = until
            else:
                disk.full_until = until

    # --- the run

    def run(self) -> None:
        draw = self.random
        for place in self.places:
            self.network.after(draw.choice((0.0, 0.0, 2.0)) * draw.random(), partial(self.begin, place))
        for _ in range(draw.choice((0, 1, 2))):
            self.network.after(draw.random(), self.add_pusher)
        for _ in range(draw.choice((0, 1, 2, 4))):
            self.network.after(draw.random(), self.add_worker)
        self.network.after(0.01, self._discover)
        span = draw.uniform(2.0, 8.0)
        faults = (self._kill_a_place, self._kill_a_place, self._kill_another, self._reset, self._reset)
        faults += (self._partition, self._stop, self._spoil_a_disk)
        for _ in range(draw.choice((0, 2, 5, 10, 16))):
            self.network.after(span * draw.random(), draw.choice(faults))
        self.network.run(span)
        self._make_peace()
        self.network.run(DRAIN, lambda: not self._open())
        check(not self._open(), f"hung: {self._open()}")
        here = [peer for peer in self.network.peers if peer.alive]
        check(self.network.run(DRAIN, lambda: not untold(here)), untold(here))
        self.network.run(5.0)
        self._check_end()

    def _discover(self) -> None:
        self.network.introduce()
        self.network.after(self.random.uniform(0.8, 1.2), self._discover)

    def _make_peace(self) -> None:
        self.quiet = True
        network = self.network
        for one, other in list(network.severed):
            if one.alive and other.alive:
                network.heal(one, other)
        for peer in network.peers:
            if peer.alive and peer.stopped_at is not None:
                network.go_on(peer)
        for place in self.places:
            if place.disk is not None:
                place.disk.hangs_until = place.disk.full_until = 0.0
            self.begin(place)
        for _ in range(2):
            self.add_worker()

    def _open(self) -> str:
        """What is not done yet."""
        for place in self.places:
            if place.spooled is None or place.spooled.left:
                return f"{place.kind} at {place.peer} has {place.spooled and place.spooled.left} left"
            if place.intake is not None and place.intake.safe < len(place.sent):
                return f"{place.kind} at {place.peer} has stored {place.intake.safe} of {len(place.sent)}"
        for pusher in self.pushers:
            if pusher.outbox.held or pusher.outbox.outgoing.items:
                return f"the pusher at {pusher.peer} has {pusher.outbox.held}"
        owed = {number for number, sent in enumerate(self.messages) if sent.is_owed} - self._kept()
        return f"{len(owed)} are confirmed and not done: {sorted(owed)[:10]}" if owed else ""

    def _kept(self) -> set[int]:
        """What is dead, and kept."""
        kept = {number_in(item) for place in self.places for item in place.media[1].unsettled()}
        for pusher in self.pushers:
            kept |= {number_in(item_of(piece)) for piece in self._letters(pusher.peer)}  # type: ignore[arg-type]
        return kept

    def _check_end(self) -> None:
        check(not self._open(), f"what was done is so no more: {self._open()}")
        for place in self.places:
            for medium in place.media[:1]:
                check(medium.repeats() == [], f"{place.kind} has stored twice: {medium.repeats()[:10]}")
        for peer in self.network.peers:
            if not peer.alive:
                continue
            ledger = peer.node.ledger(peer.clock())
            check(ledger.balanced, f"the ledger of {peer.name} does not balance: {ledger}")
            for row in ledger.held:
                if not row.queue.endswith(".dead"):
                    check((row.waiting, row.in_flight) == (0, 0), f"{peer.name} has something left: {row}")


def play(seed: int, trace: Callable[[str], None] | None = None) -> SpooledWorld:
    """Runs one seed."""
    world = SpooledWorld(seed, trace)
    world.run()
    return world


__all__ = ["SpooledWorld", "Violation", "play"]
