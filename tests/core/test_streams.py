"""Topic streams of a spool on the simulated network: publishers, a disk that is slow and outlives crashes, readers."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import msgpack
import pytest

from zq.core.cursors import Begun, Charged, Forgotten, Found, Moved, Word
from zq.core.durable import Durable, Position
from zq.core.heads import LATE, Key
from zq.core.inbox import Handing, Inbox
from zq.core.ranges import Ranges
from zq.core.readers import FORGET_AFTER
from zq.core.receiving import Settled
from zq.core.spooled import Item, Room
from zq.core.stream import Newest, RecoveredTopics, Retention, TopicStream
from zq.core.topics import Topic
from zq.info import Gap
from zq.testing import SimulatedNetwork, SimulatedPeer, Weather
from zq.wire.batch import GAP, Batch, Run, split
from zq.wire.frames import NACKED, Entry, Recall
from zq.wire.kept import FROM_BEGINNING, FROM_COUNT, FROM_TIME, Kept, came_of, decode, gaps_in
from zq.wire.names import Filter

STREAM = b"s" * 16
SEEDS = 40  # schedules; a few hundredths of a second each


@dataclass
class Place:
    """A cursor as the medium has it."""

    base: int
    settled: Ranges = field(default_factory=Ranges)
    attempts: dict[int, int] = field(default_factory=dict)


@dataclass
class Medium:
    """What is on a disk, whoever has it open."""

    items: list[Item] = field(default_factory=list)
    first: int = 1
    cursors: dict[str, Place] = field(default_factory=dict)
    heads: tuple[int, dict[Key, int]] = (0, {})
    made: float = 0.0  # wall clock
    damaged: bool = False

    @property
    def safe(self) -> int:
        return self.items[-1].last if self.items else 0

    def recovered(self) -> RecoveredTopics:
        number, heads = self.heads
        heads = dict(heads)
        for item in self.items:
            assert item.body is not None
            kept = decode(item.body, item.last - item.first + 1, item.flags, item.runs)
            if item.last <= number:
                continue
            if isinstance(kept, Kept):
                heads[kept.run.origin, kept.topic] = kept.last
            else:
                gap = kept.gap
                heads[gap.publisher, gap.topic] = gap.first - 1 if gap.last is None else gap.last
        found = []
        for name, place in self.cursors.items():
            settled = Ranges()
            for first, last in place.settled:
                settled.add(first, last)
            found.append(
                Found(name=name, base=place.base, settled=settled, attempts=dict(place.attempts), doubtful=self.safe)
            )
        last_body = self.items[-1].body if self.items else None
        return RecoveredTopics(
            filter="t/**",
            stream=STREAM,
            first=self.first,
            safe=self.safe,
            heads=heads,
            retained={},
            stored_to=max(self.made, came_of(last_body) - LATE if last_body is not None else 0.0),
            cursors=tuple(found),
            damaged=self.damaged,
            room=Room(0, 1 << 30),
        )


class SlowDisk:
    """`zq.core.stream.Disk` of one peer: it does what it is asked for after a while, and says so later still; with
    the peer it ends, and what it was asked for and had not done is lost."""

    def __init__(self, peer: SimulatedPeer, medium: Medium) -> None:
        self._peer = peer
        self._medium = medium
        self._asked: list[tuple[int, Run, bytes, int]] = []
        self._calls: list[Callable[[], None]] = []
        self._refusing = False
        self.failing = ""
        self.lag = 0.05  # s at most
        self.used = 0  # bytes
        self.looks: list[bool] = []  # whether they let the stream go on

    def _later(self, act: Callable[[], None]) -> None:
        network = self._peer.network
        network.after(network.random.uniform(0.0, self.lag), lambda: act() if self._peer.alive else None)

    def _call(self, act: Callable[[], None]) -> None:
        """Behind all that was asked for before, but for what is to be appended."""
        if not self._calls:
            self._later(self.act)
        self._calls.append(act)

    def act(self) -> None:
        """All of that."""
        calls, self._calls = self._calls, []
        for act in calls:
            act()

    def _answer(self, event: Callable[[], None]) -> None:
        """In order; the order of simulated timers of one time is that in which they were set."""
        self._peer.network.after(0.01, lambda: self._peer.deliver(event))

    def append(self, stream: bytes, length: int, run: Run, body: bytes, flags: int) -> None:
        if not self._asked:
            self._later(self._commit)
        self._asked.append((length, run, body, flags))

    def _commit(self) -> None:
        asked, self._asked = self._asked, []
        streams, clock = self._peer.node.streams, self._peer.clock
        if self.failing or self._refusing:
            self._refusing = True
            self._answer(
                lambda: streams.on_failed(STREAM, len(asked), "full", full=True, room=Room(0, 0), now=clock())
            )  # fmt: skip
            return
        firsts = []
        for length, run, body, flags in asked:
            first = self._medium.safe + 1
            self._medium.items.append(Item(first, first + length - 1, flags, (run,), body))
            firsts.append(first)
        self._answer(lambda: streams.on_stored(STREAM, firsts, Room(self.used, 1 << 30), clock()))

    def read(self, stream: bytes, cursor: str, first: int) -> None:
        def act() -> None:
            found = [item for item in self._medium.items if item.last >= first][:3]
            self._answer(lambda: self._peer.node.streams.on_records(STREAM, cursor, first, found, self._peer.clock()))

        self._call(act)

    def seek(self, stream: bytes, cursor: str, place: float | Newest) -> None:
        def act() -> None:
            assert not isinstance(place, Newest)
            wall = place
            after = [item.first for item in self._medium.items if came_of(item.body or b"") >= wall]
            number = after[0] if after else self._medium.safe + 1
            self._answer(lambda: self._peer.node.streams.on_sought(STREAM, cursor, number, self._peer.clock()))

        self._call(act)

    def note(self, stream: bytes, word: Word) -> None:
        self._call(lambda: self._note(word))

    def _note(self, word: Word) -> None:
        cursors = self._medium.cursors
        match word:
            case Moved(cursor, first, last):
                if cursor:
                    cursors[cursor].settled.add(first, last)
                else:
                    self._medium.first = last + 1
                    self._medium.items = [item for item in self._medium.items if item.last > last]
            case Charged(cursor, number, attempts):
                cursors[cursor].attempts[number] = attempts
            case Begun(cursor, number):
                cursors[cursor] = Place(number)
            case Forgotten(cursor):
                del cursors[cursor]

    def save(self, stream: bytes, number: int, heads: Mapping[Key, int], retained: Mapping[str, int]) -> None:
        saved = number, dict(heads)

        def act() -> None:
            self._medium.heads = saved

        self._call(act)

    def look(self, stream: bytes, most_bytes: int | None, *, go_on: bool) -> None:
        self.looks.append(go_on)

        def act() -> None:
            self._refusing = bool(self.failing) or (self._refusing and not go_on)
            room = Room(0, 0 if self.failing else 1 << 30)
            self._answer(lambda: self._peer.node.streams.on_room(STREAM, room, 0, self._peer.clock()))

        self._call(act)


class Reading:
    """A program that reads by a cursor."""

    def __init__(self, peer: SimulatedPeer, durable: Durable, inbox: Inbox) -> None:
        self.peer, self.durable, self.inbox = peer, durable, inbox
        self.closing = False

    def close(self) -> None:
        self.closing = True
        self.peer.node.stop_pulling(self.durable.puller, self.peer.clock())
        self.peer.touch()

    @property
    def closed(self) -> bool:
        return self.peer.node.pulling.is_closed(self.durable.puller)


class Scene:
    """Publishers of `t/...`, one spool, readers that come and go."""

    def __init__(self, seed: int = 1, weather: Weather | None = None) -> None:
        self.network = SimulatedNetwork(seed, weather)
        self.medium = Medium()
        self.count = 0
        self.seen: dict[str, dict[object, list[bool]]] = defaultdict(lambda: defaultdict(list))
        self.gaps: dict[str, list[Gap]] = defaultdict(list)
        self._discover()

    def _discover(self) -> None:
        self.network.introduce()
        self.network.after(0.5, self._discover)

    def peer(self) -> SimulatedPeer:
        self.count += 1
        return self.network.peer(f"p{self.count}")

    def spool(self, retention: Retention | None = None) -> tuple[SimulatedPeer, SlowDisk, TopicStream]:
        peer = self.peer()
        disk = SlowDisk(peer, self.medium)
        peer.node.now = peer.clock()
        self.medium.made = self.medium.made or peer.wall()
        found = self.medium.recovered()
        stream = peer.node.streams.open(found, retention or Retention(), disk, peer.clock(), peer.wall())
        peer.touch()
        return peer, disk, stream

    def publisher(self, name: str = "t/a") -> tuple[SimulatedPeer, Topic]:
        peer = self.peer()
        return peer, peer.node.publish_topic(name, retain=False, patience=1.0)

    def publish(self, peer: SimulatedPeer, topic: Topic, values: Sequence[object]) -> None:
        topic.outgoing.items += [msgpack.packb(value) for value in values]
        peer.touch(topic)

    @staticmethod
    def flush(peer: SimulatedPeer, topic: Topic) -> None:
        """Asks until all has arrived."""
        peer.deliver(lambda: peer.node.topics.announce_head(topic, peer.clock()))

    def reader(
        self,
        cursor: str = "c",
        *filters: str,
        begin: Position | None = None,
        fails: Callable[[object], bool] = lambda value: False,
        peer: SimulatedPeer | None = None,
    ) -> Reading:
        """One that takes what has come every now and then, and acks it, or nacks it."""
        peer = peer or self.peer()
        inbox = Inbox(lambda: None)
        checked = [Filter(text) for text in filters or ("t/**",)]
        durable = peer.node.read(
            cursor, checked, begin, inbox, lasting=True, prefetch_bytes=1 << 20, now=peer.clock()
        )  # fmt: skip
        reading = Reading(peer, durable, inbox)

        def work() -> None:
            if not peer.alive or reading.closing:
                return
            while inbox.arrived:
                batch = inbox.arrived.popleft()
                assert isinstance(batch, Batch)
                inbox.taken.append(batch)
                inbox.handing = Handing(batch, ())
                if batch.flags & GAP:
                    self.gaps[cursor] += gaps_in(batch)
                    batch.link.acks.extend(range(batch.first + batch.skip, batch.first + batch.stop))
                    continue
                items = split(batch.body, batch.count)
                for place in range(batch.skip, batch.stop):
                    value = msgpack.unpackb(items[place], use_list=False)
                    self.seen[cursor][value].append(batch.redelivered)
                    if fails(value):
                        batch.link.others.append(Settled(batch.first + place, NACKED, 0.0, "", batch, place))
                    else:
                        batch.link.acks.append(batch.first + place)
            peer.touch(durable.puller)
            self.network.after(self.network.random.uniform(0.0, 0.1), work)

        peer.touch()
        work()
        return reading

    def run(self, seconds: float, until: Callable[[], object] = lambda: False) -> bool:
        return self.network.run(seconds, lambda: bool(until()))

    def unmarked(self, cursor: str = "c") -> list[object]:
        """What came twice and did not say so."""
        return [value for value, marks in self.seen[cursor].items() if marks.count(False) > 1]


def test_what_is_published_before_a_reader_comes_is_read_in_order_and_then_live() -> None:
    scene = Scene()
    scene.spool()
    source, topic = scene.publisher()
    scene.run(2.0)
    scene.publish(source, topic, range(100))
    assert scene.run(5.0, lambda: topic.arrived_everywhere(100) and topic.head == 100)
    assert scene.medium.safe == 100
    scene.reader(begin=(FROM_BEGINNING, 0.0))
    assert scene.run(5.0, lambda: len(scene.seen["c"]) == 100)
    scene.publish(source, topic, range(100, 200))
    assert scene.run(5.0, lambda: len(scene.seen["c"]) == 200)
    assert list(scene.seen["c"]) == list(range(200))
    assert all(marks == [False] for marks in scene.seen["c"].values())


def test_nothing_has_arrived_before_it_is_synced() -> None:
    scene = Scene()
    _, disk, _ = scene.spool()
    disk.lag = 2.0
    source, topic = scene.publisher()
    scene.run(2.0)
    scene.publish(source, topic, range(1_000))
    scene.flush(source, topic)
    early = []

    def look() -> bool:
        arrived = min((follower.arrived for follower in topic.followers.values()), default=0)
        if arrived > scene.medium.safe:
            early.append(arrived)
        return arrived == 1_000

    assert scene.run(10.0, look)
    assert early == []


def many_topics(scene: Scene, count: int) -> tuple[SimulatedPeer, list[Topic]]:
    """Of one publisher, with a message each."""
    source = scene.peer()
    topics = [source.node.publish_topic(f"t/{number}", retain=False, patience=1.0) for number in range(count)]
    scene.run(2.0)
    for topic in topics:
        scene.publish(source, topic, [topic.name])
        scene.run(0.01)
    return source, topics


def doubled(scene: Scene) -> list[tuple[bytes, int]]:
    """What is on the disk twice."""
    runs = [run for item in scene.medium.items if not item.flags & GAP for run in item.runs]
    stored = [(run.origin, number) for run in runs for number in range(run.first, run.first + run.length)]
    return [each for each, count in Counter(stored).items() if count > 1]


def close(peer: SimulatedPeer, stream: TopicStream) -> None:
    peer.node.streams.close(stream)
    peer.node.streams.forget(stream)
    assert isinstance(stream.disk, SlowDisk)
    stream.disk.act()
    peer.network.kill(peer)


@pytest.mark.parametrize("silent", [0.0, LATE + 1.0])
def test_however_many_topics_there_are_none_is_stored_twice_after_a_restart(
    silent: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of the table go when what they tell of is not asked for again, and not before."""
    monkeypatch.setattr("zq.core.heads.MOST", 5)
    scene = Scene()
    peer, _, stream = scene.spool()
    source, topics = many_topics(scene, 30)
    assert scene.run(5.0, lambda: stream.stretch.safe == 30)
    scene.run(silent)
    for topic in topics[:10]:
        scene.publish(source, topic, ["again"])
    assert scene.run(5.0, lambda: stream.stretch.safe == 40)
    assert len(stream.heads) == (10 if silent else 30)
    assert stream.heads.doubled == 0
    close(peer, stream)
    _, _, stream = scene.spool()
    scene.run(5.0, lambda: stream.subscription is not None)
    for topic in topics:
        scene.publish(source, topic, ["after"])
    assert scene.run(5.0, lambda: stream.stretch.safe >= 70)
    scene.run(5.0)
    assert doubled(scene) == []
    assert scene.medium.safe == 70


def test_a_stream_that_goes_on_asks_for_nothing_that_it_has_stored_and_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zq.core.heads.MOST", 5)
    scene = Scene()
    _, disk, stream = scene.spool()
    source, topics = many_topics(scene, 30)
    assert scene.run(5.0, lambda: stream.stretch.safe == 30)
    scene.run(LATE + 1.0)
    scene.publish(source, topics[0], ["again"])
    assert scene.run(5.0, lambda: stream.stretch.safe == 31)
    assert len(stream.heads) == 5
    disk.failing = "full"
    scene.publish(source, topics[1], ["later"])
    assert scene.run(5.0, lambda: stream.subscription is None)
    disk.failing = ""
    assert scene.run(5.0, lambda: stream.subscription is not None and stream.stretch.safe >= 32)
    scene.run(5.0)
    assert doubled(scene) == []
    assert scene.medium.safe == 32


def test_of_more_topics_than_it_remembers_a_stream_says_that_they_may_be_stored_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zq.core.heads.MOST", 5)
    monkeypatch.setattr("zq.core.heads.LIMIT", 10)
    scene = Scene()
    peer, _, stream = scene.spool()
    told: list[str] = []
    peer.node.streams._tell = told.append
    many_topics(scene, 30)
    assert scene.run(5.0, lambda: stream.stretch.safe == 30)
    assert (len(stream.heads), stream.heads.doubled) == (10, 20)
    assert len(told) == 1
    assert "may be stored twice" in told[0]


def test_only_a_stream_that_knows_it_has_stopped_looks_whether_it_may_go_on() -> None:
    """One that trims looks too. If that let the disk go on, what had come meanwhile would follow what was not stored,
    and what was not stored would be a hole without a gap."""
    scene = Scene()
    _, disk, stream = scene.spool(Retention(max_bytes=1))
    disk.used = 2
    source, topic = scene.publisher()
    scene.run(2.0)
    scene.publish(source, topic, range(10))
    assert scene.run(5.0, lambda: bool(disk.looks))
    assert not any(disk.looks)
    disk.failing = "full"
    scene.publish(source, topic, range(10))
    assert scene.run(5.0, lambda: stream.subscription is None)
    disk.failing = ""
    assert scene.run(5.0, lambda: stream.subscription is not None)
    assert any(disk.looks)


def test_that_a_publisher_has_vanished_is_stored_and_told_to_cursors_that_come_later() -> None:
    scene = Scene()
    _, _, stream = scene.spool()
    source, topic = scene.publisher()
    scene.run(2.0)
    scene.publish(source, topic, range(10))
    assert scene.run(5.0, lambda: stream.stretch.safe == 10)
    scene.network.kill(source)
    assert scene.run(30.0, lambda: stream.stretch.safe == 11)
    scene.reader(begin=(FROM_BEGINNING, 0.0))
    assert scene.run(5.0, lambda: len(scene.seen["c"]) == 10 and scene.gaps["c"])
    assert scene.gaps["c"] == [Gap(publisher=source.id, topic="t/a", first=11, last=None)]


def test_what_a_cursor_that_was_lost_may_have_delivered_is_redelivered() -> None:
    scene = Scene()
    scene.medium.damaged = True
    scene.spool()
    source, topic = scene.publisher()
    scene.run(2.0)
    scene.publish(source, topic, range(10))
    assert scene.run(5.0, lambda: scene.medium.safe == 10)
    scene.reader()
    assert scene.run(5.0, lambda: len(scene.seen["c"]) == 10)
    scene.publish(source, topic, range(10, 20))
    assert scene.run(5.0, lambda: len(scene.seen["c"]) == 20)
    assert [marks for _, marks in scene.seen["c"].items()] == [[True]] * 10 + [[False]] * 10


def test_nothing_is_read_by_a_cursor_that_a_crash_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would begin anew, and what it had delivered would come again unmarked, or what follows not at all."""
    scene = Scene()
    _, disk, stream = scene.spool()
    source, topic = scene.publisher()
    scene.run(2.0)
    asked: list[Callable[[], None]] = []
    with monkeypatch.context() as patched:
        patched.setattr(disk, "_call", asked.append)  # it stores, and has no time for anything else
        scene.reader(begin=(FROM_BEGINNING, 0.0))
        assert scene.run(5.0, lambda: stream.cursors)
        scene.publish(source, topic, range(10))
        assert scene.run(5.0, lambda: stream.stretch.safe == 10)
        scene.run(2.0)
    assert (dict(scene.seen["c"]), scene.medium.cursors) == ({}, {})
    for act in asked:
        act()
    assert scene.run(5.0, lambda: len(scene.seen["c"]) == 10)
    assert all(marks == [False] for marks in scene.seen["c"].values())


def test_a_passing_cursor_ends_though_its_reader_went_before_it_began() -> None:
    scene = Scene()
    spool, disk, stream = scene.spool()
    disk.lag = 2.0
    other = scene.peer()
    scene.run(2.0)
    row = [STREAM, "~c", b"p" * 16, ["t/**"], FROM_TIME, 1.0]
    for number, rows in enumerate([[row], []]):
        entry = Entry(9 + number, b"n" * 8, [], [], [], [], [], [], [], [], [], [], [], rows)
        spool.deliver(lambda entry=entry: spool.node.streams.on_entry(other.id, entry, spool.clock()))  # type: ignore[misc]
        scene.run(0.01)
    scene.run(5.0)
    assert stream.beginning == {}
    scene.run(FORGET_AFTER)
    assert (list(stream.cursors), scene.medium.cursors) == ([], {})


def test_a_cursor_goes_on_where_it_stood_without_hole_or_duplicate() -> None:
    scene = Scene()
    scene.spool()
    source, topic = scene.publisher()
    scene.run(2.0)
    first = scene.reader(begin=(FROM_BEGINNING, 0.0))
    scene.publish(source, topic, range(50))
    assert scene.run(5.0, lambda: len(scene.seen["c"]) == 50)
    first.close()
    assert scene.run(5.0, lambda: first.closed)
    scene.publish(source, topic, range(50, 150))
    scene.run(2.0)
    scene.reader()
    assert scene.run(5.0, lambda: len(scene.seen["c"]) == 150)
    assert list(scene.seen["c"]) == list(range(150))
    assert all(marks == [False] for marks in scene.seen["c"].values())


def test_what_no_honest_reader_asks_for_does_no_harm() -> None:
    scene = Scene()
    spool, _, stream = scene.spool()
    other = scene.peer()
    scene.run(2.0)
    rows: list[list[object]] = [
        [STREAM, "n" * 201, b"p" * 16, ["t/**"], 1, 0.0],
        [STREAM, "c", b"q" * 16, ["t/**"], FROM_COUNT, math.inf],
        [STREAM, "c", b"r" * 16, ["t/**"], FROM_TIME, -math.inf],
        [STREAM, "d", b"s" * 16, ["t/**"], 99, 1.0],
        [b"x" * 16, "e", b"t" * 16, ["t/**"], 1, 0.0],
        [STREAM, "", b"u" * 16, ["t/**"], FROM_TIME, 1e12],  # the stream's own name: that would trim all of it
    ]
    entry = Entry(9, b"n" * 8, [], [], [], [], [], [], [], [], [], [], [], rows)
    spool.deliver(lambda: spool.node.streams.on_entry(other.id, entry, spool.clock()))
    scene.run(3.0)
    assert [reader.cursor for reader in stream.readers.values()] == ["d"]
    assert scene.medium.cursors == {}
    spool.deliver(lambda: spool.node.streams.on_recall(other.id, Recall(1 << 62, b"x" * 16, ["**"])))
    scene.run(1.0)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_crashes_at_any_moment_lose_nothing_that_had_arrived(seed: int) -> None:
    """Spool, publishers and readers are killed at random. What a publisher heard had arrived at the spool comes to the
    cursor, and repeats say so; what else is missing of a publisher is a Gap, and its order is kept."""
    weather = Weather(mailbox_loss=0.05, mailbox_repeat=0.05, mailbox_late=0.05, feed_loss=0.05)
    scene = Scene(seed, weather)
    random = scene.network.random
    spool, _, _ = scene.spool()
    source, topic = scene.publisher()
    begin = (FROM_BEGINNING, 0.0)
    reader = scene.reader(begin=begin)
    confirmed: set[object] = set()
    life = sent = 0

    def note() -> None:
        follower = topic.followers.get(spool.id)
        if follower is not None:
            confirmed.update((life, number) for number in range(1, follower.arrived + 1))

    for _ in range(8):
        for pause in (1.5, 0.1):
            count = random.randrange(1, 60)
            scene.publish(source, topic, [(life, number) for number in range(sent + 1, sent + count + 1)])
            sent += count
            scene.flush(source, topic)
            scene.run(random.uniform(0.0, pause), note)
        match random.randrange(6):
            case 5:  # both at once: nobody has in memory what was not synced
                scene.network.kill(spool)
                scene.network.kill(source)
                life, sent = life + 1, 0
                spool, _, _ = scene.spool()
                source, topic = scene.publisher()
            case 0:
                scene.network.kill(spool, vanish=random.random() < 0.3)
                scene.run(random.uniform(0.0, 3.0))
                spool, _, _ = scene.spool()
            case 1:
                scene.network.kill(reader.peer, vanish=random.random() < 0.3)
                reader = scene.reader(begin=begin)
            case 2:
                scene.network.kill(source)
                life, sent = life + 1, 0
                source, topic = scene.publisher()
            case 3:
                reader.close()
                scene.run(random.uniform(0.0, 0.5))
                reader = scene.reader(begin=begin)
            case _:
                pass

    def done() -> bool:
        note()
        follower = topic.followers.get(spool.id)
        return follower is not None and follower.arrived == topic.head == sent and confirmed <= set(scene.seen["c"])

    def flushed() -> bool:
        scene.flush(source, topic)
        return scene.run(2.0, done)

    assert any(flushed() for _ in range(60))
    assert scene.unmarked() == []
    fresh = [value for value, marks in scene.seen["c"].items() if marks[0] is False]
    for one in range(life + 1):
        mine = [value for value in fresh if value[0] == one]  # type: ignore[index]
        assert mine == sorted(mine)  # type: ignore[type-var]
    last = [number for one, number in scene.seen["c"] if one == life]  # type: ignore[misc]
    holes = {number for before, after in pairwise(sorted(last)) for number in range(before + 1, after)}
    told = {
        number
        for gap in scene.gaps["c"]
        if gap.publisher == source.id and gap.last is not None
        for number in range(gap.first, gap.last + 1)
    }
    assert holes <= told
