"""Outboxes on disk on the simulated network: their process, the spool and the pullers are killed at any moment."""

from __future__ import annotations

from collections.abc import Sequence

import msgpack
import pytest

from tests.core.test_spooling import Medium, Scene, SlowDisk
from zq.core.intake import Intake
from zq.core.ranges import Ranges
from zq.core.spooled import Room, Spooled
from zq.core.topics import Origin
from zq.testing import SimulatedPeer, Weather
from zq.wire.plan import NORMAL, Plan, planned
from zq.wire.stored import Stored, encode

SEEDS = 40  # schedules; a few hundredths of a second each
BOX, BOX_LETTERS = b"b" * 16, b"d" * 16


class BoxDisk(SlowDisk):
    """One whose owner sends in groups."""

    def append_all(self, stream: bytes, batches: Sequence[Stored]) -> None:
        for batch in batches:
            self.append(stream, len(batch.items), batch.runs, encode(batch), batch.flags)

    def look(self, stream: bytes) -> None:
        self._answer(lambda: self._peer.node.spooling.on_room(stream, Room(0, 1)))


class Producer:
    """A process with an outbox: what it has sent, by ticket, and how far it was told that it is safe."""

    def __init__(self, scene: BoxScene) -> None:
        self.scene = scene
        self.peer: SimulatedPeer = scene.peer()
        self.disk = BoxDisk(self.peer, scene.box, scene.box_letters)
        scene.epoch += 1
        self.intake = Intake("jobs", 5, Origin(b"o" * 8 + scene.epoch.to_bytes(8, "big")))
        self.spooled: Spooled = self.peer.node.spooling.open_outbox(
            scene.box.recovered(), scene.box_letters.recovered(), scene.limits, self.disk, self.intake,
            self.peer.clock(),
        )  # fmt: skip
        self.sent: list[int] = []
        self.peer.touch()

    def send(self, numbers: Sequence[int], plan: Plan | None = None) -> None:
        packed = [msgpack.packb(number) for number in numbers]
        if plan is not None:
            packed = [planned(msgpack.packb([number, [None, None, *plan.extra]]), plan) for number in numbers]
        self.intake.outgoing.items += packed
        self.intake.given += len(packed)
        self.sent += numbers
        self.peer.touch(self.intake)

    @property
    def confirmed(self) -> list[int]:
        return self.sent[: self.intake.safe]

    def withdraw(self, first: int, last: int) -> int:
        safe = self.intake.withdraw(first, last, self.disk.stamp())
        self.peer.touch(self.intake)
        return safe


class BoxScene(Scene):
    """With the disk of a producer, which outlives it."""

    def __init__(self, seed: int = 1, weather: Weather | None = None) -> None:
        super().__init__(seed, weather)
        self.box = Medium(BOX)
        self.box_letters = Medium(BOX_LETTERS, "jobs.dead")
        self.epoch = 0

    def cut_power(self, producer: Producer) -> None:
        """What is not synced is lost: of the journal everything of late."""
        self.network.kill(producer.peer)
        kept = Ranges()
        for first, last in list(self.box.settled)[: self.network.random.randrange(3)]:
            kept.add(first, last)
        self.box.settled = kept
        self.box.attempts.clear()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_crashes_at_any_moment_lose_nothing_that_send_has_confirmed(seed: int) -> None:
    weather = Weather(mailbox_loss=0.05, mailbox_repeat=0.05, mailbox_late=0.05)
    scene = BoxScene(seed, weather)
    random = scene.network.random
    spool, worker, producer = None, scene.worker(), Producer(scene)
    confirmed: set[int] = set()
    sent = 0
    for _ in range(8):
        for _ in range(random.randrange(1, 4)):
            count = random.randrange(1, 60)
            producer.send(range(sent + 1, sent + count + 1))
            sent += count
            scene.run(random.uniform(0.0, 0.5))
        confirmed.update(producer.confirmed)
        match random.randrange(6):
            case 0:
                scene.cut_power(producer)
                producer = Producer(scene)
            case 1:
                scene.network.kill(producer.peer, vanish=random.random() < 0.3)
                scene.run(random.uniform(0.0, 2.0))
                producer = Producer(scene)
            case 2:
                scene.network.kill(worker, vanish=random.random() < 0.3)
                worker = scene.worker()
            case 3 if spool is None:
                spool, _, _ = scene.spool()
            case 3 | 4 if spool is not None:
                scene.network.kill(spool, vanish=random.random() < 0.3)
                scene.run(random.uniform(0.0, 3.0))
                spool = scene.spool()[0] if random.random() < 0.7 else None
            case _:
                pass
    assert scene.run(120.0, lambda: not producer.spooled.left and producer.intake.safe == len(producer.sent))
    if spool is None and scene.medium.unsettled():
        scene.spool()
    confirmed.update(producer.confirmed)
    assert scene.run(60.0, lambda: confirmed <= set(scene.seen)), sorted(confirmed - set(scene.seen))
    assert scene.unmarked() == []
    assert scene.medium.repeats() == []
    row = next(row for row in producer.peer.node.ledger(producer.peer.clock()).held if row.queue == "jobs")
    assert row.balanced
    assert row.taken == row.acked + row.stored


def test_nothing_leaves_an_outbox_before_it_is_synced() -> None:
    scene = BoxScene()
    scene.worker()
    producer = Producer(scene)
    early: list[int] = []
    scene.run(3.0)
    for start in range(0, 300, 30):
        producer.send(range(start, start + 30))
        scene.run(0.01)

    def look() -> bool:
        if len(scene.seen) > scene.box.safe or producer.intake.safe > scene.box.safe:
            early.append(scene.box.safe)
        return len(scene.seen) == 300

    assert scene.run(10.0, look)
    assert early == []
    assert list(scene.seen) == list(range(300))
    assert all(marks == [False] for marks in scene.seen.values())


def test_what_its_process_had_sent_before_it_was_killed_is_known_by_the_spool() -> None:
    """The receipts are lost with it; it is sent again, and the spool has it once."""
    scene = BoxScene()
    scene.spool()
    producer = Producer(scene)
    scene.run(3.0)
    producer.send(range(100))
    assert scene.run(5.0, lambda: scene.medium.safe == 100)
    scene.cut_power(producer)
    producer = Producer(scene)
    producer.send(range(100, 110))
    assert scene.run(10.0, lambda: not producer.spooled.left)
    assert scene.medium.safe == 110
    assert scene.medium.repeats() == []
    scene.worker()
    assert scene.run(5.0, lambda: len(scene.seen) == 110)
    assert list(scene.seen) == list(range(110))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_was_withdrawn_in_time_comes_never_and_all_else_does_in_order(seed: int) -> None:
    """While the disk fails and recovers; nothing that came later is stored before what failed."""
    scene = BoxScene(seed)
    random = scene.network.random
    scene.worker()
    producer = Producer(scene)
    scene.run(3.0)
    spooling, withdrawn, sent = producer.peer.node.spooling, set[int](), 0

    def fail_full() -> None:
        asked, producer.disk._asked = producer.disk._asked, []
        clock = producer.peer.clock

        def tell() -> None:
            spooling.on_failed(BOX, len(asked), "full", full=True, room=Room(0, 1), now=clock())

        producer.disk._answer(tell)

    commit = producer.disk._commit
    for _ in range(30):
        count = random.randrange(1, 20)
        producer.send(range(sent + 1, sent + count + 1))
        sent += count
        producer.disk._commit = fail_full if random.random() < 0.3 else commit  # type: ignore[method-assign]
        scene.run(random.uniform(0.0, 0.1))
        if random.random() < 0.5:
            first = random.randrange(1, sent + 1)
            last = min(first + random.randrange(5), sent)
            safe = producer.withdraw(first, last)
            withdrawn.update(range(first + safe, last + 1))
        if producer.intake.full:
            spooling.on_room(BOX, Room(0, 1))
            producer.peer.touch()
    producer.disk._commit = commit  # type: ignore[method-assign]
    expected = [number for number in range(1, sent + 1) if number not in withdrawn]
    assert scene.run(30.0, lambda: producer.intake.safe == sent and not producer.spooled.left)
    assert list(scene.seen) == expected
    assert all(marks == [False] for marks in scene.seen.values())
    row = next(row for row in producer.peer.node.ledger(producer.peer.clock()).held if row.queue == "jobs")
    assert (row.balanced, row.taken, row.acked) == (True, len(expected), len(expected))


def test_a_disk_that_has_failed_confirms_nothing_more_and_what_it_has_is_delivered() -> None:
    scene = BoxScene()
    producer = Producer(scene)
    scene.run(3.0)
    producer.send(range(10))
    assert scene.run(5.0, lambda: producer.intake.safe == 10)
    producer.disk.failing[BOX] = "it is broken"
    producer.send(range(10, 20))
    assert scene.run(5.0, lambda: producer.intake.problem == "it is broken")
    producer.send(range(20, 30))
    scene.run(1.0)
    assert producer.intake.safe == 10
    scene.worker()
    assert scene.run(5.0, lambda: len(scene.seen) == 10)


def test_a_disk_thread_that_ends_confirms_nothing_more() -> None:
    scene = BoxScene()
    producer = Producer(scene)
    scene.run(3.0)
    producer.disk._commit = lambda: None  # type: ignore[method-assign]
    producer.send(range(10))
    scene.run(1.0)
    producer.peer.deliver(lambda: producer.peer.node.spooling.on_ended(producer.disk, producer.peer.clock()))
    assert scene.run(1.0, lambda: "has ended" in producer.intake.problem)
    assert producer.intake.safe == 0


def test_of_a_key_one_message_is_under_way_across_pushers_through_one_spool() -> None:
    """Three producers, one of them with an outbox, use the same keys; five pullers take what they get."""
    scene = BoxScene()
    _, _, spooled = scene.spool()
    for _ in range(5):
        scene.worker()
    producer = Producer(scene)
    plans = [Plan(NORMAL, key) for key in ("a", "b")]
    sources = [scene.pusher() for _ in range(2)]
    scene.run(3.0)
    for number in range(40):
        plan = plans[number % 2]
        producer.send([3 * number], plan)
        for place, (peer, outbox) in enumerate(sources, 1):
            item = msgpack.packb([3 * number + place, [None, None, *plan.extra]])
            outbox.outgoing.items.append(planned(item, plan))
            peer.touch(outbox)
    most: dict[str, int] = {}

    def look() -> bool:
        under_way: dict[str, int] = {}
        for piece in spooled.holder.in_flight(spooled.outbox):
            plan = piece.chunk.plan
            assert plan is not None
            assert plan.key is not None
            under_way[plan.key] = under_way.get(plan.key, 0) + piece.count
        for key, count in under_way.items():
            most[key] = max(most.get(key, 0), count)
        return len(scene.seen) == 120

    assert scene.run(60.0, look)
    assert most == {"a": 1, "b": 1}
    assert all(marks == [False] for marks in scene.seen.values())


@pytest.mark.parametrize("key", [None, "k"])
def test_what_is_not_due_when_its_spool_is_lost_waits_until_it_is_and_holds_no_key_meanwhile(key: str | None) -> None:
    """A spool gets it at once, and pullers do not, whether it was under way or behind another one of its key."""
    scene = BoxScene()
    spool, disk, _ = scene.spool()
    peer, outbox = scene.pusher()
    scene.run(3.0)
    disk._commit = lambda: None  # type: ignore[method-assign] - it hangs
    for number in (1, 2):
        plan = Plan(NORMAL, key, None, 6.0)
        outbox.outgoing.items.append(planned(msgpack.packb([number, [None, None, *plan.extra]]), plan))
    peer.touch(outbox)
    sent = scene.network.now
    assert scene.run(2.0, lambda: outbox.in_flight)
    scene.network.kill(spool)
    scene.worker()
    now_due = Plan(NORMAL, "k")
    outbox.outgoing.items.append(planned(msgpack.packb([3, [None, None, *now_due.extra]]), now_due))
    peer.touch(outbox)
    assert scene.run(4.0, lambda: 3 in scene.seen), "nobody that is not due holds its key"
    assert list(scene.seen) == [3]
    assert scene.run(20.0, lambda: len(scene.seen) == 3)
    assert scene.network.now - sent >= 6.0
    assert scene.run(2.0, lambda: not outbox.held)
