"""A small realm on the simulated network, drawn from a seed: peers, programs, weather, limits and faults.

A run has three parts: some seconds in which everything happens; the end of all faults, after which what is left must
be finished in bounded time; and rest, in which nothing may be left over.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

from tests.simulation.bound import BOUND_QUEUES, BoundPuller, bind, look, roll
from tests.simulation.oracle import Oracle, Violation, Work, check
from tests.simulation.programs import FILTERS, READERS, TOPICS, WORKERS, Program, Publisher, Puller, Pusher, Subscriber
from tests.simulation.rest import check_rest, untold
from zq.core import binding, bound, inbox, inquiry, line, outbox, outgoing, receiving, reception, reports, topics
from zq.core.account import add_up
from zq.core.dead import dead_queue_of, item_of
from zq.core.outbox import RETRIED, Outbox
from zq.core.port import Kind
from zq.core.spans import SPANS
from zq.info import EventKind, HeldQueue, Ledger, PeerInfo, PulledQueue
from zq.message import HEADERS
from zq.testing import SimulatedNetwork, SimulatedPeer, Weather
from zq.wire.dead import history_of, split
from zq.wire.frames import LIST, PURGE, RETRY
from zq.wire.names import DEAD

DRAIN = 90.0  # s in which all must be done after the last fault
REST = 20.0  # s after which all timers have run out; a head is repeated every 5 s
LEAVING = 3.0  # s a peer that leaves waits for what it has sent
QUEUES = ("jobs", "mail")
REASONS = ("rejected", "dead", "expired", "forgotten", "purged", binding.LEFT_RING, binding.UNBOUND)
MISSING = ("gap", "unknown", *REASONS)
# One run in sixteen asks for the ledger after every turn, the others after every eighth: that is a step of the node's
# own. Its counters are looked at after every turn in all of them.
EXACT, SAMPLED = 16, 8

Role = Callable[[SimulatedPeer], None]

WEATHERS = (
    Weather(),
    Weather(latency=0.02),
    Weather(latency=0.005, mailbox_loss=0.1, mailbox_repeat=0.1, mailbox_late=0.1),
    Weather(latency=0.01, feed_loss=0.1),
    Weather(latency=0.05, mailbox_loss=0.2, mailbox_late=0.2, feed_loss=0.2, room=6),
    Weather(latency=0.002, room=4, lag=0.02),
)


@contextmanager
def limits(draw: random.Random) -> Iterator[bool]:
    """Constants so small that a few dozen messages reach them; yields whether rings are among them."""
    if draw.random() < 0.4:
        yield False
        return
    window = draw.choice((4, 12, 40))
    ring = draw.choice((64 << 20, 60, 300))
    small = [
        (topics, "WINDOW", window),
        (topics, "WINDOW_BYTES", draw.choice((20 * window, 64 << 20))),
        (topics, "RING_BYTES", ring),
        (topics, "REFILL_FRAMES", draw.choice((1, 3, 64))),
        (reports, "REPORT_MESSAGES", max(window // 4, 1)),
        (reception, "HELD_BYTES", draw.choice((60, 1 << 20))),
        (inbox, "INBOX_MESSAGES", 2 * window),
        (outgoing, "PILE_MESSAGES", draw.choice((3, 2_048))),
        (outgoing, "BATCH_MESSAGES", draw.choice((1, 4, 512))),
        (line, "BATCH_MESSAGES", draw.choice((1, 4, 512))),
        (receiving, "SETTLED_ROWS", draw.choice((2, 1_000))),
        (receiving, "REFUSED_ROWS", draw.choice((1, 200))),
        (bound, "BOUND_WINDOW", draw.choice((1, 10, 16_384))),
        (bound, "BOUND_BYTES", draw.choice((60, 64 << 20))),
        (inquiry, "ROWS", draw.choice((1, 3, 200))),
    ]
    with mock.patch.multiple(outbox, PILE_MESSAGES=small[7][2]):
        patches = [mock.patch.object(module, name, value) for module, name, value in small]
        for patch in patches:
            patch.start()
        try:
            yield ring < 64 << 20
        finally:
            for patch in patches:
                patch.stop()


class World:
    """One run. Raises Violation with what went wrong."""

    ROLES: tuple[int, ...] = (1, 2, 3)  # how many a peer has at first

    def __init__(self, seed: int, *, small_rings: bool, trace: Callable[[str], None] | None = None) -> None:
        self.random = random.Random(f"world {seed}")
        self.network = SimulatedNetwork(
            seed, self.random.choice(WEATHERS), on_event=self._on_event, after_turn=self._after_turn, trace=trace
        )
        self.oracle = Oracle(lambda: self.network.now, small_rings=small_rings)
        self.programs: list[Program] = []
        self.leaving: set[SimulatedPeer] = set()
        self._names: dict[bytes, SimulatedPeer] = {}
        self._turns = 0
        self._every = 1 if seed % EXACT == 0 else SAMPLED
        self._ambushes = 0  # work connections to be reset as soon as they carry something
        self._quiet = False
        self._binds = self.random.random() < 0.5  # queues to topics, as some programs do
        self._looked_at: dict[Outbox, int] = {}  # dead letters: how many had been taken

    def named(self, id: bytes) -> SimulatedPeer:
        return self._names[id]

    @property
    def is_quiet(self) -> bool:
        """No more faults."""
        return self._quiet

    @property
    def running(self) -> list[SimulatedPeer]:
        return [peer for peer in self.network.peers if peer.alive]

    def of(self, peer: SimulatedPeer) -> list[Program]:
        return [program for program in self.programs if program.peer is peer]

    # --- what happens at the peers

    def _on_event(self, observer: SimulatedPeer, kind: EventKind, info: PeerInfo) -> None:
        peer = self.named(info.id)
        if self.network.trace:
            self.network.trace(f"          {observer.name} sees {peer.name} {kind}")
        pullers = sum(isinstance(program, Puller) for program in self.of(peer))
        self.oracle.peer_event(observer, kind, peer, pullers)

    def _after_turn(self, peer: SimulatedPeer) -> None:
        self._turns += 1
        look(self, peer)
        self.look_for_the_dead(peer)
        if self._turns % self._every == 0:
            self.check_ledger(peer)
        else:
            self.check_counters(peer)
        if self._ambushes and not self._quiet:
            latency = self.network.weather.latency
            for connection in peer.connections.values():
                if connection.kind is Kind.WORK and connection.up and connection.under_way[True]:
                    self._ambushes -= 1
                    self.network.after(self.random.uniform(0, 2 * latency), partial(self.network.reset, connection))
                    return

    def check_counters(self, peer: SimulatedPeer) -> None:
        """The ledger as it stands between two turns: asking for it lets the node look at its inboxes first."""
        node = peer.node
        for rows in (node.pushing.ledger(), node.pulling.ledger(), node.receptions.ledger()):
            for row in rows:
                if not row.balanced:
                    raise Violation(f"the ledger of {peer.name} does not balance: {row}")

    def check_ledger(self, peer: SimulatedPeer) -> None:
        ledger = peer.node.ledger(peer.clock())
        if not ledger.balanced:
            raise Violation(f"the ledger of {peer.name} does not balance: {ledger}")
        pullers = [program for program in self.of(peer) if isinstance(program, Puller)]
        for row, core in zip(ledger.pulled, peer.node.pulling, strict=True):
            program = next(program for program in pullers if program.stream is core)
            held = len(program.held)
            check(0 <= row.handed_out <= held, f"{peer.name} holds {held} by its program, by the ledger {row}")
            check(row.queued >= 0, f"{peer.name}: {row}")
            if program.prefetch is not None:
                check(row.queued + row.handed_out <= program.prefetch, f"{peer.name} exceeds its prefetch: {row}")
            self._check_spans(peer, row, {"queued": row.queued, "handed out": row.handed_out})
        for kept in ledger.held:
            check(min(kept.waiting, kept.in_flight) >= 0, f"{peer.name}: {kept}")
            self._check_spans(peer, kept, {"waiting": kept.waiting, "in flight": kept.in_flight})
            lost = sum(span.count for span in kept.lost)
            check(lost == self._lost(peer, kept), f"{peer.name} names {lost} of what is lost: {kept}")
        for part in ledger.subscribed:
            check(min(part.delivered, part.queued, part.repairing, part.dropped, part.gap) >= 0, f"{peer.name}: {part}")
            told = sum(gap.last - gap.first + 1 for gap in part.gaps if gap.last is not None)
            check(told == part.gap or len(part.gaps) == SPANS, f"{peer.name}: {part}")

    @staticmethod
    def _lost(peer: SimulatedPeer, row: HeldQueue) -> int:
        """What was dropped or has expired, and did not become a message again; as many as there is room to name."""
        outbox, letters = (peer.node.pushing.find(queue) for queue in (row.queue, dead_queue_of(row.queue)))
        if outbox is None or outbox.lost.more or len(row.lost) == SPANS:
            return sum(span.count for span in row.lost)  # closed, or with no room for more
        back = letters.dropped.get(RETRIED, 0) if letters is not None and not outbox.dead else 0
        never = row.dropped.get(binding.LEFT_RING, 0)  # taken: they are named as gaps of their topics
        gaps = sum(gap.last - gap.first + 1 for gap in row.gaps if gap.last is not None)
        check(gaps == never or len(row.gaps) == SPANS, f"{peer.name} names {gaps} of what came too late: {row}")
        return row.expired + sum(row.dropped.values()) - row.dropped.get(RETRIED, 0) - never - back

    @staticmethod
    def _check_spans(peer: SimulatedPeer, row: HeldQueue | PulledQueue, counts: dict[str, int]) -> None:
        """Every message that is counted is named, each once, unless there are too many places to name."""
        named = {state: sum(span.count for span in row.spans if span.state == state) for state in counts}
        check(named == counts or len(row.spans) == SPANS, f"{peer.name} names {named}: {row}")
        numbers = [(span.origin, number) for span in row.spans for number in range(span.first, span.last + 1)]
        check(len(set(numbers)) == len(numbers), f"{peer.name} names some twice: {row}")

    def look_for_the_dead(self, peer: SimulatedPeer) -> None:
        for letters in peer.node.pushing.dead_outboxes():
            for piece in peer.node.pushing.held(letters) if letters.taken != self._looked_at.get(letters) else ():
                body, extra = split(item_of(piece))
                headers = dict(zip(extra[HEADERS][::2], extra[HEADERS][1::2], strict=True))
                self.oracle.buried(
                    bytes(body), letters.queue.removesuffix(DEAD), [failure.outcome for failure in history_of(headers)]
                )
            self._looked_at[letters] = letters.taken

    def try_again(self, queue: str) -> None:
        """Somebody is about to ask for another round for its dead letters."""
        for peer in self.running:
            letters = peer.node.pushing.find(dead_queue_of(queue))
            for piece in peer.node.pushing.held(letters) if letters is not None else ():
                self.oracle.tried_again(bytes(split(item_of(piece))[0]), queue)
        self._looked_at.clear()

    def killed_by(self, program: Puller, item: bytes) -> bool:
        """A message may kill the process that takes it, before its engine has told anybody that it came."""
        _, number, work, _ = self.oracle.job(item, program.queue)
        peer = program.peer
        others = [other for other in self.running if other is not peer and other not in self.leaving]
        if self._quiet or number != work.poison or peer in self.leaving or not others:
            return False
        self.network.kill(peer)
        self.oracle.died(peer)
        self.network.after(self.random.uniform(0.001, 0.5), lambda: self._quiet or self.start_worker(work.queue))
        return True

    def start_worker(self, queue: str) -> None:
        self.programs.append(Puller(self, self.start(), queue, self.random.choice(WORKERS)))

    # --- making it up

    def build(self) -> None:
        count = self.random.choice((2, 2, 3, 3, 4, 5))
        for _ in range(count):
            self.network.after(self.random.choice((0.0, 0.0, 0.8)) * self.random.random(), self.start)
        self.network.after(0.01, self._discover)
        self.network.run(0.9)

    def _discover(self) -> None:
        self.network.introduce()
        self.network.after(self.random.uniform(0.8, 1.2), self._discover)

    def start(self, *, endpoint: str | None = None) -> SimulatedPeer:
        peer = self.network.peer(f"p{len(self.network.peers)}", endpoint=endpoint)
        self._names[peer.id] = peer
        for role in self.random.sample(self.roles(), self.random.choice(self.ROLES)):
            role(peer)
        return peer

    def roles(self) -> list[Role]:
        """What a new peer may be given to do."""
        roles: list[Role] = [self.add_pusher, self.add_puller, self.add_publisher, self.add_subscriber]
        if self._binds:
            roles += [partial(bind, self), self.add_publisher]  # two topics of one peer share a queue
        return roles

    def _amount(self) -> int:
        return self.random.choice((3, 15, 40, 120))

    def add_pusher(self, peer: SimulatedPeer) -> None:
        queue = self.random.choice((QUEUES[0], *QUEUES))
        if not any(isinstance(each, Pusher) and each.queue == queue and not each.closed for each in self.of(peer)):
            self.programs.append(Pusher(self, peer, queue, 2 * self._amount()))

    def add_puller(self, peer: SimulatedPeer) -> None:
        queue = self.random.choice((QUEUES[0], *QUEUES))
        self.programs.append(Puller(self, peer, queue, self.random.choice(WORKERS)))

    def add_publisher(self, peer: SimulatedPeer) -> None:
        topic = self.random.choice(TOPICS)
        if not any(isinstance(each, Publisher) and each.news.topic == topic for each in self.of(peer)):
            self.programs.append(Publisher(self, peer, topic, self._amount()))

    def add_subscriber(self, peer: SimulatedPeer) -> None:
        filters = self.random.sample(FILTERS, self.random.choice((1, 1, 2)))
        policy: Any = self.random.choice(("wait", "wait", "wait", "drop-oldest", "latest"))
        self.programs.append(Subscriber(self, peer, filters, policy, self.random.choice(READERS)))

    # --- faults

    def plan(self, span: float) -> None:
        faults = [
            self._reset,
            self._reset,
            self._reset_all,
            self._storm,
            self._ambush,
            self._ambush,
            self._ambush,
            self._partition,
            self._partition,
            self._kill,
            self._kill_at_work,
            self._kill_at_work,
            self._stop,
            self._slow_link,
            self._leave,
            lambda: self._quiet or roll(self),
        ]
        changes = [
            self._ask_for_the_dead,
            self._close_one,
            self._close_one,
            self._open_one,
            self._open_one,
            self._open_one,
        ]
        for _ in range(self.random.choice((0, 1, 3, 6, 10, 16))):
            self.network.after(span * self.random.random(), partial(self._disturb, self.random.choice(faults)))
        if self.random.random() < 0.5:
            self.network.after(
                0.0, partial(self._disturb, self._ambush)
            )  # queues are short: most of what is lost under way is lost so
        for _ in range(self.random.choice((0, 1, 3))):
            self.network.after(span * self.random.random(), self.random.choice(changes))

    def _disturb(self, fault: Callable[[], None]) -> None:
        self.oracle.disturbed = True
        fault()

    def _some(self, count: int = 1) -> list[SimulatedPeer]:
        running = [peer for peer in self.running if peer not in self.leaving]
        return [] if self._quiet or len(running) < count else self.random.sample(running, count)

    def _one(self) -> SimulatedPeer | None:
        return next(iter(self._some()), None)

    def _reset(self) -> None:
        connections = self.network.connections()
        busy = [connection for connection in connections if any(connection.under_way.values())]
        if connections and not self._quiet:
            self.network.reset(self.random.choice(busy or connections))

    def _storm(self) -> None:
        self._ambushes += 2
        for _ in range(self.random.randint(3, 12)):
            self.network.after(self.random.uniform(0, 0.3), self._reset)

    def _ambush(self) -> None:
        self._ambushes += self.random.randint(1, 20)

    def _reset_all(self) -> None:
        for peer in self._some():
            for connection in self.network.connections():
                if peer in (connection.dialler, connection.acceptor):
                    self.network.reset(connection)

    def _partition(self) -> None:
        if pair := self._some(2):
            self.network.sever(*pair, one_way=self.random.random() < 0.3)
            self.network.after(self.random.uniform(0.2, 8), lambda: self.network.heal(*pair))

    def _kill_at_work(self) -> None:
        """A worker with something in hand, as soon as there is one."""
        if self._quiet:
            return
        busy = [
            program.peer
            for program in self.programs
            if isinstance(program, Puller) and (program.held or program.inbox.arrived)
        ]
        busy = [peer for peer in busy if peer.alive and peer not in self.leaving]
        if busy:
            self._kill(self.random.choice(busy))
        else:
            self.network.after(0.005, self._kill_at_work)

    def _kill(self, victim: SimulatedPeer | None = None) -> None:
        if len(self.running) > 1 and (peer := victim or self._one()):
            self.network.kill(peer, vanish=self.random.random() < 0.3)
            self.oracle.died(peer)
            if self.random.random() < 0.5:
                endpoint = peer.endpoint if self.random.random() < 0.5 else None
                self.network.after(self.random.uniform(0.001, 1), lambda: self._quiet or self.start(endpoint=endpoint))

    def _stop(self) -> None:
        if (peer := self._one()) and peer.stopped_at is None:
            self.network.stop(peer)
            self.network.after(self.random.uniform(0.1, 8), lambda: self.network.go_on(peer))

    def _slow_link(self) -> None:
        if pair := self._some(2):
            self.network.slow(*pair, self.random.uniform(0.05, 0.4))
            self.network.after(self.random.uniform(0.5, 3), lambda: self.network.slow(*pair, 0.0))

    def _close_one(self) -> None:
        for peer in self._some():
            for program in self.random.sample(self.of(peer), min(len(self.of(peer)), 1)):
                if not isinstance(program, Publisher) and peer.stopped_at is None:
                    program.close()

    def _open_one(self) -> None:
        for peer in self._some():
            if peer.stopped_at is None:
                self.random.choice(self.more_roles())(peer)

    def more_roles(self) -> list[Role]:
        """What a peer may be given to do later."""
        roles: list[Role] = [self.add_puller, self.add_subscriber, self.add_publisher, self.add_pusher]
        return [*roles, partial(bind, self)] if self._binds else roles

    def _ask_for_the_dead(self) -> None:
        for peer in self._some():
            if peer.stopped_at is None:
                action, queue = (
                    self.random.choice((LIST, RETRY, RETRY, PURGE)),
                    self.random.choice((*QUEUES, *BOUND_QUEUES)),
                )
                for holder in self.running:
                    self.look_for_the_dead(holder)
                if action == RETRY:
                    self.try_again(queue)
                peer.node.inquire(action, queue, [], peer.clock())
                peer.touch()

    # --- leaving in good order

    def _leave(self) -> None:
        for peer in self._some() if len(self.running) > 1 else []:
            if peer.stopped_at is not None:
                continue
            self.leaving.add(peer)
            for program in self.of(peer):
                program.leave()
            peer.touch()
            self._leave_when_done(peer, self.network.now + LEAVING)

    def _leave_when_done(self, peer: SimulatedPeer, deadline: float) -> None:
        if not peer.alive:
            return
        done = all(program.done for program in self.of(peer) if isinstance(program, Pusher | Publisher))
        closed = not list(peer.node.pulling)
        if (done and closed) or self.network.now > deadline:
            for program in self.of(peer):
                if isinstance(program, Publisher) and program.done:
                    program.news.flushed = {self.named(peer) for peer in program.stream.followers}  # type: ignore[union-attr]
            if done and closed:
                self.oracle.leaves(peer)
            self.oracle.died(peer)
            peer.node.meeting.say_goodbye()
            self.network.kill(peer, linger=True)
        else:
            self.network.after(0.05, lambda: self._leave_when_done(peer, deadline))

    # --- the run

    def run(self) -> None:
        self.build()
        span = self.random.uniform(2, 6)
        self.plan(span)
        self.network.run(span)
        self._end_faults()
        self.network.run(DRAIN, self._is_done)
        check(self._is_done(), f"hung: {self.oracle.incomplete() or self._unmet() or self._held()}")
        self.network.run(REST)
        left = self.oracle.incomplete()
        check(not left, f"what was complete is so no more: {left}")
        self._check_end()

    def _end_faults(self) -> None:
        self._quiet = True
        if self.network.trace:
            self.network.trace("          --- no more faults")
        network = self.network
        network.weather = Weather()
        for one in self.running:
            if one.stopped_at is not None:
                network.go_on(one)
            for other in self.running:
                if one is not other:
                    network.heal(one, other)
                    network.slow(one, other, 0.0)
        queues = {stream.queue for stream in self.oracle.streams if isinstance(stream, Work) and stream.alive}
        queues |= {program.queue for program in self.programs if isinstance(program, BoundPuller)}
        for queue in sorted(queues) if self.running else ():
            peer = self.random.choice(self.running)
            if peer in self.leaving:
                peer = self.start()
            self.programs.append(Puller(self, peer, queue, "fast"))
        for program in self.programs:
            program.settle_down()

    def _is_done(self) -> bool:
        for peer in self.running:
            self.look_for_the_dead(peer)
        leaving = any(peer.alive for peer in self.leaving)
        return not (leaving or self._waited_for() or self._unmet() or self.oracle.incomplete() or self._held())

    def _waited_for(self) -> bool:
        """Whether anybody expects something of a publisher that is not there any more."""
        there = {peer.id for peer in self.running}
        receptions = [peer.node.receptions for peer in self.running]
        return any(list(each.absent) or each._receptions.keys() - there for each in receptions)

    def _held(self) -> list[Pusher]:
        """Those who hold something; it may have been done twice meanwhile."""
        return [each for each in self.programs if isinstance(each, Pusher) and each.peer.alive and not each.done]

    def _unmet(self) -> list[str]:
        """Peers that see others than those that are there."""
        running = self.running
        return [
            f"{peer.name} sees {sorted(self.named(other.id).name for other in peer.node.meeting.roster.up())}"
            for peer in running
            if {other.id for other in peer.node.meeting.roster.up()} != {other.id for other in running} - {peer.id}
        ]

    def _check_end(self) -> None:
        pushers = [program for program in self.programs if isinstance(program, Pusher) and program.peer.alive]
        for core in {program.stream for program in pushers}:  # a binding keeps it when one closes, for the next
            works = [program.work for program in pushers if program.stream is core]
            self.oracle.check_expired(works, core.expired)  # type: ignore[union-attr]
        for peer in self.running:
            self.check_ledger(peer)
            rows = peer.node.ledger(peer.clock()).subscribed
            self.oracle.check_subscriptions(
                peer, sum(row.delivered for row in rows), sum(row.dropped for row in rows), sum(row.gap for row in rows)
            )
        check_rest(self.running)
        check(not untold(self.running), untold(self.running))
        self._check_account()
        if self.running:
            self._check_list_of_the_dead()
            for queue in sorted({*QUEUES, *BOUND_QUEUES}):
                self._check_another_round(queue)
            check(self.network.run(DRAIN, self._is_receipted), "a receipt does not come")
            self._check_account()

    def _is_receipted(self) -> bool:
        """Programs may be done before the last of their receipts has come to whoever publishes to a bound queue."""
        return not any(outbox.held for peer in self.running for outbox in peer.node.pushing if not outbox.dead)

    def _check_account(self) -> None:
        """The realm's ledgers added up: nothing is open anywhere, and what is missing is what they tell of."""
        ledgers = [peer.node.ledger(peer.clock()) for peer in self.running]
        account = add_up(Ledger(peer=b"", name="observer"), ledgers, unanswered=[])
        for queue in account.queues:
            waiting = 0 if queue.queue.endswith(DEAD) else queue.waiting
            check(waiting == queue.in_flight == queue.orphaned == 0, f"something is left: {queue}")
            ended = queue.acked + queue.expired + sum(queue.dropped.values())
            check(queue.taken == queue.waiting + ended, f"lost count over the realm: {queue}")
        gone = {departed.peer for ledger in ledgers for departed in ledger.departed}
        for missing in account.missing:
            check(missing.why in MISSING, f"missing for a reason of its own: {missing}")
            check(missing.why != "unknown" or missing.topic or missing.origin in gone, f"nobody is gone: {missing}")

    def _check_list_of_the_dead(self) -> None:
        """Whoever asks is told of every one."""
        peer = self.random.choice(self.running)
        asked = peer.node.inquire(LIST, "", [], peer.clock())
        peer.touch()
        self.network.run(DRAIN, lambda: asked.complete)
        held = sum(letters.held for other in self.running for letters in other.node.pushing.dead_outboxes())
        check(asked.complete and len(asked.letters) == held, f"{peer.name} is told of {len(asked.letters)} of {held}")

    def _retriable(self, queue: str) -> int:
        """Dead letters whose pusher is there, or that no program has pushed."""
        count = 0
        for pushing in (peer.node.pushing for peer in self.running):
            letters = pushing.find(dead_queue_of(queue))
            for piece in pushing.held(letters) if letters is not None else ():
                count += pushing.find(queue) is not None or piece.chunk.topic is not None
        return count

    def _check_another_round(self, queue: str) -> None:
        """Every dead letter whose pusher is there becomes a message again, and is done."""
        peer = self.random.choice(self.running)
        held = self._retriable(queue)
        self.try_again(queue)
        asked = peer.node.inquire(RETRY, queue, [], peer.clock())
        peer.touch()
        self.network.run(DRAIN, lambda: asked.complete)
        check(asked.count == held, f"{peer.name} has {asked.count} of {held} tried again")
        check(self._retriable(queue) == 0, f"some of {queue} are still dead")
        self.network.run(DRAIN, self._is_done)
        check(self._is_done(), f"hung after another round: {self.oracle.incomplete()}")


def play(seed: int, trace: Callable[[str], None] | None = None) -> World:
    """Runs one seed."""
    with limits(random.Random(f"limits {seed}")) as small_rings:
        world = World(seed, small_rings=small_rings, trace=trace)
        world.run()
        return world
