"""Publish and subscribe: who gets what, when he came first and when he came late."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, take


def test_a_subscriber_gets_what_is_published(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    subscriber = receiver.subscriber("sensors/*")
    publisher = sender.publisher("sensors/kitchen")
    publisher.wait_for_subscribers()
    publisher.send({"celsius": 21.4})
    message = subscriber.receive(timeout=PATIENCE)
    assert message.data == {"celsius": 21.4}
    assert (message.topic, message.queue, message.sender) == ("sensors/kitchen", None, sender.id)
    assert (message.attempt, message.redelivered) == (1, False)


def test_a_topic_that_no_filter_matches_stays_away(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    subscriber = receiver.subscriber("sensors/*", "alarms/**")
    for topic in ("sensors", "sensors/kitchen/floor", "sensorsx/kitchen", "alarm"):
        sender.publish(topic, "stranger")
    for topic in ("sensors/kitchen", "alarms", "alarms/fire/cellar"):
        sender.publish(topic, topic)
    assert sorted(take(subscriber, 3)) == ["alarms", "alarms/fire/cellar", "sensors/kitchen"]
    for topic in ("sensors", "sensors/kitchen"):
        sender.publisher(topic).flush()
    with pytest.raises(zq.Timeout):
        subscriber.receive(timeout=0)


def test_subscribing_before_publishing_is_enough_although_the_connection_comes_later(face: Face) -> None:
    subscriber = face.peer("receiver").subscriber("news")
    sender = face.peer("sender")
    for number in range(1_000):
        sender.publish("news", number)  # nobody has waited for anybody
    assert take(subscriber, 1_000) == list(range(1_000))


@pytest.mark.usefixtures("patient")
def test_a_publisher_that_leaves_after_its_last_message_has_delivered_it(face: Face) -> None:
    subscriber = face.peer("receiver").subscriber("news")
    with face.unopened("sender") as sender:
        for number in range(1_000):
            sender.publish("news", number)
    assert [message.data for message in subscriber.receive_many(2_000, timeout=0)] == list(range(1_000))


@pytest.mark.usefixtures("patient")
def test_a_thousand_messages_right_after_the_start_and_before_the_end(face: Face) -> None:
    subscriber = face.peer("receiver").subscriber("news")
    with face.unopened("sender") as sender, sender.publisher("news") as publisher:
        assert publisher.send_many(range(1_000)) == 1_000
    assert take(subscriber, 1_000) == list(range(1_000))


def test_who_subscribes_to_a_running_publisher_gets_everything_from_then_on(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    receiver.wait_for_peers(1)
    publisher = sender.publisher("news")
    publisher.send("before")
    subscriber = receiver.subscriber("news")
    publisher.send_many(range(100))  # the publisher doesn't know of the subscription yet
    data = take(subscriber, 100)
    if data[0] == "before":  # the beginning may be one transit too early, never late
        data = data[1:] + take(subscriber, 1)
    assert data == list(range(100))


def late_subscriber(receiver: Any, filter: str, has_begun: Callable[[Any], object]) -> tuple[Any, object]:
    """One that begins after what has been published up to now, and what `has_begun` returned, which waits for that.

    A subscription may begin one transit too early: one whose transit may have been longer ago than this is none.
    """
    published = time.monotonic()
    while True:
        created = time.monotonic()
        subscriber = receiver.subscriber(filter)
        begun = has_begun(subscriber)
        if time.monotonic() - created < created - published:
            return subscriber, begun
        subscriber.close()


def test_a_retained_value_reaches_those_who_come_later_and_only_the_last(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    publisher = sender.publisher("state/door", retain=True)
    publisher.send_many(["open", "closed", "locked"])
    publisher.flush()
    subscriber, first = late_subscriber(receiver, "state/*", lambda subscriber: take(subscriber, 1))
    assert first == ["locked"]
    publisher.send("open")
    assert take(subscriber, 1) == ["open"]


def test_a_cleared_value_is_not_delivered_and_the_next_one_is(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    receiver.wait_for_peers(1)
    publisher = sender.publisher("state/door", retain=True)
    first = receiver.subscriber("state/*")
    publisher.send("open")
    assert take(first, 1) == ["open"]
    publisher.clear()
    second, _ = late_subscriber(receiver, "state/*", lambda subscriber: publisher.wait_for_subscribers(2))
    publisher.send("closed")
    assert take(second, 1) == ["closed"]


def test_a_message_comes_once_although_several_filters_match(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    subscriber = receiver.subscriber("a/*", "a/b", "**", "*/b", "a/**")
    sender.publish("a/b", 1)
    sender.publish("a/b", 2)
    assert take(subscriber, 2) == [1, 2]
    sender.publisher("a/b").flush()
    with pytest.raises(zq.Timeout):
        subscriber.receive(timeout=0)


def test_every_subscription_gets_its_own_copy(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    subscribers = [receiver.subscriber("news"), receiver.subscriber("**"), face.peer("other").subscriber("news")]
    sender.publisher("news").send_many(range(50))
    assert [take(subscriber, 50) for subscriber in subscribers] == [list(range(50))] * 3


def test_a_peer_hears_itself(face: Face) -> None:
    peer = face.peer("alone")
    subscriber = peer.subscriber("news")
    publisher = peer.publisher("news")
    publisher.wait_for_subscribers()
    publisher.send_many(range(100))
    assert take(subscriber, 100) == list(range(100))


def test_settling_a_message_of_a_topic_does_nothing(face: Face) -> None:
    peer = face.peer("alone")
    subscriber = peer.subscriber("news")
    peer.publish("news", 1)
    message = subscriber.receive(timeout=PATIENCE)
    message.nack()
    message.reject("no")
    message.ack()
    with pytest.raises(ZeroDivisionError), message:
        raise ZeroDivisionError
    peer.publisher("news").flush()
    with pytest.raises(zq.Timeout):
        subscriber.receive(timeout=0)


def test_flush_returns_when_everything_has_arrived(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    subscriber = receiver.subscriber("news")
    publisher = sender.publisher("news")
    publisher.wait_for_subscribers()
    publisher.send_many(range(2_000))
    publisher.flush()
    assert [message.data for message in subscriber.receive_many(5_000, timeout=0)] == list(range(2_000))


def test_flush_of_what_nobody_wants_is_done_at_once(face: Face) -> None:
    publisher = face.peer("alone").publisher("news")
    publisher.send("nobody hears this")
    publisher.flush(timeout=PATIENCE)


def test_waiting_for_subscribers_counts_subscriptions(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    publisher = sender.publisher("news")
    publisher.wait_for_subscribers(0)
    with pytest.raises(zq.Timeout, match="news"):
        publisher.wait_for_subscribers(timeout=0)
    waiting = face.background(publisher.wait_for_subscribers, 3, timeout=PATIENCE)
    subscribers = [receiver.subscriber("news"), receiver.subscriber("**"), sender.subscriber("*")]
    waiting.result()
    subscribers[0].close()
    eventually(lambda: not _reaches(publisher, 3))
    assert _reaches(publisher, 2)


def _reaches(publisher: Any, count: int) -> bool:
    try:
        publisher.wait_for_subscribers(count, timeout=0)
    except zq.Timeout:
        return False
    return True


def test_a_closed_subscription_gets_nothing_and_costs_nothing(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    closed, open_ = receiver.subscriber("news"), receiver.subscriber("news")
    publisher = sender.publisher("news")
    publisher.wait_for_subscribers(2)
    closed.close()
    publisher.send(1)
    assert take(open_, 1) == [1]
    assert [row.expected for row in receiver.ledger().subscribed] == [1]


def test_several_publishers_of_one_topic_are_each_in_order(face: Face) -> None:
    subscriber = face.peer("receiver").subscriber("news")
    for name in "abc":
        face.peer(name).publisher("news").send_many([[name, number] for number in range(200)])
    data = take(subscriber, 600)
    for name in "abc":
        assert [number for sender, number in data if sender == name] == list(range(200))
