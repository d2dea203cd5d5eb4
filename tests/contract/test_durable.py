"""Topics in a spool: what is published is stored, and durable subscriptions read it whenever they are there."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, take

pytestmark = pytest.mark.usefixtures("patient")  # who only looks back asks nobody but those who have answered

MANY = 20_000  # more than fits into a window: the rest is read from the disk


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def publisher_of(peer: Any, topic: str = "sensors/a", **options: Any) -> Any:
    publisher = peer.publisher(topic, **options)
    publisher.wait_for_subscribers(timeout=PATIENCE)
    return publisher


def cursor_of(spool: Any, name: str) -> zq.SpoolCursor:
    (row,) = [row for topic in spool.topics() for row in topic.cursors if row.cursor == name]
    return row  # type: ignore[no-any-return]


def test_a_durable_subscriber_reads_what_was_published_before_it_then_goes_on_live(face: Face, directory: Path) -> None:
    spool = face.peer("keeper").spool(directory, topics=["sensors/**"])
    publisher = publisher_of(face.peer("publisher"))
    publisher.send_many(range(MANY))
    publisher.flush(timeout=PATIENCE)
    (row,) = spool.topics()
    assert (row.messages, row.stored, row.problem) == (MANY, True, "")
    subscriber = face.peer("reader").subscriber("sensors/**", durable="dashboard", since="beginning")
    assert take(subscriber, MANY) == list(range(MANY))
    publisher.send("live")
    assert take(subscriber, 1) == ["live"]
    eventually(lambda: cursor_of(spool, "dashboard").lag == 0)


def test_a_message_says_who_published_it_where_and_with_what(face: Face, directory: Path) -> None:
    face.peer("keeper").spool(directory, topics=["sensors/**"])
    sender = face.peer("publisher")
    publisher = publisher_of(sender)
    subscriber = face.peer("reader").subscriber("sensors/**", durable="dashboard", since="beginning")
    publisher.send({"a": 1}, headers={"x": "y"})
    publisher.send(b"b" * 100_000, id="mine")
    with subscriber.receive(timeout=PATIENCE) as first:
        assert (first.data, dict(first.headers), first.topic, first.queue) == ({"a": 1}, {"x": "y"}, "sensors/a", None)
        assert (first.sender, first.id, first.redelivered) == (sender.id, f"{sender.id.hex()}-1", False)
    with subscriber.receive(timeout=PATIENCE) as second:
        assert (second.data, second.id) == (b"b" * 100_000, "mine")


def test_a_cursor_goes_on_where_it_stood_after_its_reader_and_after_its_spool(face: Face, directory: Path) -> None:
    keeper, reader = face.peer("keeper"), face.peer("reader")
    spool = keeper.spool(directory, topics=["sensors/**"])
    publisher = publisher_of(face.peer("publisher"))
    got: list[object] = []
    subscriber = reader.subscriber("sensors/**", durable="dashboard", since="beginning")
    publisher.send_many(range(100))
    got += take(subscriber, 40)  # what else is here goes back
    subscriber.close()
    publisher.send_many(range(100, 200))
    publisher.flush(timeout=PATIENCE)
    subscriber = reader.subscriber("sensors/**", durable="dashboard")
    got += take(subscriber, 60)
    subscriber.close()
    eventually(lambda: cursor_of(spool, "dashboard").lag == 100)
    spool.close()
    spool = keeper.spool(directory, topics=["sensors/**"])
    subscriber = reader.subscriber("sensors/**", durable="dashboard", since="beginning")  # it is known: it goes on
    got += take(subscriber, 100)
    assert got == list(range(200))
    with pytest.raises(zq.Timeout):
        subscriber.receive(timeout=0.2)


def test_those_who_share_a_cursor_share_its_messages(face: Face, directory: Path) -> None:
    face.peer("keeper").spool(directory, topics=["sensors/**"])
    publisher = publisher_of(face.peer("publisher"))
    first = face.peer("one").subscriber("sensors/**", durable="group", since="beginning")
    second = face.peer("two").subscriber("sensors/**", durable="group", since="beginning")
    other = face.peer("three").subscriber("sensors/**", durable="alone", since="beginning")
    publisher.send_many(range(50))
    assert take(other, 50) == list(range(50))
    got: list[object] = []
    while len(got) < 50:
        for subscriber in (first, second):
            try:
                with subscriber.receive(timeout=0.05) as message:
                    got.append(message.data)
            except zq.Timeout:
                pass
    assert sorted(got) == list(range(50))  # type: ignore[type-var]


def test_a_cursor_that_is_new_begins_with_what_is_published_from_then_on(face: Face, directory: Path) -> None:
    face.peer("keeper").spool(directory, topics=["sensors/**"])
    publisher = publisher_of(face.peer("publisher"))
    publisher.send_many(range(10))
    publisher.flush(timeout=PATIENCE)
    subscriber = face.peer("reader").subscriber("sensors/**", durable="dashboard")
    publisher.send("first")  # it counts from its creation, before any spool knows of it
    got: list[object] = []
    while "first" not in got:
        got += take(subscriber, 1)
    assert got == [*range(11 - len(got), 10), "first"]  # a transit too early, perhaps, and never too late


def test_what_is_nacked_comes_again_and_what_is_rejected_does_not(face: Face, directory: Path) -> None:
    keeper = face.peer("keeper")
    spool = keeper.spool(directory, topics=["sensors/**"])
    publisher = publisher_of(face.peer("publisher"))
    subscriber = face.peer("reader").subscriber("sensors/**", durable="dashboard", since="beginning")
    publisher.send_many(["bad", "worse"])
    attempts = []
    for _ in range(2):
        message = subscriber.receive(timeout=PATIENCE)
        attempts.append((message.data, message.attempt))
        message.nack() if message.data == "bad" else message.reject("no use")
    message = subscriber.receive(timeout=PATIENCE)
    attempts.append((message.data, message.attempt))
    message.ack()
    assert sorted(attempts) == [("bad", 1), ("bad", 2), ("worse", 1)]
    eventually(lambda: cursor_of(spool, "dashboard").lag == 0)
    (row,) = keeper.ledger().held
    assert row.balanced
    assert (row.taken, row.acked, row.dropped) == (2, 1, {"rejected": 1})


@pytest.mark.parametrize(("since", "expected"), [("beginning", list(range(30))), (10, list(range(20, 30)))])
def test_without_a_cursor_one_reads_since_some_place_and_goes_on_live(
    face: Face, directory: Path, since: Any, expected: list[int]
) -> None:
    spool = face.peer("keeper").spool(directory, topics=["sensors/**"])
    publisher = publisher_of(face.peer("publisher"))
    publisher.send_many(range(30))
    publisher.flush(timeout=PATIENCE)
    subscriber = face.peer("reader").subscriber("sensors/**", since=since)
    got = [subscriber.receive(timeout=PATIENCE).data for _ in expected]
    publisher.send("live")
    assert (got, subscriber.receive(timeout=PATIENCE).data) == (expected, "live")
    assert spool.topics()[0].cursors == ()  # nobody else sees where it stands


def test_a_count_is_of_the_messages_that_one_wants(face: Face, directory: Path) -> None:
    face.peer("keeper").spool(directory, topics=["sensors/**"])
    sender = face.peer("publisher")
    wanted, other = publisher_of(sender, "sensors/a"), publisher_of(sender, "sensors/b")
    wanted.send_many(range(20))
    wanted.flush(timeout=PATIENCE)
    other.send_many(range(100, 2_000))
    other.flush(timeout=PATIENCE)
    subscriber = face.peer("reader").subscriber("sensors/a", since=5)
    assert [subscriber.receive(timeout=PATIENCE).data for _ in range(5)] == [15, 16, 17, 18, 19]


def test_a_time_is_when_the_spool_stored_it(face: Face, directory: Path) -> None:
    face.peer("keeper").spool(directory, topics=["sensors/**"])
    publisher = publisher_of(face.peer("publisher"))
    publisher.send("early")
    publisher.flush(timeout=PATIENCE)
    between = datetime.now(UTC)
    publisher.send("late")
    publisher.flush(timeout=PATIENCE)
    reader = face.peer("reader")
    for since in (between, between.astimezone().replace(tzinfo=None)):  # one without a zone is local time
        assert reader.subscriber("sensors/**", since=since).receive(timeout=PATIENCE).data == "late"
    subscriber = reader.subscriber("sensors/**", since=timedelta(minutes=10))
    assert [subscriber.receive(timeout=PATIENCE).data for _ in range(2)] == ["early", "late"]


def test_a_durable_subscriber_waits_for_a_spool_and_one_that_only_looks_back_fails_without(
    face: Face, directory: Path
) -> None:
    reader = face.peer("reader")
    durable = reader.subscriber("sensors/**", durable="dashboard", since="beginning")
    with pytest.raises(zq.Timeout):
        durable.receive(timeout=0.2)
    with pytest.raises(zq.NoPeer, match=r"no spool keeps 'sensors/\*\*'.*zq spool --topic"):
        reader.subscriber("sensors/**", since="beginning").receive(timeout=PATIENCE)
    face.peer("keeper").spool(directory, topics=["sensors/**"])
    publisher_of(face.peer("publisher")).send("at last")
    assert take(durable, 1) == ["at last"]


def test_what_makes_no_sense_is_refused_and_named(face: Face) -> None:
    reader = face.peer("reader")
    with pytest.raises(zq.Refused, match="in the future"):
        reader.subscriber("a", since=datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(zq.Refused, match="in the future"):
        reader.subscriber("a", durable="d", since=timedelta(seconds=-1))
    for nonsense in ("yesterday", -3, 1.5, True):
        with pytest.raises(zq.Refused, match="since"):
            reader.subscriber("a", since=nonsense)
    for slow in ("latest", "drop-oldest"):
        with pytest.raises(zq.Refused, match="durable"):
            reader.subscriber("a", durable="d", slow=slow)
    with pytest.raises(zq.Refused, match="cursor"):
        reader.subscriber("a", durable="a b")
    with pytest.raises(zq.Refused, match="200"):
        reader.subscriber("a", durable="n" * 201)


def test_one_cursor_has_one_set_of_topics_at_a_time(face: Face, directory: Path) -> None:
    face.peer("keeper").spool(directory, topics=["sensors/**"])
    publisher = publisher_of(face.peer("publisher"))
    first = face.peer("one").subscriber("sensors/a", durable="group", since="beginning")
    publisher.send("x")
    assert take(first, 1) == ["x"]
    with pytest.raises(
        zq.Refused, match=r"cursor 'group' is being read with the filters sensors/a, not with sensors/b"
    ):
        face.peer("two").subscriber("sensors/b", durable="group").receive(timeout=PATIENCE)


def test_a_cursor_is_forgotten_only_by_its_name_and_when_nobody_reads(face: Face, directory: Path) -> None:
    spool = face.peer("keeper").spool(directory, topics=["sensors/**"])
    publisher = publisher_of(face.peer("publisher"))
    publisher.send("x")
    publisher.flush(timeout=PATIENCE)
    subscriber = face.peer("reader").subscriber("sensors/**", durable="dashboard", since="beginning")
    assert take(subscriber, 1) == ["x"]
    with pytest.raises(zq.Refused, match="has no cursor 'dashbord'; it has dashboard"):
        spool.forget("sensors/**", "dashbord")
    with pytest.raises(zq.Refused, match="by cursor 'dashboard' now"):
        spool.forget("sensors/**", "dashboard")
    subscriber.close()
    spool.forget("sensors/**", "dashboard")
    assert spool.topics()[0].cursors == ()


def test_a_spool_that_was_away_stores_what_publishers_still_remember(face: Face, directory: Path) -> None:
    keeper = face.peer("keeper")
    spool = keeper.spool(directory, topics=["sensors/**"])
    sender = face.peer("publisher")
    known = publisher_of(sender)
    known.send("before")
    known.flush(timeout=PATIENCE)
    spool.close()
    known.send("meanwhile")
    new = sender.publisher("sensors/new")
    new.send("of a topic that it had never heard of")
    spool = keeper.spool(directory, topics=["sensors/**"])
    eventually(lambda: spool.topics()[0].messages == 3)
    subscriber = face.peer("reader").subscriber("sensors/**", durable="dashboard", since="beginning")
    assert sorted(take(subscriber, 3)) == ["before", "meanwhile", "of a topic that it had never heard of"]


def test_the_ledger_of_a_spool_balances_with_topics(face: Face, directory: Path) -> None:
    keeper, sender, reader = face.peer("keeper"), face.peer("publisher"), face.peer("reader")
    keeper.spool(directory, topics=["sensors/**"], queues=["jobs"])
    publisher = publisher_of(sender)
    publisher.send_many(range(1_000))
    publisher.flush(timeout=PATIENCE)
    subscriber = reader.subscriber("sensors/**", durable="dashboard", since="beginning")
    take(subscriber, 500)
    held = subscriber.receive(timeout=PATIENCE)
    (row,) = [row for row in keeper.ledger().held if row.queue == "dashboard@sensors/**"]
    assert row.balanced
    assert row.taken == 1_000
    (stored,) = keeper.ledger().subscribed
    assert (stored.expected, stored.delivered, stored.gap) == (1_000, 1_000, 0)
    held.ack()
    whole = reader.ledger(realm=True)
    assert not [missing for missing in whole.missing if missing.count]


def test_the_listing_of_topics_shows_the_spool_and_cursors_that_lag(face: Face, directory: Path) -> None:
    spool = face.peer("keeper").spool(directory, topics=["sensors/**"])
    publisher = publisher_of(face.peer("publisher"))
    reader = face.peer("reader")
    subscriber = reader.subscriber("sensors/**", durable="dashboard", since="beginning")
    eventually(lambda: spool.topics()[0].cursors)
    subscriber.close()
    publisher.send_many(range(50))
    publisher.flush(timeout=PATIENCE)

    def listed() -> list[tuple[object, ...]]:
        rows = [row for row in reader.topics() if row.name == "sensors/a"]
        return [(row.subscribers, row.lag, [(c.name, c.lag) for c in row.consumers]) for row in rows]

    eventually(lambda: listed() == [(1, 50, [("dashboard@sensors/**", 50)])])


def test_what_is_stored_while_nothing_else_happens_is_listed_by_others_as_well(
    face: Face, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zq.core.announcement.ENTRY_REFRESH", 0.05)
    keeper, sender, reader = face.peer("keeper"), face.peer("sender"), face.peer("reader")
    spool = keeper.spool(directory, topics=["sensors/**"], queues=["jobs"])
    publisher, pusher = publisher_of(sender), sender.pusher("jobs")
    pusher.wait_for_pullers()
    subscriber = reader.subscriber("sensors/**", durable="dashboard", since="beginning")
    eventually(lambda: spool.topics()[0].cursors)
    subscriber.close()
    engine = keeper._engine
    eventually(lambda: engine.call(lambda: "counts" not in engine.node.timers._set))  # all is told, and at rest
    publisher.send_many(range(50))
    pusher.send_many(range(50))
    for each in (publisher, pusher):
        each.flush(timeout=PATIENCE)
    consumers = [("dashboard@sensors/**", 50)]
    eventually(lambda: [(c.name, c.lag) for row in reader.topics() for c in row.consumers] == consumers)
    eventually(lambda: [row.depth for row in reader.queues() if row.name == "jobs"] == [50])


def test_what_is_too_old_is_listed_by_nobody(face: Face, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.core.announcement.ENTRY_REFRESH", 0.05)
    monkeypatch.setattr("zq.core.streams.AGE_MOST", 0.05)
    keeper, reader = face.peer("keeper"), face.peer("reader")
    spool = keeper.spool(directory, topics=["sensors/**"], options=zq.SpoolOptions(max_age=3_600.0))
    publisher = publisher_of(face.peer("sender"))
    subscriber = reader.subscriber("sensors/**", durable="dashboard", since="beginning")
    eventually(lambda: spool.topics()[0].cursors)
    subscriber.close()
    publisher.send_many(range(50))
    publisher.flush(timeout=PATIENCE)

    def lags() -> list[int]:
        return [consumer.lag for row in reader.topics() for consumer in row.consumers]

    eventually(lambda: lags() == [50])
    monkeypatch.setattr(keeper._engine.node.streams, "_wall", lambda: time.time() + 3_601.0)
    eventually(lambda: lags() == [])


def test_topics_are_trimmed_by_count_and_a_cursor_that_fell_behind_is_told(face: Face, directory: Path) -> None:
    keeper = face.peer("keeper")
    spool = keeper.spool(directory, topics=["sensors/**"], options=zq.SpoolOptions(max_messages=100))
    publisher = publisher_of(face.peer("publisher"))
    reader = face.peer("reader")
    subscriber = reader.subscriber("sensors/**", durable="dashboard", since="beginning")
    publisher.send_many(range(10))
    assert take(subscriber, 10) == list(range(10))
    subscriber.close()
    publisher.send_many(range(10, 1_000))
    publisher.flush(timeout=PATIENCE)
    (row,) = spool.topics()
    assert (row.messages, row.first, row.last) == (100, 901, 1_000)
    assert (cursor_of(spool, "dashboard").lag, cursor_of(spool, "dashboard").missed) == (100, 890)
    gaps: list[zq.Gap] = []
    subscriber = reader.subscriber("sensors/**", durable="dashboard", on_gap=gaps.append)
    assert take(subscriber, 100) == list(range(900, 1_000))
    assert [(gap.topic, gap.first, gap.last) for gap in gaps] == [("sensors/**", 11, 900)]
    (held,) = keeper.ledger().held
    assert held.balanced
    assert held.dropped == {"trimmed": 889}  # the Gap itself is delivered in place of the last of them
    other = reader.subscriber("sensors/**", since="beginning")
    assert [other.receive(timeout=PATIENCE).data for _ in range(100)] == list(range(900, 1_000))


def test_topics_are_trimmed_by_bytes(face: Face, directory: Path) -> None:
    spool = face.peer("keeper").spool(
        directory, topics=["sensors/**"], options=zq.SpoolOptions(max_bytes=1 << 20, min_free=0)
    )
    publisher = publisher_of(face.peer("publisher"))
    for _ in range(40):
        publisher.send_many(bytes(1_000) for _ in range(100))
        publisher.flush(timeout=PATIENCE)
    eventually(lambda: spool.topics()[0].bytes <= 1 << 20)
    (row,) = spool.topics()
    assert row.bytes > 512 << 10
    assert 500 < row.messages < 1_100
    stored = sum(path.stat().st_size for path in directory.rglob("*.log"))
    assert stored <= (1 << 20) + (256 << 10)


def test_topics_are_trimmed_by_age(face: Face, directory: Path) -> None:
    spool = face.peer("keeper").spool(directory, topics=["sensors/**"], options=zq.SpoolOptions(max_age=0.5))
    publisher = publisher_of(face.peer("publisher"))
    publisher.send_many(range(100))
    publisher.flush(timeout=PATIENCE)
    eventually(lambda: spool.topics()[0].messages == 0)
    subscriber = face.peer("reader").subscriber("sensors/**", since=100)

    def heard() -> object:
        publisher.send("young")  # and old again in half a second, should its reader be late
        try:
            return subscriber.receive(timeout=0.5).data
        except zq.Timeout:
            return None

    assert eventually(heard) == "young"


def test_a_spool_without_room_stores_nothing_holds_nobody_up_and_says_so(face: Face, directory: Path) -> None:
    spool = face.peer("keeper").spool(directory, topics=["sensors/**"], options=zq.SpoolOptions(min_free=1 << 60))
    publisher = face.peer("publisher").publisher("sensors/a")
    (row,) = spool.topics()
    assert not row.stored
    assert "bytes free" in row.problem
    publisher.send_many(range(40_000))
    publisher.flush(timeout=PATIENCE)
    assert spool.topics()[0].messages == 0
