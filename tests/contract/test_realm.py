"""What a peer sees of its realm: peers, events, topics, queues, ledgers."""

from __future__ import annotations

import os
import socket
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, take


def test_peers_see_each_other_with_all_there_is_to_know(face: Face) -> None:
    started = time.monotonic()
    a, b = face.peer("a"), face.peer("b")
    a.wait_for_peers(1)
    b.publisher("news")
    b.subscriber("alarms/**")
    b.pusher("jobs")
    b.puller("mails")
    info = eventually(lambda: next((info for info in a.peers() if info.pulls), None))
    assert (info.id, info.name, info.host, info.pid) == (b.id, "b", socket.gethostname(), os.getpid())
    assert (info.state, info.address.split(":")[0]) == ("up", "ipc")
    assert info.found_by[0] in ("host", "hello")
    assert (info.publishes, info.subscribes, info.pushes, info.pulls) == (
        ("news",),
        ("alarms/**",),
        ("jobs",),
        ("mails",),
    )
    assert info.found_in >= 0
    assert info.up_for >= 0
    assert info.found_in + info.up_for < time.monotonic() - started


def test_peers_of_another_realm_are_not_there(face: Face) -> None:
    a, b = face.peer("a"), face.peer("b", realm="other")
    c = face.peer("c")
    a.wait_for_peers(1)
    a.settle()
    b.settle()
    assert [info.name for info in a.peers()] == ["c"]
    assert b.peers() == []
    subscriber = b.subscriber("**")
    c.publish("news", 1)
    c.publisher("news").flush()
    with pytest.raises(zq.Timeout):
        subscriber.receive(timeout=0)


def test_waiting_for_peers(face: Face) -> None:
    a = face.peer("a")
    a.wait_for_peers(0, timeout=0)
    with pytest.raises(zq.Timeout, match="fewer than 1"):
        a.wait_for_peers(1, timeout=0)
    waiting = face.background(a.wait_for_peers, 2)
    face.peer("b")
    face.peer("c")
    waiting.result(PATIENCE)
    a.wait_for_peers(2, timeout=0)


def test_watch_begins_with_those_here_and_tells_joined_changed_left_in_order(face: Face) -> None:
    a, b = face.peer("a"), face.peer("b")
    a.wait_for_peers(1)
    events: list[zq.PeerEvent] = []
    left = threading.Event()

    def watch() -> None:
        for event in a.watch():
            events.append(event)
            if event.kind == "left" and event.peer.name == "c":
                left.set()

    watching = face.background(watch)
    eventually(lambda: events)
    assert (events[0].kind, events[0].peer.name) == ("joined", "b")
    with face.unopened("c") as c:
        a.wait_for_peers(2)
        c.subscriber("news")
        eventually(lambda: any("news" in event.peer.subscribes for event in events))
    assert left.wait(PATIENCE)
    mine = [event for event in events if event.peer.id == c.id]
    assert mine[0].kind == "joined"
    assert mine[-1].kind == "left"
    assert {event.kind for event in mine[1:-1]} <= {"changed", "suspect"}  # its connection may end before its goodbye
    assert all(event.at.tzinfo is UTC and event.at <= datetime.now(UTC) for event in events)
    a.close()
    watching.result(PATIENCE)
    assert b.id in {event.peer.id for event in events}


def test_watch_ends_after_its_timeout_without_an_event(face: Face) -> None:
    a = face.peer("a")
    assert list(a.watch(timeout=0)) == []
    face.peer("b")
    a.wait_for_peers(1)
    assert [event.peer.name for event in a.watch(timeout=0.05)][:1] == ["b"]


def test_two_watchers_each_hear_everything(face: Face) -> None:
    a = face.peer("a")
    watching = [face.background(lambda: next(iter(a.watch()))) for _ in range(2)]
    b = face.peer("b")
    assert [future.result(PATIENCE).peer.id for future in watching] == [b.id, b.id]


def test_topics_of_the_realm(face: Face) -> None:
    a, b = face.peer("a"), face.peer("b")
    subscriber = b.subscriber("news/*")
    publisher = a.publisher("news/local")
    publisher.wait_for_subscribers()
    b.publisher("news/world")
    publisher.send_many(range(5))
    publisher.flush()
    own = next(info for info in a.topics() if info.name == "news/local")
    assert (own.publishers, own.subscribers, own.published, own.lag) == (1, 1, 5, 5)
    assert take(subscriber, 5) == list(range(5))
    eventually(lambda: [info.name for info in a.topics()] == ["news/local", "news/world"])
    eventually(lambda: a.topics()[0].lag == 0)


def test_queues_of_the_realm(face: Face) -> None:
    a, b = face.peer("a"), face.peer("b")
    pusher = a.pusher("jobs")
    pusher.send_many(range(3))
    eventually(lambda: a.queues()[0].depth == 3)
    puller = b.puller("jobs", prefetch=1)
    message = puller.receive(timeout=PATIENCE)
    info = eventually(lambda: next((info for info in b.queues() if info.pushers), None))
    assert (info.name, info.pushers, info.pullers) == ("jobs", 1, 1)
    eventually(lambda: a.queues()[0].slow == ("b",))
    assert a.queues()[0].lag > 0
    message.ack()
    take(puller, 2)
    pusher.flush()
    eventually(lambda: a.queues()[0].depth == 0)


def rows(ledger: zq.Ledger) -> list[Any]:
    return [*ledger.held, *ledger.pulled, *ledger.published, *ledger.subscribed]


def test_the_ledger_balances_while_everything_moves(face: Face) -> None:
    a, b = face.peer("a"), face.peer("b")
    subscriber, puller = b.subscriber("news"), b.puller("jobs")
    sending = [
        face.background(a.publisher("news").send_many, range(5_000)),
        face.background(a.pusher("jobs").send_many, range(5_000)),
    ]
    taking = [face.background(take, subscriber, 5_000), face.background(take, puller, 5_000)]
    at_rest = False
    while not at_rest:
        at_rest = all(future.done() for future in [*sending, *taking])
        for peer in (a, b):
            ledger = peer.ledger()
            assert ledger.balanced, ledger
    assert [future.result() for future in taking] == [list(range(5_000))] * 2
    a.pusher("jobs").flush()
    ledger = a.ledger()
    assert (ledger.held[0].taken, ledger.held[0].acked) == (5_000, 5_000)
    assert ledger.published[0].published == 5_000
    eventually(lambda: b.ledger().subscribed[0].delivered == 5_000)
    assert b.ledger().pulled[0].acked == 5_000


def test_the_ledger_of_the_realm_has_everybody(face: Face) -> None:
    peers = [face.peer(name) for name in "abc"]
    peers[0].wait_for_peers(2)
    peers[1].pusher("jobs").send_many(range(10))
    peers[2].puller("jobs").receive(timeout=PATIENCE).ack()
    eventually(lambda: peers[2].ledger().pulled[0].received == 10)
    peers[1].publish("news", 1)
    ledger = peers[0].ledger(realm=True)
    assert ledger.balanced
    assert ledger.unknown == ()
    assert [other.name for other in ledger.others] == ["b", "c"]
    assert {other.peer for other in ledger.others} == {peers[1].id, peers[2].id}
    assert (ledger.name, rows(ledger)) == ("a", [])
    assert ledger.others[0].held[0].taken == 10
    assert ledger.others[1].pulled[0].received == 10


def consumers_of(peer: Any) -> list[tuple[str, bytes, int, str]]:
    """Those of its first queue."""
    return [(each.name, each.peer, each.lag, each.pace) for each in peer.queues()[0].consumers]


def test_the_listings_say_who_lags_by_how_much_and_what_was_dropped(face: Face) -> None:
    a, b = face.peer("a"), face.peer("b")
    subscriber, puller = b.subscriber("news"), b.puller("jobs", prefetch=2)
    publisher = a.publisher("news")
    publisher.wait_for_subscribers()
    publisher.send_many(range(3))
    publisher.flush()
    a.pusher("jobs").send_many(range(5))
    puller.receive(timeout=PATIENCE).reject("broken")
    for peer in (a, b):  # both see the same: one by itself, the other because it was told
        eventually(lambda peer=peer: peer.queues() and peer.queues()[0].dropped == {"rejected": 1})
        eventually(lambda peer=peer: [(each.name, each.lag) for each in peer.topics()[0].consumers] == [("b", 3)])
        eventually(lambda peer=peer: consumers_of(peer) == [("b", b.id, 2, "suspended")])
    assert take(subscriber, 3) == list(range(3))
    take(puller, 4)
    for peer in (a, b):
        eventually(lambda peer=peer: peer.topics()[0].consumers == () == peer.queues()[0].consumers)


def test_the_ledger_of_the_realm_counts_each_message_once_and_names_it(face: Face) -> None:
    a, b, c = (face.peer(name) for name in "abc")
    puller = b.puller("jobs", prefetch=4)
    a.pusher("jobs").send_many(range(6))
    first, second = puller.receive(timeout=PATIENCE), puller.receive(timeout=PATIENCE)
    second.reject("broken")
    c.wait_for_peers(2, timeout=PATIENCE)
    ledger = eventually(lambda: (told := c.ledger(realm=True)).queues[0].dropped and told)
    queue, dead = ledger.queues
    assert (dead.queue, dead.taken, dead.waiting, dead.holders) == ("jobs.dead", 1, 1, ("a",))
    assert (queue.taken, queue.acked, queue.dropped, queue.orphaned) == (6, 0, {"rejected": 1}, 0)
    assert (queue.waiting + queue.in_flight, queue.holders) == (5, ("a",))
    spans = ledger.others[1].pulled[0].spans
    assert spans[0] == zq.Span(origin=a.id, first=1, last=1, state="handed out", peer=a.id)
    assert first.id == f"{a.id.hex()}-{spans[0].first}"
    span = ledger.others[0].held[0].spans[0]
    assert (span.first, span.state, span.peer) == (1, "in flight", b.id)
    (missing,) = ledger.missing
    assert (missing.queue, missing.origin, missing.first, missing.last) == ("jobs", a.id, 2, 2)
    assert (missing.count, missing.why, missing.at, missing.holder) == (1, "rejected", "a", "a")
    first.ack()
    take(puller, 4)


def test_an_empty_ledger_balances(face: Face) -> None:
    peer = face.peer("alone")
    assert peer.ledger() == zq.Ledger(peer=peer.id, name="alone")
    assert peer.ledger(realm=True).balanced
