"""A spool between pushers and pullers on the simulated network, with a disk that is slow and outlives crashes."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgpack
import pytest

from zq.core.inbox import Handing, Inbox
from zq.core.origins import Origins
from zq.core.outbox import Outbox
from zq.core.ranges import Ranges
from zq.core.receiving import Settled
from zq.core.spooled import Item, Limits, Recovered, Room, Spooled
from zq.testing import SimulatedNetwork, SimulatedPeer, Weather
from zq.wire.batch import REDELIVERED, Batch, Buffer, Run, split
from zq.wire.data import pack, unpack
from zq.wire.dead import history_of
from zq.wire.frames import LIST, NACKED, PURGE, REJECTED, RETRY
from zq.wire.plan import NORMAL, Plan, planned
from zq.wire.stored import Stamp, decode

STREAM, LETTERS = b"s" * 16, b"l" * 16
UNLIMITED = Limits()
SEEDS = 40  # schedules; a few hundredths of a second each


@dataclass
class Medium:
    """What is on a disk, whoever has it open."""

    stream: bytes = STREAM
    queue: str = "jobs"
    items: list[Item] = field(default_factory=list)
    settled: Ranges = field(default_factory=Ranges)
    attempts: dict[int, int] = field(default_factory=dict)
    wall_ahead: float = 1e9  # of its machine
    boot: bytes = b"the boot"
    booted: float = 0.0

    @property
    def safe(self) -> int:
        return self.items[-1].last if self.items else 0

    def repeats(self) -> list[tuple[bytes, int]]:
        """What is stored more than once."""
        counts = Counter(
            (run.origin, run.first + place) for item in self.items for run in item.runs for place in range(run.length)
        )
        return [number for number, count in counts.items() if count > 1]

    def recovered(self) -> Recovered:
        settled, known = Ranges(), Origins()
        for first, last in self.settled:
            settled.add(first, last)
        for item in self.items:
            for run in item.runs:
                known.add(run.origin, run.first, run.first + run.length - 1)
        return Recovered(
            queue=self.queue,
            stream=self.stream,
            first=1,
            safe=self.safe,
            doubtful=self.safe,
            settled=settled,
            attempts=dict(self.attempts),
            room=Room(0, 1),
            known=known,
        )

    def unsettled(self) -> list[bytes]:
        """Messages as they were stored."""
        return [
            stored.items[number - item.first]
            for item in self.items
            for stored in [decode(item.body or b"", item.last - item.first + 1, item.flags, item.runs)]
            for number in range(item.first, item.last + 1)
            if number not in self.settled
        ]


class SlowDisk:
    """`zq.core.spooled.Disk` of one peer: it does what it is asked for after a while, and says so later still; with
    the peer it ends, and what it was asked for and had not done is lost."""

    def __init__(self, peer: SimulatedPeer, *media: Medium) -> None:
        self._peer = peer
        self._media = {medium.stream: medium for medium in media}
        self._asked: list[tuple[bytes, int, Sequence[Run], bytes, int]] = []
        self._reads: deque[tuple[bytes, int]] = deque()
        self.failing: dict[bytes, str] = {}  # by stream, why
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
        self._asked.append((stream, length, runs, body, flags))

    def _commit(self) -> None:
        asked, self._asked = self._asked, []
        for stream, medium in self._media.items():
            mine = [(length, runs, body, flags) for of, length, runs, body, flags in asked if of == stream]
            if not mine:
                continue
            if reason := self.failing.get(stream, ""):
                self._answer(partial(self._fail, stream, len(mine), reason))
                continue
            firsts = []
            for length, runs, body, flags in mine:
                first = medium.safe + 1
                medium.items.append(Item(first, first + length - 1, flags, runs, body))
                firsts.append(first)
            self.synced += 1
            self._answer(partial(self._store, stream, firsts))

    def _fail(self, stream: bytes, count: int, reason: str) -> None:
        spooling, now = self._peer.node.spooling, self._peer.clock()
        spooling.on_failed(stream, count, reason, full=False, room=Room(0, 1), now=now)

    def _store(self, stream: bytes, firsts: list[int]) -> None:
        self._peer.node.spooling.on_stored(stream, firsts, Room(0, 1), self._peer.clock())

    def read(self, stream: bytes, first: int) -> None:
        def act() -> None:
            stream, first = self._reads.popleft()
            found = [item for item in self._media[stream].items if item.last >= first][:3]
            self._answer(lambda: self._peer.node.spooling.on_records(stream, found, self._peer.clock()))

        self._reads.append((stream, first))
        self._later(act)

    def settle(self, stream: bytes, first: int, last: int) -> None:
        self._media[stream].settled.add(first, last)

    def charge(self, stream: bytes, number: int, attempts: int) -> None:
        self._media[stream].attempts[number] = attempts

    def look(self, stream: bytes) -> None:
        pass

    def stamp(self) -> Stamp:
        now, medium = self._peer.network.now, next(iter(self._media.values()))
        return Stamp(now + medium.wall_ahead, medium.boot, now - medium.booted)


def number_in(item: bytes) -> int:
    """What a message says, be it dead or alive."""
    found = msgpack.unpackb(item)
    return int(found[0] if isinstance(found, list) else found)


class Scene:
    """One pusher, one spool, pullers that come and go."""

    def __init__(self, seed: int = 1, weather: Weather | None = None, limits: Limits = UNLIMITED) -> None:
        self.limits = limits
        self.network = SimulatedNetwork(seed, weather)
        self.medium = Medium()
        self.letters = Medium(LETTERS, "jobs.dead")
        self.count = 0
        self.seen: dict[int, list[bool]] = defaultdict(list)  # by message: whether it said that it was redelivered
        self.attempts: dict[int, int] = {}
        self.posted: Counter[int] = Counter()  # letters that were pulled
        self._discover()

    def _discover(self) -> None:
        self.network.introduce()
        self.network.after(0.5, self._discover)

    def peer(self) -> SimulatedPeer:
        self.count += 1
        return self.network.peer(f"p{self.count}")

    def spool(self) -> tuple[SimulatedPeer, SlowDisk, Spooled]:
        peer = self.peer()
        disk = SlowDisk(peer, self.medium, self.letters)
        spooled = peer.node.spooling.open(
            self.medium.recovered(), self.letters.recovered(), self.limits, disk, peer.clock()
        )
        peer.touch()
        return peer, disk, spooled

    def pusher(self) -> tuple[SimulatedPeer, Outbox]:
        peer = self.peer()
        return peer, peer.node.push("jobs", window=1 << 20, window_bytes=1 << 30, now=peer.clock())

    def push(self, peer: SimulatedPeer, outbox: Outbox, numbers: Sequence[int]) -> None:
        outbox.outgoing.items += [msgpack.packb(number) for number in numbers]
        peer.touch(outbox)

    def worker(
        self,
        queue: str = "jobs",
        *,
        fails: Callable[[int], bool] = lambda number: False,
        rejects: Callable[[int], bool] = lambda number: False,
    ) -> SimulatedPeer:
        """A puller that takes what has come every now and then, and acks it, nacks it or rejects it."""
        peer = self.peer()
        inbox = Inbox(lambda: None)
        core = peer.node.pull(queue, inbox, prefetch=50, prefetch_bytes=1 << 20)

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
                    number = number_in(items[place])
                    if queue != "jobs":
                        self.posted[number] += 1
                        batch.link.acks.append(batch.first + place)
                        continue
                    self.seen[number].append(batch.redelivered)
                    self.attempts[number] = batch.attempt
                    if rejects(number):
                        batch.link.others.append(Settled(batch.first + place, REJECTED, 0.0, "no", batch, place))
                    elif fails(number):
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


def small_window(monkeypatch: pytest.MonkeyPatch, messages: int) -> None:
    """Of a backlog no more than this is in memory."""
    for module in ("loading", "spooling"):
        monkeypatch.setattr(f"zq.core.{module}.WINDOW", messages)


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
    disk.failing[STREAM] = "no"
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
    disk.failing[STREAM] = "it is broken"
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
    medium, letters = Medium(b"a" * 16), Medium(b"b" * 16, "jobs.dead")
    disk = SlowDisk(other, medium, letters)
    other.node.spooling.open(medium.recovered(), letters.recovered(), Limits(), disk, other.clock())
    other.touch()
    scene.run(3.0)
    scene.push(source, outbox, range(10, 20))
    assert scene.run(5.0, lambda: outbox.stored == 20)
    assert (scene.medium.safe, medium.safe) == (10, 10)
    scene.worker()
    assert scene.run(5.0, lambda: len(scene.seen) == 20)


def letters_in(scene: Scene) -> list[int]:
    return [number_in(item) for item in scene.letters.unsettled()]


def deaths(scene: Scene) -> list[tuple[str, list[tuple[int, str]]]]:
    """Of each letter on the disk: its reason, and the attempts that failed."""
    told = []
    for item in scene.letters.unsettled():
        [(_, extra)] = unpack(item, 1, extended=True)
        headers = dict(zip(extra[1][::2], extra[1][1::2], strict=True))
        told.append((headers["dead-reason"], [(failed.attempt, failed.outcome) for failed in history_of(headers)]))
    return told


def ask(scene: Scene, spool: SimulatedPeer, action: int, *ids: str) -> Any:
    inquiry = spool.node.inquiries.begin(action, "jobs", ids, [spool.node.card.id], spool.clock())
    spool.touch()
    assert scene.run(20.0, lambda: inquiry.complete)
    return inquiry


def row_of(peer: SimulatedPeer, queue: str = "jobs") -> Any:
    row = next(row for row in peer.node.ledger(peer.clock()).held if row.queue == queue)
    assert row.balanced
    return row


def test_a_letter_is_on_the_disk_before_its_message_is_settled_and_has_reason_and_history_after_a_crash() -> None:
    scene = Scene()
    spool, _, spooled = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    scene.push(source, outbox, [1, 2, 3])
    assert scene.run(5.0, lambda: outbox.stored == 3)
    early = []

    def look() -> bool:
        if 2 in scene.medium.settled and not scene.letters.items:
            early.append(True)
        return 2 in scene.medium.settled

    scene.worker(fails=lambda number: number == 2)
    assert scene.run(20.0, look)
    assert early == []
    assert scene.attempts[2] == 5
    assert scene.run(5.0, lambda: spooled.unsettled == 0)
    assert row_of(spool).dropped == {"dead": 1}
    scene.network.kill(spool)
    again, _, _ = scene.spool()
    [(reason, history)] = deaths(scene)
    assert reason.startswith("5 attempts failed")
    assert history == [(attempt, "nacked") for attempt in range(1, 6)]
    assert [row[-1] for _, row in ask(scene, again, LIST).letters] == scene.letters.unsettled()
    assert row_of(again, "jobs.dead").waiting == 1
    scene.run(5.0)
    assert len(scene.seen[2]) == 5


def test_a_letter_that_the_disk_does_not_take_is_tried_again_and_its_message_stays() -> None:
    scene = Scene()
    spool, disk, spooled = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    disk.failing[LETTERS] = "it is full"
    scene.worker(rejects=lambda number: True)
    scene.push(source, outbox, [1, 2])
    assert scene.run(5.0, lambda: len(spooled.dying) == 2)
    scene.run(3.0)
    assert (list(scene.medium.settled), spooled.unsettled) == ([], 2)
    assert spool.troubles
    assert row_of(spool).dropped == {"rejected": 2}
    disk.failing.clear()
    assert scene.run(5.0, lambda: spooled.unsettled == 0)
    assert letters_in(scene) == [1, 2]


def test_letters_that_cannot_be_stored_keep_the_rest_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dead and has no letter counts as held: memory stays bounded whatever dies."""
    small_window(monkeypatch, 100)
    scene = Scene()
    _, disk, spooled = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    disk.failing[LETTERS] = "it is full"
    for start in range(0, 1_000, 20):
        scene.push(source, outbox, range(start, start + 20))
        assert scene.run(5.0, lambda wanted=start + 20: outbox.stored == wanted)
    scene.worker(rejects=lambda number: True)
    scene.run(10.0)
    assert 0 < len(spooled.dying) <= 300
    disk.failing.clear()
    assert scene.run(60.0, lambda: spooled.unsettled == 0)
    assert sorted(letters_in(scene)) == list(range(1_000))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_crashes_at_any_moment_leave_a_letter_of_everything_that_died(seed: int) -> None:
    """Spool and workers are killed at random. Nothing that was confirmed and not worked off is without a letter; where
    there are two, the second says that it was redelivered."""
    scene = Scene(seed, Weather(mailbox_loss=0.05, mailbox_repeat=0.05, mailbox_late=0.05))
    random = scene.network.random
    spool, _, _ = scene.spool()
    source, outbox = scene.pusher()
    is_bad = {"rejects": lambda number: number % 3 == 0}
    worker = scene.worker(**is_bad)
    sent = 0
    for _ in range(6):
        count = random.randrange(1, 60)
        scene.push(source, outbox, range(sent, sent + count))
        sent += count
        scene.run(random.uniform(0.0, 1.5))
        if random.random() < 0.6:
            scene.network.kill(spool, vanish=random.random() < 0.3)
            scene.run(random.uniform(0.0, 3.0))
            spool, _, _ = scene.spool()
        else:
            scene.network.kill(worker, vanish=random.random() < 0.3)
            worker = scene.worker(**is_bad)
    # What was under way when a spool was killed went to a worker directly, and its letter is at the pusher.
    assert scene.run(120.0, lambda: not outbox.outgoing.items and not outbox.held and scene.medium.unsettled() == [])
    at_pusher = [
        number_in(piece.chunk.items[piece.start])
        for letters in source.node.pushing.dead_outboxes()
        for piece in source.node.pushing.held(letters)
    ]
    expected = {number for number in range(sent) if number % 3 == 0}
    assert set(letters_in(scene)) | set(at_pusher) == expected
    unmarked: Counter[int] = Counter()
    for item in scene.letters.items:
        stored = decode(item.body or b"", 1, item.flags, item.runs)
        unmarked[number_in(stored.items[0])] += not stored.flags & REDELIVERED
    assert [number for number, times in unmarked.items() if times > 1] == []


def test_letters_on_the_disk_are_listed_retried_and_purged_however_many(monkeypatch: pytest.MonkeyPatch) -> None:
    small_window(monkeypatch, 50)
    monkeypatch.setattr("zq.core.letters.ROWS", 40)
    scene = Scene()
    spool, _, spooled = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    scene.push(source, outbox, range(500))
    assert scene.run(5.0, lambda: outbox.stored == 500)
    worker = scene.worker(rejects=lambda number: True)
    assert scene.run(30.0, lambda: len(letters_in(scene)) == 500)
    scene.network.kill(worker)
    scene.run(1.0)
    assert spooled.letters is not None
    assert spooled.letters.outbox.held <= 100
    listed = ask(scene, spool, LIST)
    assert [msgpack.unpackb(row[-1])[0] for _, row in listed.letters] == list(range(500))
    ids = [f"{row[2].hex()}-{row[3]}" for _, row in listed.letters]
    assert ask(scene, spool, PURGE, ids[7], ids[450]).count == 2
    assert ask(scene, spool, PURGE, ids[7]).count == 0
    assert len(letters_in(scene)) == 498
    assert ask(scene, spool, RETRY, ids[3], ids[499]).count == 2
    assert scene.run(5.0, lambda: spooled.unsettled == 2)
    scene.seen.clear()
    scene.worker()
    assert scene.run(10.0, lambda: set(scene.seen) == {3, 499})
    assert {scene.attempts[number] for number in (3, 499)} == {1}
    assert ask(scene, spool, RETRY).count == 496
    assert scene.run(30.0, lambda: len(scene.seen) == 498 and spooled.unsettled == 0)
    assert letters_in(scene) == []
    assert scene.run(5.0, lambda: spooled.letters is not None and spooled.letters.unsettled == 0)
    dropped = row_of(spool, "jobs.dead").dropped
    assert dropped == {"purged": 2, "retried": 498}
    assert row_of(spool).taken == 500 + 498


@pytest.mark.parametrize("other", [RETRY, PURGE])
def test_letters_that_two_ask_for_at_once_are_retried_once(other: int) -> None:
    scene = Scene()
    spool, _, spooled = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    scene.push(source, outbox, range(10))
    worker = scene.worker(rejects=lambda number: True)
    assert scene.run(30.0, lambda: len(letters_in(scene)) == 10)
    scene.network.kill(worker)
    scene.run(1.0)
    asked = [
        spool.node.inquiries.begin(action, "jobs", (), [spool.node.card.id], spool.clock()) for action in (RETRY, other)
    ]
    spool.touch()
    assert scene.run(20.0, lambda: all(inquiry.complete for inquiry in asked))
    assert spooled.letters is not None
    assert spooled.letters.unsettled == 0
    dropped = row_of(spool, "jobs.dead").dropped
    assert sum(dropped.values()) == 10
    assert spooled.taken == 10 + dropped["retried"]


@pytest.mark.parametrize("seed", range(SEEDS // 2))
def test_crashes_while_letters_are_retried_lose_neither_them_nor_their_messages(seed: int) -> None:
    """Whatever was dead is worked off or still dead when the spool has been killed in the middle of it."""
    scene = Scene(seed, Weather(mailbox_loss=0.05, mailbox_repeat=0.05, mailbox_late=0.05))
    random = scene.network.random
    spool, _, _ = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    scene.push(source, outbox, range(200))
    assert scene.run(20.0, lambda: outbox.stored == 200)
    worker = scene.worker(rejects=lambda number: True)
    assert scene.run(60.0, lambda: len(letters_in(scene)) == 200 and scene.medium.unsettled() == [])
    scene.network.kill(worker)
    scene.seen.clear()
    for _ in range(4):
        inquiry = spool.node.inquiries.begin(RETRY, "jobs", (), [spool.node.card.id], spool.clock())
        spool.touch()
        scene.run(random.uniform(0.0, 0.3), lambda: inquiry.complete)  # noqa: B023 - it runs here
        scene.network.kill(spool)
        there = {number_in(item) for item in scene.medium.unsettled()} | set(letters_in(scene))
        assert there == set(range(200))
        spool, _, _ = scene.spool()
    scene.worker()
    assert scene.run(60.0, lambda: scene.medium.unsettled() == [])
    assert set(scene.seen) | set(letters_in(scene)) == set(range(200))
    ask(scene, spool, RETRY)
    assert scene.run(60.0, lambda: set(scene.seen) == set(range(200)))
    assert scene.run(10.0, lambda: letters_in(scene) == [])


def test_letters_on_the_disk_are_pulled_like_any_other_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    small_window(monkeypatch, 50)
    scene = Scene()
    spool, _, _ = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    scene.push(source, outbox, range(300))
    scene.worker(rejects=lambda number: True)
    assert scene.run(30.0, lambda: len(letters_in(scene)) == 300 and scene.medium.unsettled() == [])
    scene.network.kill(spool)
    spool, _, _ = scene.spool()
    scene.worker("jobs.dead")
    assert scene.run(30.0, lambda: letters_in(scene) == [])
    assert scene.posted == Counter(range(300))
    assert scene.run(5.0, lambda: row_of(spool, "jobs.dead").acked == 300)


def test_a_queue_takes_no_message_more_than_its_limit_from_however_many_pushers() -> None:
    scene = Scene(limits=Limits(max_messages=100))
    _, _, spooled = scene.spool()
    pushers = [scene.pusher() for _ in range(3)]
    scene.run(3.0)
    for number, (source, outbox) in enumerate(pushers):
        scene.push(source, outbox, range(number * 200, number * 200 + 200))
    assert scene.run(10.0, lambda: spooled.unsettled == 100)
    scene.run(5.0)
    assert (spooled.unsettled, len(scene.medium.unsettled())) == (100, 100)
    scene.worker()
    assert scene.run(60.0, lambda: len(scene.seen) == 600 and spooled.unsettled == 0)
    assert all(len(marks) == 1 for marks in scene.seen.values())


def test_of_more_letters_than_are_to_be_kept_the_oldest_are_forgotten() -> None:
    scene = Scene(limits=Limits(max_dead=10))
    spool, _, _ = scene.spool()
    source, outbox = scene.pusher()
    scene.run(3.0)
    scene.push(source, outbox, range(100))
    scene.worker(rejects=lambda number: True)
    assert scene.run(30.0, lambda: len(scene.letters.items) == 100)
    assert scene.run(5.0, lambda: letters_in(scene) == list(range(90, 100)))
    assert row_of(spool, "jobs.dead").dropped == {"forgotten": 90}


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
    small_window(monkeypatch, 200)
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
