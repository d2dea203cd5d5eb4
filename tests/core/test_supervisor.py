"""Feeds and work connections that came to nothing are made anew, and not all the time."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from tests.core.test_node import Reader, Realm, Worker
from zq.core import hearing, supervisor
from zq.core.port import Kind
from zq.testing import Connection, SimulatedPeer


def dialled(peer: SimulatedPeer, kind: Kind) -> list[Connection]:
    return [connection for connection in peer.connections.values() if connection.kind is kind]


def give_up(realm: Realm, peer: SimulatedPeer, kind: Kind) -> Connection:
    """As ZeroMQ does when a handshake goes wrong: the connection ends, and is not made again."""
    (connection,) = dialled(peer, kind)
    assert realm.run(1.0, lambda: connection.up)
    realm.run(0.1)
    realm.network.cut(connection)
    return connection


def test_a_feed_that_was_given_up_is_dialled_anew_and_nothing_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "DEAF_AFTER", math.inf)  # it would notice by what was published
    realm = Realm(2)
    publisher, subscriber = realm.peers
    given_up = give_up(realm, subscriber, Kind.FEED)
    reader = Reader(subscriber)
    realm.publish(publisher, b"1", b"2")
    assert not realm.run(supervisor.PATIENCE / 2, reader.look)
    assert dialled(subscriber, Kind.FEED) == [given_up]
    assert realm.run(supervisor.PATIENCE, lambda: len(reader.look()) == 2)
    assert reader.seen == [b"1", b"2"]
    assert len(dialled(subscriber, Kind.FEED)) == 1
    assert subscriber.node.supervisor.redialled == 1


def test_a_feed_that_stays_dead_is_dialled_less_and_less_often() -> None:
    realm = Realm(2)
    publisher, subscriber = realm.peers
    Reader(subscriber)
    give_up(realm, subscriber, Kind.FEED)
    Reader(subscriber)
    realm.network.attempt = lambda connection: None  # type: ignore[method-assign] # no connection comes about any more
    realm.run(300.0)
    assert 3 <= subscriber.node.supervisor.redialled <= 6
    assert publisher.node.has_up(1)
    assert subscriber.node.has_up(1)


@pytest.mark.parametrize("answered", [True, False])
def test_only_a_feed_that_owes_an_answer_is_dialled_anew(answered: bool) -> None:
    realm = Realm(2)
    publisher, subscriber = realm.peers
    reader = Reader(subscriber)
    realm.publish(publisher, b"1")
    assert realm.run(1.0, reader.look)
    if not answered:
        give_up(realm, subscriber, Kind.FEED)
        Reader(subscriber)
    realm.run(300.0)
    assert subscriber.node.supervisor.redialled == (0 if answered else 1)


def test_a_peer_that_is_suspect_or_slow_to_answer_is_not_blamed() -> None:
    realm = Realm(2)
    _, subscriber = realm.peers
    give_up(realm, subscriber, Kind.FEED)
    (remote,) = subscriber.node.meeting.roster
    watcher, now = subscriber.node.supervisor, subscriber.clock()
    for second in (0.0, 5.0, 9.9, 20.0, 25.0, 29.9):  # between the third and the fourth it has answered
        watcher.on_unanswered(remote.id, now + second)
    assert watcher.redialled == 0
    watcher.on_unanswered(remote.id, now + 30.1)
    assert watcher.redialled == 1


def test_a_work_connection_that_ends_before_it_is_made_rests_and_then_works() -> None:
    realm = Realm(2)
    pusher, puller = realm.peers
    worker = Worker(puller)
    pauses: list[float] = []
    establish = realm.network._establish

    def refuse(connection: Connection, acceptor: SimulatedPeer) -> None:
        if connection.kind is not Kind.WORK:
            establish(connection, acceptor)
        elif connection.number in connection.dialler.connections:
            pauses.append(realm.network.now)
            connection.dialler.deliver(lambda: realm.network._tell(connection, "broken"))

    realm.network._establish = refuse  # type: ignore[method-assign]
    realm.push(pusher, b"1", b"2")
    realm.run(30.0)
    assert 5 <= len(pauses) <= 15, "not as fast as the processor can"
    assert max(later - sooner for sooner, later in pairwise(pauses)) >= supervisor.PAUSE_MOST
    realm.network._establish = establish  # type: ignore[method-assign]
    assert realm.run(2 * supervisor.PAUSE_MOST, lambda: [*worker.take(), *worker.held] and len(worker.held) == 2)
    worker.ack()
    assert realm.run(5.0, lambda: all(outbox.row().acked == 2 for outbox in pusher.node.pushing))


def test_a_work_connection_that_is_interrupted_is_made_anew_at_once() -> None:
    realm = Realm(2)
    pusher, puller = realm.peers
    worker = Worker(puller)
    realm.push(pusher, b"1")
    assert realm.run(1.0, worker.take)
    (connection,) = dialled(pusher, Kind.WORK)
    realm.network.reset(connection)
    assert realm.run(supervisor.PAUSE / 2, lambda: dialled(pusher, Kind.WORK) not in ([], [connection]))
