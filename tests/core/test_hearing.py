"""Connections that carry nothing any more although nobody ends them, while mailboxes are well."""

from __future__ import annotations

import pytest

from tests.core.test_node import Reader, Worker
from zq.core import hearing
from zq.core.port import Kind
from zq.testing import Connection, SimulatedNetwork, SimulatedPeer
from zq.wire.batch import Parts

PATIENCE = hearing.DEAF_AFTER + 5.0  # s; it is noticed when the next entry, or the next state, has come


def two_peers(network: SimulatedNetwork) -> tuple[SimulatedPeer, SimulatedPeer]:
    one, other = network.peer("one"), network.peer("other")
    network.introduce()
    assert network.run(5.0, until=lambda: one.node.has_up(1) and other.node.has_up(1))
    return one, other


def deafen(network: SimulatedNetwork, kind: Kind, dialler: SimulatedPeer) -> Connection:
    """The one of that kind carries nothing from now on, in either direction, and stays."""
    (connection,) = (each for each in network.connections() if each.kind is kind and each.dialler is dialler)
    connection.blocked = {True: True, False: True}
    return connection


def redialled(*peers: SimulatedPeer) -> int:
    return sum(peer.node.hearing.redialled for peer in peers)


def push(peer: SimulatedPeer, *bodies: bytes) -> None:
    outbox = peer.node.push("jobs", window=100, window_bytes=1 << 20, now=peer.clock())
    more(peer, outbox, *bodies)


def more(peer: SimulatedPeer, stream, *bodies: bytes) -> None:  # type: ignore[no-untyped-def]
    stream.outgoing.items.extend(bodies)
    peer.touch(stream)


@pytest.fixture
def network() -> SimulatedNetwork:
    return SimulatedNetwork(seed=5)


def test_a_deaf_feed_is_made_anew_and_nothing_is_missing(network: SimulatedNetwork) -> None:
    publisher, subscriber = two_peers(network)
    reader = Reader(subscriber)
    topic = publisher.node.publish_topic("t", retain=False, patience=1.0)
    more(publisher, topic, b"1")
    assert network.run(5.0, until=lambda: reader.look() == [b"1"])
    deafen(network, Kind.FEED, subscriber)
    more(publisher, topic, b"2", b"3")
    assert network.run(PATIENCE, until=lambda: reader.look() == [b"1", b"2", b"3"])
    assert redialled(publisher, subscriber) == 1


def test_a_feed_that_was_deaf_from_the_start_is_made_anew(network: SimulatedNetwork) -> None:
    publisher, subscriber = two_peers(network)
    network.run(0.1)
    deafen(network, Kind.FEED, subscriber)
    reader = Reader(subscriber)
    topic = publisher.node.publish_topic("t", retain=False, patience=1.0)
    network.run(1.0)
    more(publisher, topic, b"1")
    assert network.run(PATIENCE, until=lambda: reader.look() == [b"1"])


def test_deaf_work_is_made_anew_and_each_message_comes_once(network: SimulatedNetwork) -> None:
    pusher, puller = two_peers(network)
    worker = Worker(puller)
    outbox = pusher.node.push("jobs", window=100, window_bytes=1 << 20, now=pusher.clock())
    more(pusher, outbox, b"1")
    got: list[tuple[bytes, int]] = []

    def has(count: int) -> bool:
        got.extend(worker.take())
        worker.ack()
        return len(got) >= count

    assert network.run(5.0, until=lambda: has(1))
    deafen(network, Kind.WORK, pusher)
    more(pusher, outbox, b"2", b"3")
    assert network.run(PATIENCE, until=lambda: has(3))
    network.run(5.0)
    assert not worker.take()
    assert [body for body, _ in got] == [b"1", b"2", b"3"]
    assert outbox.acked == 3
    assert redialled(pusher, puller) == 1


def test_a_refill_that_nobody_hears_is_sent_on_a_new_connection(network: SimulatedNetwork) -> None:
    publisher, subscriber = two_peers(network)
    reader = Reader(subscriber)
    topic = publisher.node.publish_topic("t", retain=False, patience=1.0)
    more(publisher, topic, b"1")
    push(publisher, b"so that there is a work connection")
    worker = Worker(subscriber)
    assert network.run(5.0, until=lambda: reader.look() == [b"1"] and bool(worker.take()))
    worker.ack()
    network.run(1.0)
    deafen(network, Kind.WORK, publisher)
    feed = deafen(network, Kind.FEED, subscriber)
    more(publisher, topic, b"2")
    network.run(0.01)
    feed.blocked = {True: False, False: False}  # it is well again; what it has lost has to be refilled
    more(publisher, topic, b"3")
    assert network.run(PATIENCE, until=lambda: reader.look() == [b"1", b"2", b"3"])
    assert publisher.node.hearing.redialled == 1


def test_slow_is_not_deaf(network: SimulatedNetwork) -> None:
    """Everything takes its time, for longer than a deaf connection would be left alone."""
    one, other = two_peers(network)
    reader, worker = Reader(other), Worker(other)
    topic = one.node.publish_topic("t", retain=False, patience=1.0)
    push(one)
    (outbox,) = one.node.pushing
    network.slow(one, other, 2.0)
    for number in range(40):
        more(one, topic, b"%d" % number)
        more(one, outbox, b"%d" % number)
        network.run(1.0)
        reader.look()
        worker.take()
        worker.ack()
    assert network.run(20.0, until=lambda: len(reader.look()) == 40)
    assert redialled(one, other) == 0


def test_who_stays_deaf_is_called_ever_less_often(network: SimulatedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    def swallow(connection: Connection, parts: Parts) -> None:
        if connection.kind is not Kind.WORK:
            carry(connection, parts)

    carry = network.carry_frame
    monkeypatch.setattr(network, "carry_frame", swallow)
    pusher, puller = two_peers(network)
    Worker(puller)
    push(pusher, b"1")
    network.run(500.0)
    assert 4 <= redialled(pusher) <= 7  # after 6, 12, 24, 48, 96, 120 s more each


def test_a_stopped_peer_is_not_taken_for_deaf(network: SimulatedNetwork) -> None:
    pusher, puller = two_peers(network)
    worker = Worker(puller)
    push(pusher, b"1")
    assert network.run(5.0, until=lambda: bool(worker.take()))
    network.stop(puller)
    (outbox,) = pusher.node.pushing
    more(pusher, outbox, b"2")
    network.run(30.0)
    assert redialled(pusher) == 0
