"""Handles: views of one stream, shortcuts, and how they show themselves."""

from __future__ import annotations

from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, take


def test_handles_of_one_topic_are_views_of_one_stream(face: Face) -> None:
    peer = face.peer("alone")
    subscriber = peer.subscriber("news")
    first, second = peer.publisher("news"), peer.publisher("news")
    first.send(1)
    second.send(2)
    first.close()
    with pytest.raises(zq.Closed):
        first.send("closed")
    second.send(3)
    assert take(subscriber, 3) == [1, 2, 3]
    (row,) = peer.ledger().published
    assert row.published == 3


def test_handles_of_one_queue_share_its_window(face: Face) -> None:
    peer = face.peer("alone")
    first, second = peer.pusher("jobs", window=5), peer.pusher("jobs", window=5)
    first.send_many(range(5))
    with pytest.raises(zq.Timeout):
        second.send(5, timeout=0)
    second.close()  # not the last view: nothing is waited for
    assert take(peer.puller("jobs"), 5) == list(range(5))


@pytest.mark.parametrize(
    ("kind", "options", "other"),
    [
        ("publisher", {}, {"retain": True}),
        ("publisher", {"patience": 0}, {"patience": None}),
        ("pusher", {}, {"window": 3}),
        ("pusher", {"window_bytes": 100_000}, {"window_bytes": 200_000}),
    ],
)
def test_options_that_differ_are_refused_and_change_nothing(
    face: Face, kind: str, options: dict[str, Any], other: dict[str, Any]
) -> None:
    make = getattr(face.peer("alone"), kind)
    handle = make("name", **options)
    with pytest.raises(zq.Refused, match=next(iter(other))):
        make("name", **other)
    handle.send(1)
    make("name", **options).send(2)


def test_when_the_last_view_is_closed_other_options_may_follow(face: Face) -> None:
    peer = face.peer("alone")
    peer.publisher("news").close()
    peer.publisher("news", retain=True).close()
    peer.pusher("jobs").close()
    peer.pusher("jobs", window=2).close()


def test_the_shortcuts_use_the_stream_that_is_there(face: Face) -> None:
    peer = face.peer("alone")
    retained = peer.publisher("state", retain=True)
    peer.publish("state", "on")
    retained.flush()
    assert take(peer.subscriber("state"), 1) == ["on"]
    pusher = peer.pusher("jobs", window=1)
    peer.push("jobs", 1, headers={"a": "b"}, id="x")
    with pytest.raises(zq.Timeout):
        peer.push("jobs", 2, timeout=0)
    with peer.puller("jobs").receive(timeout=PATIENCE) as message:
        assert (message.id, dict(message.headers)) == ("x", {"a": "b"})
    pusher.flush()


def test_the_shortcuts_make_a_stream_when_there_is_none(face: Face) -> None:
    peer = face.peer("alone")
    subscriber, puller = peer.subscriber("news"), peer.puller("jobs")
    for number in range(300):
        peer.publish("news", number)
        peer.push("jobs", number)
    assert take(subscriber, 300) == take(puller, 300) == list(range(300))


def test_every_subscriber_and_puller_is_a_new_one(face: Face) -> None:
    peer = face.peer("alone")
    assert peer.subscriber("a") is not peer.subscriber("a")
    pullers = [peer.puller("jobs"), peer.puller("jobs")]
    peer.pusher("jobs").wait_for_pullers(2)
    assert [row.queue for row in peer.ledger().pulled] == ["jobs", "jobs"]
    assert len(pullers) == 2


def test_a_peer_shows_its_name_realm_and_state(face: Face) -> None:
    peer = face.unopened("sensor", realm="plant")
    assert repr(peer) == "<Peer sensor in plant: not open>"
    peer.open()
    assert repr(peer) == "<Peer sensor in plant: 0 peers>"
    other = face.peer("other", realm="plant")
    peer.wait_for_peers(1)
    assert repr(peer) == "<Peer sensor in plant: 1 peers>"
    peer.close()
    other.close()
    assert repr(peer) == "<Peer sensor in plant: closed>"


def test_senders_show_what_an_operator_wants_to_know(face: Face) -> None:
    peer = face.peer("alone")
    publisher, pusher = peer.publisher("news"), peer.pusher("jobs", window=3)
    assert repr(publisher) == "<Publisher news: 0 subscribers, 0 published>"
    assert repr(pusher) == "<Pusher jobs: 0 pullers, 0 in flight, 0 waiting>"
    pusher.send_many(range(3))
    eventually(lambda: repr(pusher) == "<Pusher jobs: 0 pullers, 0 in flight, 3 waiting, window full>")
    puller = peer.puller("jobs")
    message = puller.receive(timeout=PATIENCE)
    eventually(lambda: repr(pusher) == "<Pusher jobs: 1 pullers, 3 in flight, 0 waiting, window full>")
    message.ack()
    take(puller, 2)
    publisher.close()
    pusher.close()
    assert repr(publisher) == "<Publisher news: closed>"
    assert repr(pusher) == "<Pusher jobs: closed>"


def test_receivers_show_what_waits(face: Face) -> None:
    peer = face.peer("alone")
    subscriber, puller = peer.subscriber("news", "other/**"), peer.puller("jobs")
    assert repr(subscriber) == "<Subscriber news other/**: 0 waiting>"
    assert repr(puller) == "<Puller jobs: 0 waiting>"
    publisher = peer.publisher("news")
    publisher.send_many([1, 2])
    publisher.flush()
    assert repr(subscriber) == "<Subscriber news other/**: 2 waiting>"
    subscriber.close()
    puller.close()
    assert repr(subscriber) == "<Subscriber news other/**: closed>"
    assert repr(puller) == "<Puller jobs: closed>"


def test_options_of_a_send_go_by_name_and_one_that_is_not_there_is_said(face: Face) -> None:
    peer = face.peer("alone")
    subscriber, publisher = peer.subscriber("news"), peer.publisher("news")
    for none in ({"header": {}}, {"key": "k"}):
        with pytest.raises(TypeError, match="unexpected keyword"):
            publisher.send("unsent", **none)
    with pytest.raises(TypeError):
        publisher.send("unsent", {"a": "b"})
    publisher.send("plain", headers=None, id=None, copy=False, timeout=None)
    publisher.send("more", headers={"a": "b"}, id="7", timeout=PATIENCE)
    assert subscriber.receive(timeout=PATIENCE).data == "plain"
    more = subscriber.receive(timeout=PATIENCE)
    assert (more.data, more.id, dict(more.headers)) == ("more", "7", {"a": "b"})
