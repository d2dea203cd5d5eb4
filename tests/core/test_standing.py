"""Who keeps up and who does not, as the listings of any peer of the realm tell it; in simulated time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import zq
from zq.core import inbox, topics
from zq.core.announcement import ENTRY_REFRESH
from zq.core.standing import ROWS_MOST, Lag, merged
from zq.testing import Network, Peer

TOLD = ENTRY_REFRESH + 0.5  # s until every listing has the newest


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(seed=5) as network:
        yield network


def queue(peer: Peer, name: str = "jobs") -> zq.QueueInfo:
    return next(info for info in peer.queues() if info.name == name)


def topic(peer: Peer) -> zq.TopicInfo:
    return next(info for info in peer.topics() if info.name == "news")


def rows(info: zq.QueueInfo | zq.TopicInfo) -> list[tuple[str, int, str]]:
    return [(consumer.name, consumer.lag, consumer.pace) for consumer in info.consumers]


def test_every_peer_sees_how_much_each_puller_has_and_whose_credit_is_used_up(network: Network) -> None:
    pusher, other, slow, quick, observer = (network.peer(n) for n in ("pusher", "other", "slow", "quick", "observer"))
    hoard = slow.puller("jobs", prefetch=4)
    quick.start(quick.puller("jobs", prefetch=1).run, lambda message: network.sleep(30))
    pusher.pusher("jobs").wait_for_pullers(2)
    other.pusher("jobs").wait_for_pullers(2)
    pusher.pusher("jobs").send_many(range(8))
    network.run(1.0)
    other.pusher("jobs").send(8)
    network.run(TOLD)
    info = queue(observer)
    assert (info.depth, info.pushers, info.pullers) == (9, 2, 2)
    assert rows(info) == [("slow", 4, "suspended"), ("quick", 1, "suspended")]
    assert info.slow == ("quick", "slow")
    for _ in range(4):
        hoard.receive(timeout=5).ack()
    hoard.close()
    network.run(TOLD)
    assert rows(queue(observer)) == [("quick", 1, "suspended")]


def test_depth_and_age_stay_right_although_nothing_is_pushed(network: Network) -> None:
    pusher, worker, observer = (network.peer(name) for name in ("pusher", "worker", "observer"))
    puller = worker.puller("jobs", prefetch=1)
    pusher.pusher("jobs").send_many(range(3))
    message = puller.receive(timeout=5)
    network.run(100.0)
    info = queue(observer)
    assert info.depth == 3
    assert info.lag == pytest.approx(100.0, abs=3)
    message.ack()
    network.run(TOLD)
    assert queue(observer).depth == 2


def test_what_expires_or_dies_leaves_every_listing_although_nothing_else_happens(network: Network) -> None:
    pusher, observer = network.peer("pusher"), network.peer("observer")
    jobs = pusher.pusher("jobs", max_attempts=1)
    jobs.send("stale", ttl=20.0)
    jobs.send_many(["poison", "poison too"])
    network.run(TOLD)
    assert queue(observer).depth == 3
    network.run(20.0)
    assert (queue(observer).depth, queue(observer).dropped) == (2, {"expired": 1})
    for dead in (1, 2):
        worker = network.peer(f"worker-{dead}")
        worker.start(worker.puller("jobs", prefetch=1).run, lambda message: network.sleep(1_000.0))
        network.run(TOLD)
        worker.kill(vanish=True)
        network.run(20.0)
        assert (queue(observer).depth, queue(observer).dropped) == (2 - dead, {"dead": dead, "expired": 1})


def test_the_age_of_a_queue_that_moves_does_not_grow(network: Network) -> None:
    pusher, worker, observer = (network.peer(name) for name in ("pusher", "worker", "observer"))
    worker.start(worker.puller("jobs", prefetch=1).run, lambda message: network.sleep(0.5))
    for number in range(60):
        pusher.push("jobs", number)
        network.sleep(0.5)
    assert queue(observer).lag < 4


def test_what_is_dropped_is_told_by_reason(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "INBOX_MESSAGES", 10)
    source, worker, reader, observer = (network.peer(name) for name in ("source", "worker", "reader", "observer"))
    subscriber = reader.subscriber("news", slow="drop-oldest")
    source.publisher("news").wait_for_subscribers()
    puller = worker.puller("jobs")
    source.pusher("jobs").send_many(range(3))
    for number in range(30):
        source.publisher("news").send(number)
        network.sleep(0.01)
    puller.receive(timeout=5).reject("broken")
    network.run(TOLD)
    assert topic(observer).dropped == topic(reader).dropped == {"drop-oldest": 20}
    assert queue(observer).dropped == queue(source).dropped == {"rejected": 1}
    assert subscriber.receive(timeout=0).data == 20


def test_a_subscriber_is_waited_for_then_left_behind_and_catches_up(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "WINDOW", 8)
    monkeypatch.setattr(inbox, "INBOX_MESSAGES", 16)
    source, reader, observer = (network.peer(name) for name in ("source", "reader", "observer"))
    subscriber = reader.subscriber("news")
    publisher = source.publisher("news", patience=5.0)
    publisher.wait_for_subscribers()
    source.start(publisher.send_many, list(range(12)))
    network.run(TOLD)
    assert rows(topic(source)) == rows(topic(observer)) == [("reader", 8, "waited for")]
    assert topic(observer).slow == ("reader",)
    network.run(5.0)
    assert rows(topic(observer)) == [("reader", 12, "behind")]
    for _ in range(12):
        subscriber.receive(timeout=5)
    network.run(TOLD)
    assert rows(topic(observer)) == []
    assert topic(observer).slow == ()


def test_an_entry_has_the_worst_if_there_are_too_many(network: Network) -> None:
    source, reader = network.peer("source"), network.peer("reader")
    reader.subscriber("**")
    names = [f"t/{number}" for number in range(ROWS_MOST + 10)]
    source.wait_for_peers(1)
    for name in names:
        source.publish(name, 1)
    source.publish(names[-1], 2)
    network.run(TOLD)
    (entry,) = [remote.entry for remote in reader.process.node.meeting.roster.up()]
    assert entry is not None
    assert len(entry.lags) == ROWS_MOST
    assert entry.lags[0][1:] == [names[-1], reader.id, bytes(16), 2, 0]


def test_a_consumer_is_listed_once_although_several_send_to_it() -> None:
    one, other = b"1" * 16, b"2" * 16
    lags = [
        Lag(1, "jobs", one, one, 3, 0),
        Lag(1, "jobs", one, other, 9, 0),
        Lag(1, "jobs", one, one, 4, 1),
    ]
    assert merged(lags) == [Lag(1, "jobs", one, other, 9, 0), Lag(1, "jobs", one, one, 7, 1)]


def test_the_ledger_of_the_realm_names_what_a_vanished_pusher_held(network: Network) -> None:
    pusher, worker, observer = (network.peer(name) for name in ("pusher", "worker", "observer"))
    puller = worker.puller("jobs", prefetch=4)
    subscriber = worker.subscriber("news")
    pusher.publisher("news").wait_for_subscribers()
    pusher.publish("news", 1)
    pusher.pusher("jobs").send_many(range(10))
    message = puller.receive(timeout=5)
    subscriber.receive(timeout=5)
    network.run(TOLD)
    before = observer.ledger(realm=True)
    assert (before.queues[0].taken, before.queues[0].in_flight, before.queues[0].orphaned) == (10, 4, 0)
    assert before.queues[0].holders == ("pusher",)
    assert [(span.state, span.count) for span in before.others[0].held[0].spans] == [("in flight", 4), ("waiting", 6)]
    assert [(span.state, span.count) for span in before.others[1].pulled[0].spans] == [("handed out", 1), ("queued", 3)]
    pusher.kill(vanish=True)
    network.run(10.0)
    after = observer.ledger(realm=True)
    assert after.balanced
    assert (after.queues[0].taken, after.queues[0].orphaned, after.queues[0].holders) == (0, 4, ("worker",))
    assert [(departed.name, departed.goodbye, departed.held) for departed in after.departed] == [
        ("pusher", False, {"jobs": 10})
    ]
    unknown = [(row.queue or row.topic, row.origin, row.first, row.last, row.count) for row in after.missing]
    assert unknown == [("news", pusher.id, 2, None, None), ("jobs", pusher.id, 6, None, 6)]
    assert {(row.why, row.holder) for row in after.missing} == {("unknown", "pusher")}
    message.ack()
    for _ in range(3):
        puller.receive(timeout=5).ack()
    network.run(TOLD)
    assert observer.ledger(realm=True).queues[0].orphaned == 0


def test_a_peer_that_left_in_order_leaves_nothing_unknown(network: Network) -> None:
    pusher, worker, observer = (network.peer(name) for name in ("pusher", "worker", "observer"))
    worker.start(worker.puller("jobs").run, lambda message: None)
    with pusher:
        pusher.pusher("jobs").send_many(range(10))
    network.peer("passer-by").close()
    with network.peer("publisher") as publisher:
        publisher.publish("news", 1)
        network.run(TOLD)
    network.run(1.0)
    ledger = observer.ledger(realm=True)
    assert ledger.missing == ()
    assert [(gone.name, gone.goodbye, gone.held, gone.published) for gone in ledger.departed] == [
        ("publisher", True, {}, {"news": 1})
    ]
