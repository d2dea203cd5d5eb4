"""Leaving: what is confirmed first, what is said when it cannot be, and what closed handles say."""

from __future__ import annotations

import time
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, take


def test_leaving_waits_for_what_was_pushed(face: Face) -> None:
    puller = face.peer("receiver").puller("jobs")

    def send() -> None:
        with face.unopened("sender") as sender:
            sender.push("jobs", 1)

    sending = face.background(send)
    message = puller.receive(timeout=PATIENCE)
    assert not sending.done()
    message.ack()
    sending.result(PATIENCE)


def test_leaving_without_anybody_to_pull_says_what_is_lost(face: Face) -> None:
    sender = face.peer("sender")
    sender.pusher("jobs").send_many(range(5))
    started = time.monotonic()
    with pytest.raises(zq.Undelivered) as caught:
        sender.close(timeout=0.2)
    assert 0.2 <= time.monotonic() - started < PATIENCE / 2
    assert caught.value.count == 5
    assert caught.value.ids == tuple(f"{sender.id.hex()}-{number}" for number in range(1, 6))
    assert "jobs" in caught.value.waiting_for
    assert "5 messages not confirmed" in str(caught.value)
    with pytest.raises(zq.Closed):
        sender.push("jobs", 6)


def test_leaving_counts_all_queues(face: Face) -> None:
    sender = face.peer("sender")
    sender.pusher("a").send_many(range(3))
    sender.pusher("b").send_many(range(4))
    with pytest.raises(zq.Undelivered) as caught:
        sender.close(timeout=0)
    assert (caught.value.count, len(caught.value.ids)) == (7, 7)


def test_an_exception_under_way_is_not_masked_but_gets_a_note(face: Face) -> None:
    def fail() -> None:
        with face.unopened("sender") as sender:
            sender.push("jobs", 1)
            raise ZeroDivisionError

    started = time.monotonic()
    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    assert time.monotonic() - started < 4.5  # as little as 1.0; without an exception it is 5.0
    assert caught.value.__notes__ == [
        "zq: 1 message not confirmed: waiting for a puller of jobs",
    ]


def test_an_exception_under_way_with_nothing_left_behind_has_no_note(face: Face) -> None:
    def fail() -> None:
        with face.unopened("sender") as sender:
            sender.publish("news", 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    assert not hasattr(caught.value, "__notes__")


def test_the_note_of_a_handle(face: Face) -> None:
    peer = face.peer("sender")

    def fail() -> None:
        with peer.pusher("jobs") as pusher:
            pusher.send(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    assert "1 message not confirmed" in caught.value.__notes__[0]


def test_closing_twice_is_harmless(face: Face) -> None:
    peer = face.peer("alone")
    handles = [peer.publisher("news"), peer.pusher("jobs"), peer.subscriber("news"), peer.puller("jobs")]
    for handle in [*handles, *handles, peer, peer, *handles]:
        handle.close()


def test_closing_a_handle_leaves_its_peer_open(face: Face) -> None:
    peer = face.peer("alone")
    for handle in (peer.publisher("news"), peer.pusher("jobs"), peer.subscriber("news"), peer.puller("jobs")):
        handle.close()
    eventually(lambda: not peer.topics() and not peer.queues())
    subscriber, publisher = peer.subscriber("news"), peer.publisher("news", retain=True)
    publisher.send(1)
    assert take(subscriber, 1) == [1]


def test_a_pusher_that_is_closed_waits_for_its_messages(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    pusher = sender.pusher("jobs")
    pusher.send(1)
    with pytest.raises(zq.Undelivered) as caught:
        pusher.close(timeout=0.1)
    assert caught.value.count == 1
    puller = receiver.puller("jobs")
    pusher = sender.pusher("jobs")
    pusher.send(2)
    closing = face.background(pusher.close)
    while take(puller, 1) != [2]:
        pass
    closing.result(PATIENCE)


USES: list[tuple[str, Any]] = [
    ("publisher", lambda handle: handle.send(1)),
    ("publisher", lambda handle: handle.send_many([1])),
    ("publisher", lambda handle: handle.send(bytes(1 << 20))),
    ("publisher", lambda handle: handle.flush()),
    ("publisher", lambda handle: handle.clear()),
    ("publisher", lambda handle: handle.wait_for_subscribers(timeout=0)),
    ("pusher", lambda handle: handle.send(1)),
    ("pusher", lambda handle: handle.send(1, timeout=0)),
    ("pusher", lambda handle: handle.send_many([1])),
    ("pusher", lambda handle: handle.flush()),
    ("pusher", lambda handle: handle.wait_for_pullers(timeout=0)),
    ("subscriber", lambda handle: handle.receive()),
    ("subscriber", lambda handle: handle.receive(timeout=0)),
    ("subscriber", lambda handle: handle.receive_many(3)),
    ("puller", lambda handle: handle.receive()),
    ("puller", lambda handle: handle.receive_many(3, timeout=0)),
]


@pytest.mark.parametrize("what", ["handle", "peer"])
@pytest.mark.parametrize(("kind", "use"), USES)
def test_what_is_closed_says_so(face: Face, kind: str, use: Any, what: str) -> None:
    peer = face.peer("alone")
    handle = getattr(peer, kind)("name")
    (handle if what == "handle" else peer).close()
    with pytest.raises(zq.Closed):
        use(handle)


@pytest.mark.parametrize("kind", ["subscriber", "puller"])
def test_iterating_over_what_is_closed_ends_at_once(face: Face, kind: str) -> None:
    peer = face.peer("alone")
    handle = getattr(peer, kind)("name")
    handle.close()
    assert list(handle) == []


@pytest.mark.parametrize(
    "use",
    [
        lambda peer: peer.publisher("a"),
        lambda peer: peer.subscriber("a"),
        lambda peer: peer.pusher("a"),
        lambda peer: peer.puller("a"),
        lambda peer: peer.publish("a", 1),
        lambda peer: peer.push("a", 1),
        lambda peer: peer.peers(),
        lambda peer: peer.topics(),
        lambda peer: peer.queues(),
        lambda peer: peer.ledger(),
        lambda peer: peer.ledger(realm=True),
        lambda peer: peer.settle(),
        lambda peer: peer.wait_for_peers(1, timeout=0),
        lambda peer: list(peer.watch()),
    ],
)
@pytest.mark.parametrize("state", ["closed", "not opened"])
def test_a_peer_that_is_closed_or_not_open_yet_says_so(face: Face, use: Any, state: str) -> None:
    peer = face.peer("alone") if state == "closed" else face.unopened("alone")
    peer.close()
    with pytest.raises(zq.Closed):
        use(peer)


def test_a_peer_is_opened_once(face: Face) -> None:
    peer = face.peer("alone")
    with pytest.raises(zq.Closed, match="make a new one"):
        peer.open()
    peer.close()
    with pytest.raises(zq.Closed, match="make a new one"):
        peer.open()


def test_closing_what_was_never_opened_is_harmless(face: Face) -> None:
    peer = face.unopened("never")
    peer.close()
    assert "not open" in repr(peer)


def test_everybody_who_waits_is_told_when_the_peer_is_closed(face: Face) -> None:
    peer = face.peer("alone")
    pusher = peer.pusher("jobs", window=1)
    pusher.send(0)
    waits = [
        face.background(peer.subscriber("news").receive),
        face.background(peer.puller("other").receive),
        face.background(peer.publisher("news").wait_for_subscribers, 5),
        face.background(pusher.flush),
        face.background(pusher.send_many, [1, 2, 3]),
        face.background(peer.wait_for_peers, 3),
    ]
    watching = face.background(list, peer.watch())
    eventually(lambda: len([waiters for waiters in list(peer._engine.everyone) if waiters]) == 7)
    with pytest.raises(zq.Undelivered):
        peer.close(timeout=0)
    for wait in waits:
        with pytest.raises(zq.Closed):
            wait.result(PATIENCE)
    assert watching.result(PATIENCE) == []
