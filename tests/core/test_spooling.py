"""A spool between pushers and pullers on the simulated network, with a disk that is slow and outlives crashes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgpack
import pytest

from zq.core.inbox import Handing, Inbox
from zq.core.origins import Origins
from zq.core.outbox import Outbox
from zq.core.pulling import Settled
from zq.core.ranges import Ranges
from zq.core.spooling import Item, Limits, Recovered, Room, Spooled
from zq.testing import SimulatedNetwork, SimulatedPeer, Weather
from zq.wire.batch import Batch, Buffer, Run, split
from zq.wire.data import pack
from zq.wire.frames import NACKED
from zq.wire.plan import NORMAL, Plan, planned
from zq.wire.stored import Stamp

STREAM = b"s" * 16
SEEDS = 40  # schedules; a few hundredths of a second each


@dataclass
class Medium:
    """What is on a disk, whoever has it open."""

    items: list[Item] = field(default_factory=list)
    settled: Ranges = field(default_factory=Ranges)
    attempts: dict[int, int] = field(default_factory=dict)
    wall_ahead: float = 1e9  # of its machine
    boot: bytes = b"the boot"
    booted: float = 0.0

    @property
    def safe(self) -> int:
        return self.items[-1].last if self.items else 0

    def known(self) -> Origins:
        known = Origins()
        for item in self.items:
            for run in item.runs:
                known.add(run.origin, run.first, run.first + run.length - 1)
        return known

    def repeats(self) -> list[tuple[bytes, int]]:
        """What is stored more than once."""
        counts = Counter(
            (run.origin, run.first + place) for item in self.items for run in item.runs for place in range(run.length)
        )
        return [number for number, count in counts.items() if count > 1]


class SlowDisk:
    """`zq.core.spooling.Disk` of one peer: it does what it is asked for after a while, and says so later still; with
    the peer it ends, and what it was asked for and had not done is lost."""

    def __init__(self, peer: SimulatedPeer, medium: Medium) -> None:
        self._peer = peer
        self._medium = medium
        self._asked: list[tuple[int, Sequence[Run], bytes, int]] = []
        self.failing = ""
        self.synced = 0

    def _later(self, act: Callable[[], None]) -> None:
        network = self._peer.network
        network.after(network.random.uniform(0.0, 0.05), lambda: act() if self._peer.alive else None)

    def _answer(self, event: Callable[[], None]) -> None:
        """In order; the order of simulated timers of one time is that in which they were set."""
        self._peer.network.after(0.01, lambda: self._peer.deliver(event))

    def append(self, stream: bytes, length: int, runs: Sequence[Run], body: bytes, flags: int) -> None:
        if not self._asked:
            self._later(self._commit)
        self._asked.append((length, runs, body, flags))

    def _commit(self) -> None:
        asked, self._asked = self._asked, []
        spooling, clock = self._peer.node.spooling, self._peer.clock
        if self.failing:
            reason, count = self.failing, len(asked)
            self._answer(
                lambda: spooling.on_failed(STREAM, count, reason, full=False, room=Room(0, 1), now=clock())
            )  # fmt: skip
            return
        firsts = []
        for length, runs, body, flags in asked:
            first = self._medium.safe + 1
            self._medium.items.append(Item(first, first + length - 1, flags, runs, body))
            firsts.append(first)
        self.synced += 1
        self._answer(lambda: spooling.on_stored(STREAM, firsts, Room(0, 1), clock()))

    def read(self, stream: bytes, first: int) -> None:
        def act() -> None:
            found = [item for item in self._medium.items if item.last >= first][:3]
            self._answer(lambda: self._peer.node.spooling.on_records(STREAM, found, self._peer.clock()))

        self._later(act)

    def settle(self, stream: bytes, first: int, last: int) -> None:
        self._medium.settled.add(first, last)

    def charge(self, stream: bytes, number: int, attempts: int) -> None:
        self._medium.attempts[number] = attempts

    def look(self, stream: bytes) -> None:
        pass

    def stamp(self) -> Stamp:
        now, medium = self._peer.network.now, self._medium
        return Stamp(now + medium.wall_ahead, medium.boot, now - medium.booted)


class Scene:
    """One pusher, one spool, pullers that come and go."""

    def __init__(self, seed: int = 1, weather: Weather | None = None) -> None:
        self.network = SimulatedNetwork(seed, weather)
        self.medium = Medium()
        self.count = 0
        self.seen: dict[int, list[bool]] = defaultdict(list)  # by message: whether it said that it was redelivered
        self.attempts: dict[int, int] = {}
        self._discover()

    def _discover(self) -> None:
        self.network.introduce()
        self.network.after(0.5, self._discover)

    def peer(self) -> SimulatedPeer:
        self.count += 1
        return self.network.peer(f"p{self.count}")

    def spool(self) -> tuple[SimulatedPeer, SlowDisk, Spooled]:
        peer = self.peer()
        disk = SlowDisk(peer, self.medium)
        settled = Ranges()
        for first, last in self.medium.settled:
            settled.add(first, last)
        found = Recovered(
            queue="jobs",
            stream=STREAM,
            first=1,
            safe=self.medium.safe,
            doubtful=self.medium.safe,
            settled=settled,
            attempts=dict(self.medium.attempts),
            room=Room(0, 1),
            known=self.medium.known(),
        )
        spooled = peer.node.spooling.open(found, Limits(), disk, peer.clock())
        peer.touch()
        return peer, disk, spooled

    def pusher(self) -> tuple[SimulatedPeer, Outbox]:
        peer = self.peer()
        return peer, peer.node.push("jobs", window=1 << 20, window_bytes=1 << 30, now=peer.clock())

    def push(self, peer: SimulatedPeer, outbox: Outbox, numbers: Sequence[int]) -> None:
        outbox.outgoing.items += [msgpack.packb(number) for number in numbers]
        peer.touch(outbox)

    def worker(self, *, fails: Callable[[int], bool] = lambda number: False) -> SimulatedPeer:
        """A puller that takes what has come every now and then, and acks it, or nacks it."""
        peer = self.peer()
        inbox = Inbox(lambda: None)
        core = peer.node.pull("jobs", inbox, prefetch=50, prefetch_bytes=1 << 20)

        def work() -> None:
            if not peer.alive:
                return
            while inbox.arrived:
                batch = inbox.arrived.popleft()
                assert isinstance(batch, Batch)
                inbox.taken.append(batch)
                inbox.handing = Handing(batch, ())
                items = split(batch.body, batch.count)
                for place in range(batch.skip, batch.stop):
                    number = msgpack.unpackb(items[place])
                    number = number[0] if batch.extended else number
                    self.seen[number].append(batch.redelivered)
                    self.attempts[number] = batch.attempt
                    if fails(number):
                        batch.link.others.append(Settled(batch.first + place, NACKED, 0.0, "", batch, place))
                    else:
                        batch.link.acks.append(batch.first + place)
            peer.touch(core)
            self.network.after(self.network.random.uniform(0.0, 0.1), work)

        peer.touch()
        work()
        return peer

    def run(self, seconds: float, until: Callable[[], object] = lambda: False) -> bool:
        return self.network.run(seconds, lambda: bool(until()))

    def unmarked(self) -> list[int]:
        """What came twice and did not say so."""
        return [number for number, marks in self.seen.items() if marks.count(False) > 1]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_crashes_at_any_moment_lose_nothing_that_was_confirmed(seed: int) -> None:
    """Spool, pusher and pullers are killed at random; what the pusher had been confirmed comes, and repeats say so."""
    weather = Weather(mailbox_loss=0.05, mailbox_repeat=0.05, mailbox_late=0.05)
    scene = Scene(seed, weather)
    random = scene.network.random
    spool, _, _ = scene.spool()
    source, outbox = scene.pusher()
    worker = scene.worker()
    confirmed: set[int] = set()
    base = sent = 0  # of this pusher; numbers given out in all

    def note() -> None:
        for first, last in outbox.done:
            confirmed.update(range(base + first, base + last + 1))

    for _ in range(8):
        count = random.randrange(1, 120)
        scene.push(source, outbox, range(sent + 1, sent + count + 1))
        sent += count
        scene.run(random.uniform(0.0, 1.5))
        note()
        match random.randrange(4):
            case 0:
                scene.network.kill(spool, vanish=random.random() < 0.3)
                scene.run(random.uniform(0.0, 3.0))
                spool, _, _ = scene.spool()
            case 1:
                scene.network.kill(worker, vanish=random.random() < 0.3)
                worker = scene.worker()
            case 2:
                scene.network.kill(source)
                note()
                base = sent
                source, outbox = scene.pusher()
            case _:
                pass
    assert scene.run(120.0, lambda: not outbox.held and not outbox.outgoing.items and confirmed <= set(scene.seen))
    note()
    assert scene.run(60.0, lambda: confirmed <= set(scene.seen))
    assert len(confirmed) > 0
    assert scene.unmarked() == []
    assert scene.medium.repeats() == []


def test_nothing_is_confirmed_before_it_is_synced_and_nothing_is_sent_to_pullers_directly() -> None:
    scene = Scene()
    scene.spool()
    source, outbox = scene.pusher()
    scene.worker()
    scene.run(3.0)
    scene.push(source, outbox, range(100))
    confirmed_early = []

    def look() -> bool:
        if outbox.stored > scene.medium.safe:
            confirmed_early.append(outbox.stored)
        return outbox.stored == 100 and len(scene.seen) == 100

    assert scene.run(10.0, look)
    assert confirmed_early == []
    assert (outbox.acked, outbox.stored) == (0, 100)
    assert list(scene.seen) == list(range(100))


def test_what_was_stored_when_the_spool_was_killed_is_told_to_be_stored_and_not_stored_again() -> None:
    scene = Scene()
    spool, disk, _ = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    disk._answer = lambda event: None  # type: ignore[method-assign] - killed between the sync and what it says
    scene.push(source, outbox, range(100))
    assert scene.run(5.0, lambda: scene.medium.safe)
    assert outbox.stored == 0
    scene.network.kill(spool)
    scene.run(1.0)
    scene.push(source, outbox, range(100, 110))
    _, _, spooled = scene.spool()
    assert scene.run(10.0, lambda: outbox.stored == 110)
    assert scene.medium.safe == 110
    assert spooled.repeated > 0
    assert scene.medium.repeats() == []
    scene.worker()
    assert scene.run(10.0, lambda: len(scene.seen) == 110)
    assert all(len(marks) == 1 for marks in scene.seen.values())


def test_of_a_batch_of_which_a_part_is_known_the_rest_is_stored() -> None:
    scene = Scene()
    _, _, spooled = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    for first, last in ((3, 4), (8, 8), (10, 10)):
        spooled.known.add(source.node.card.id, first, last)
    scene.push(source, outbox, range(1, 11))
    assert scene.run(5.0, lambda: outbox.stored == 10)
    scene.worker()
    assert scene.run(5.0, lambda: len(scene.seen) == 6)
    assert list(scene.seen) == [1, 2, 5, 6, 7, 9]
    assert (scene.medium.safe, spooled.repeated) == (6, 4)
    scene.push(source, outbox, [11])
    assert scene.run(5.0, lambda: outbox.stored == 11)


def test_repeats_of_what_is_on_its_way_to_the_disk_share_its_fate() -> None:
    """The link is lost while the disk is busy; what comes again on the next one is told with the first."""
    scene = Scene()
    spool, disk, spooled = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    append, held = disk.append, []
    disk.append = lambda *batch: held.append(batch)  # type: ignore[method-assign]
    scene.push(source, outbox, range(10))
    assert scene.run(5.0, lambda: spooled.storing)
    network = scene.network
    network.sever(source, spool)
    network.sever(spool, source)
    assert scene.run(10.0, lambda: outbox.waiting == 10)  # it is given up
    network.heal(source, spool)
    network.heal(spool, source)
    assert scene.run(10.0, lambda: spooled.repeated == 10)
    assert outbox.stored == 0
    assert len(held) == 1
    disk.failing = "no"
    append(*held[0])
    assert scene.run(5.0, lambda: not spooled.storing)
    scene.run(1.0)
    assert (outbox.stored, outbox.held) == (0, 10)
    scene.worker()
    assert scene.run(10.0, lambda: len(scene.seen) == 10)


def test_batches_are_stored_and_delivered_as_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are taken apart neither on the way in nor on the way out; a new link asks for the size of its first one."""
    taken_apart: list[int] = []

    def counted(body: Buffer, count: int) -> list[bytes]:
        taken_apart.append(count)
        return split(body, count)

    monkeypatch.setattr("zq.wire.batch.split", counted)
    scene = Scene()
    scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    for start in range(0, 50, 10):
        scene.push(source, outbox, range(start, start + 10))
        assert scene.run(5.0, lambda wanted=start + 10: outbox.stored == wanted)
    scene.worker()
    assert scene.run(5.0, lambda: len(scene.seen) == 50)
    assert list(scene.seen) == list(range(50))
    assert len(taken_apart) <= 1


def test_what_the_disk_could_not_take_goes_back_and_the_spool_leaves_the_roster() -> None:
    scene = Scene()
    spool, disk, spooled = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    scene.push(source, outbox, range(10))
    assert scene.run(5.0, lambda: outbox.stored == 10)
    disk.failing = "it is broken"
    scene.push(source, outbox, range(10, 20))
    assert scene.run(5.0, lambda: spooled.broken)
    assert outbox.held == 10
    assert spool.troubles
    scene.worker()
    assert scene.run(10.0, lambda: len(scene.seen) == 20)
    assert scene.run(10.0, lambda: outbox.acked == 10)
    assert scene.run(10.0, lambda: spooled.unsettled == 0)


def test_of_two_spools_one_is_used_and_the_other_only_delivers() -> None:
    scene = Scene()
    scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    scene.push(source, outbox, range(10))
    assert scene.run(5.0, lambda: outbox.stored == 10)
    other = scene.peer()
    medium = Medium()
    found = Recovered(
        queue="jobs", stream=b"a" * 16, first=1, safe=0, doubtful=0, settled=Ranges(), attempts={}, room=Room(0, 1)
    )

    class Other(SlowDisk):
        def _commit(self) -> None:
            asked, self._asked = self._asked, []
            for length, runs, body, flags in asked:
                first = medium.safe + 1
                medium.items.append(Item(first, first + length - 1, flags, runs, body))
                self._answer(
                    lambda first=first: other.node.spooling.on_stored(b"a" * 16, [first], Room(0, 1), other.clock())
                )  # fmt: skip

    other.node.spooling.open(found, Limits(), Other(other, medium), other.clock())
    other.touch()
    scene.run(3.0)
    scene.push(source, outbox, range(10, 20))
    assert scene.run(5.0, lambda: outbox.stored == 20)
    assert (scene.medium.safe, medium.safe) == (10, 10)
    scene.worker()
    assert scene.run(5.0, lambda: len(scene.seen) == 20)


def test_attempts_that_failed_are_on_the_disk_and_a_dead_message_stays_until_its_letter_is_gone() -> None:
    scene = Scene()
    spool, _, _ = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    scene.push(source, outbox, [1, 2, 3])
    assert scene.run(5.0, lambda: outbox.stored == 3)
    scene.worker(fails=lambda number: number == 2)
    letters = spool.node.relaying.letters_of
    assert scene.run(20.0, lambda: letters("jobs") is not None)
    assert scene.attempts[2] == 5
    scene.run(1.0)
    assert list(scene.medium.settled) == [(1, 1), (3, 3)]
    scene.network.kill(spool)
    again, _, spooled = scene.spool()
    assert scene.run(10.0, lambda: again.node.relaying.letters_of("jobs") is not None)
    assert spooled.unsettled == 1
    row = next(row for row in again.node.ledger(again.clock()).held if row.queue == "jobs")
    assert row.balanced
    assert row.dropped == {"rejected": 1}
    assert len(scene.seen[2]) == 5


@pytest.mark.parametrize("jump", [-1e6, 0.0, 1e6])
def test_a_wall_clock_that_is_set_changes_neither_delays_nor_times_to_live(jump: float) -> None:
    """The spool is killed, and opened again within the same boot of the machine."""
    scene = Scene()
    spool, _, _ = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    began = scene.network.now
    for number, (ttl, delay) in enumerate([(None, 10.0), (5.0, 0.0), (60.0, 0.0)]):
        plan = Plan(NORMAL, None, ttl, delay)
        outbox.outgoing.items.append(planned(pack(number, [None, None, *plan.extra]), plan))
    source.touch(outbox)
    assert scene.run(2.0, lambda: outbox.stored == 3)
    scene.network.kill(spool)
    scene.medium.wall_ahead += jump
    scene.run(6.0)
    scene.spool()
    scene.worker()
    assert not scene.run(began + 9.5 - scene.network.now, lambda: 0 in scene.seen)
    assert list(scene.seen) == [2]
    assert scene.run(5.0, lambda: 0 in scene.seen)


def test_after_another_boot_only_the_wall_clock_tells_how_long_ago_something_came() -> None:
    scene = Scene()
    spool, _, _ = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    plan = Plan(NORMAL, None, 60.0, 0.0)
    outbox.outgoing.items.append(planned(pack(1, [None, None, *plan.extra]), plan))
    source.touch(outbox)
    assert scene.run(2.0, lambda: outbox.stored == 1)
    scene.network.kill(spool)
    scene.medium.boot, scene.medium.booted = b"next one", scene.network.now + 50.0
    scene.medium.wall_ahead += 100.0
    again, _, _ = scene.spool()
    scene.worker()
    assert scene.run(5.0, lambda: any(row.expired for row in again.node.ledger(again.clock()).held))
    assert scene.seen == {}


def test_a_backlog_is_in_memory_only_for_a_window_and_comes_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.core.spooling.WINDOW", 200)
    scene = Scene()
    _, _, spooled = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    most = 0
    for start in range(0, 5_000, 100):
        scene.push(source, outbox, range(start, start + 100))
        assert scene.run(5.0, lambda wanted=start + 100: outbox.stored == wanted)
        most = max(most, spooled.outbox.held)
    scene.worker()
    assert scene.run(60.0, lambda: len(scene.seen) == 5_000)
    assert list(scene.seen) == list(range(5_000))
    assert all(marks == [False] for marks in scene.seen.values())
    assert most <= 300


def test_a_spool_that_is_killed_charges_nobody_an_attempt_and_nothing_goes_alone_afterwards() -> None:
    scene = Scene()
    spool, disk, spooled = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    disk.append = lambda *batch: None  # type: ignore[method-assign] - it hangs
    scene.push(source, outbox, range(20))
    assert scene.run(5.0, lambda: spooled.storing)
    scene.run(1.0)  # the pusher hears that it has arrived
    scene.network.kill(spool)
    scene.worker()
    assert scene.run(10.0, lambda: len(scene.seen) == 20)
    assert set(scene.attempts.values()) == {1}
    assert all(marks == [True] for marks in scene.seen.values())
    assert not any(piece.alone for piece in outbox.pieces())


def test_an_outbox_turns_to_a_spool_once_all_has_arrived_at_its_pullers() -> None:
    scene = Scene()
    source, outbox = scene.pusher()
    puller = scene.worker()
    scene.run(3.0)
    scene.network.slow(source, puller, 1.0)
    scene.push(source, outbox, range(10))
    assert scene.run(5.0, lambda: outbox.in_flight)
    scene.spool()
    assert scene.run(5.0, lambda: outbox.turning)
    scene.push(source, outbox, range(10, 20))
    assert scene.run(20.0, lambda: len(scene.seen) == 20)
    assert list(scene.seen) == list(range(20))
    assert outbox.stored > 0
