"""Queues bound to topics: each service gets every message once, shared among its replicas, and may be restarted."""

from __future__ import annotations

from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, fill, take


def held(peer: Any, queue: str) -> zq.HeldQueue:
    (row,) = (row for row in peer.ledger().held if row.queue == queue)
    assert row.balanced
    return row


def test_every_service_gets_every_message_once(face: Face) -> None:
    publisher = face.peer("shop").publisher("orders/new")
    services = [face.peer(name).puller(name, topics=["orders/**"]) for name in ("mailer", "audit")]
    publisher.wait_for_subscribers(2)
    publisher.send_many(range(1_000))
    assert [take(service, 1_000) for service in services] == [list(range(1_000))] * 2
    publisher.flush()


def test_replicas_of_a_service_share_its_messages(face: Face) -> None:
    shop = face.peer("shop")
    publisher = shop.publisher("orders/new")
    replicas = [face.peer(f"mailer-{number}").puller("mailer", prefetch=1, topics=["orders/*"]) for number in (1, 2)]
    eventually(lambda: shop.topics()[0].subscribers == 1 and sum(bool(peer.pulls) for peer in shop.peers()) == 2)
    publisher.send_many(range(2))
    messages = [replica.receive(timeout=PATIENCE) for replica in replicas]
    assert sorted(message.data for message in messages) == [0, 1]
    for message in messages:
        message.ack()
    publisher.flush()
    assert held(shop, "mailer").taken == 2


def test_a_message_is_that_of_the_topic(face: Face) -> None:
    shop, service = face.peer("shop"), face.peer("service")
    subscriber, puller = service.subscriber("orders/new"), service.puller("mailer", topics=["orders/new"])
    publisher = shop.publisher("orders/new")
    publisher.wait_for_subscribers(2)
    publisher.send({"order": 1}, headers={"content-type": "order"}, id="order-1")
    publisher.send(2)
    for _ in range(2):
        heard, message = subscriber.receive(timeout=PATIENCE), puller.receive(timeout=PATIENCE)
        assert (message.topic, message.queue, message.sender) == ("orders/new", "mailer", shop.id)
        assert (message.data, message.headers, message.id) == (heard.data, heard.headers, heard.id)
        assert (message.attempt, message.redelivered, message.sent_at) == (1, False, heard.sent_at)
        message.ack()


def test_a_service_that_is_restarted_misses_nothing(face: Face) -> None:
    publisher = face.peer("shop").publisher("orders/new")
    first = face.peer("mailer").puller("mailer", topics=["orders/**"])
    publisher.wait_for_subscribers()
    publisher.send_many(range(10))
    assert take(first, 10) == list(range(10))
    first.close()
    publisher.send_many(range(10, 20))
    second = face.peer("mailer-again").puller("mailer", topics=["orders/**"])
    publisher.send_many(range(20, 30))
    assert take(second, 20) == list(range(10, 30))


def test_binding_before_publishing_is_enough_although_the_connection_comes_later(face: Face) -> None:
    puller = face.peer("mailer").puller("mailer", topics=["orders/**"])
    with face.unopened("shop") as shop:
        for number in range(100):
            shop.publish("orders/new", number)
        assert take(puller, 100) == list(range(100))


def test_a_topic_that_comes_later_is_bound_from_its_first_message(face: Face) -> None:
    shop, puller = face.peer("shop"), face.peer("mailer").puller("mailer", topics=["orders/**"])
    shop.publisher("orders/new").wait_for_subscribers()
    for topic in ("orders/old", "orders/old/returned", "bills"):
        shop.publish(topic, topic)
    assert sorted(take(puller, 2)) == ["orders/old", "orders/old/returned"]  # of two topics in any order


def test_a_second_replica_does_not_begin_again(face: Face) -> None:
    shop = face.peer("shop")
    publisher = shop.publisher("orders/new")
    first = face.peer("mailer").puller("mailer", topics=["orders/**"])
    publisher.wait_for_subscribers()
    publisher.send_many(range(10))
    assert take(first, 10) == list(range(10))
    face.peer("mailer-2").puller("mailer", topics=["orders/**"])
    eventually(lambda: sum(bool(peer.pulls) for peer in shop.peers()) == 2)
    publisher.flush()
    assert held(shop, "mailer").taken == 10


def test_a_retained_value_is_not_bound(face: Face) -> None:
    shop = face.peer("shop")
    publisher = shop.publisher("orders/new", retain=True)
    publisher.send("retained")
    publisher.flush()
    mailer = face.peer("mailer")
    for peer in (shop, mailer):
        peer.wait_for_peers(1)  # they have met since: the shortest of a few transits took less
    puller = mailer.puller("mailer", topics=["orders/**"])
    publisher.wait_for_subscribers()
    publisher.send("new")
    assert take(puller, 1) == ["new"]


def test_a_peer_binds_what_it_publishes_itself(face: Face) -> None:
    peer = face.peer("alone")
    puller = peer.puller("mailer", topics=["orders/**"])
    publisher = peer.publisher("orders/new")
    publisher.send_many(range(100))
    assert take(puller, 100) == list(range(100))
    publisher.flush()


def test_a_full_window_makes_send_wait_and_a_timeout_takes_nothing(face: Face) -> None:
    shop = face.peer("shop")
    publisher = shop.publisher("orders/new", patience=0.0)
    puller = face.peer("mailer").puller("mailer", topics=["orders/**"])
    publisher.wait_for_subscribers()

    def held_messages() -> int:
        return sum(row.waiting + row.in_flight for row in shop.ledger().held)

    sent = fill(publisher, 0, lambda: held_messages() == 16_384)
    assert 16_384 <= sent < 20_000
    assert held_messages() == 16_384
    sending = face.background(publisher.send_many, range(sent, 30_000))
    assert take(puller, 30_000) == list(range(30_000))
    assert sending.result(PATIENCE) == 30_000 - sent


def test_flush_and_close_wait_until_bound_queues_have_settled_it(face: Face) -> None:
    shop = face.peer("shop")
    publisher = shop.publisher("orders/new")
    puller = face.peer("mailer").puller("mailer", topics=["orders/**"])
    publisher.wait_for_subscribers()
    publisher.send("order")
    message = puller.receive(timeout=PATIENCE)
    with pytest.raises(zq.Undelivered) as caught:
        publisher.flush(timeout=0.1)
    assert (caught.value.count, caught.value.ids) == (1, (message.id,))
    assert "mailer" in caught.value.waiting_for
    closing = face.background(shop.close, timeout=PATIENCE)
    assert not closing.done()
    message.ack()
    closing.result(PATIENCE)


def test_leaving_says_what_a_bound_queue_has_not_settled(face: Face) -> None:
    shop = face.peer("shop")
    publisher = shop.publisher("orders/new")
    puller = face.peer("mailer").puller("mailer", topics=["orders/**"])
    publisher.wait_for_subscribers()
    puller.close()
    publisher.send_many(range(3))
    with pytest.raises(zq.Undelivered) as caught:
        shop.close(timeout=0.2)
    assert caught.value.count == 3
    assert "a puller of mailer" in caught.value.waiting_for


def test_unbind_drops_what_waits_and_counts_it(face: Face) -> None:
    shop = face.peer("shop")
    publisher = shop.publisher("orders/new")
    puller = face.peer("mailer").puller("mailer", topics=["orders/**"])
    publisher.wait_for_subscribers()
    publisher.send_many(range(3))
    message = puller.receive(timeout=PATIENCE)
    puller.unbind()
    message.ack()  # in vain, and harmless
    assert shop.topics()[0].subscribers == 0
    publisher.send(3)
    publisher.flush()
    row = held(shop, "mailer")
    assert (row.taken, dict(row.dropped)) == (3, {"unbound": 3})
    with pytest.raises(zq.Closed):
        puller.receive(timeout=0)


def test_unbind_leaves_the_queue_to_those_who_bind_it_too(face: Face) -> None:
    publisher = face.peer("shop").publisher("orders/new")
    one, other = (face.peer(name).puller("mailer", topics=["orders/**"]) for name in ("one", "other"))
    publisher.wait_for_subscribers()
    one.unbind()
    publisher.send_many(range(10))
    assert take(other, 10) == list(range(10))


def test_what_is_pushed_to_a_bound_queue_comes_as_well(face: Face) -> None:
    shop = face.peer("shop")
    puller = face.peer("mailer").puller("mailer", topics=["orders/**"])
    publisher = shop.publisher("orders/new")
    publisher.wait_for_subscribers()
    publisher.send("published")
    publisher_message = puller.receive(timeout=PATIENCE)
    publisher_message.ack()
    with shop.pusher("mailer", window=10) as pusher:
        pusher.send("pushed")
        message = puller.receive(timeout=PATIENCE)
        assert (message.data, message.topic, message.queue) == ("pushed", None, "mailer")
        message.ack()
    publisher.send("published again")
    assert take(puller, 1) == ["published again"]
    publisher.flush()


@pytest.mark.parametrize(
    ("queue", "topics"),
    [("mailer", "orders/**"), ("mailer", ["orders/"]), ("mailer", [1]), ("jobs.dead", ["**"])],
    ids=["a str", "no filter", "no str", "a dead queue"],
)
def test_what_cannot_be_bound_is_refused(face: Face, queue: str, topics: Any) -> None:
    peer = face.peer("mailer")
    with pytest.raises(zq.Refused):
        peer.puller(queue, topics=topics)
    assert peer.queues() == []


def test_a_queue_that_is_not_bound_cannot_be_unbound(face: Face) -> None:
    puller = face.peer("mailer").puller("mailer")
    with pytest.raises(zq.Refused):
        puller.unbind()
    assert not puller.closed


def test_what_a_service_cannot_process_is_a_dead_letter_of_its_queue(face: Face) -> None:
    shop, service = face.peer("shop"), face.peer("service")
    mailer, audit = (service.puller(name, topics=["orders/**"]) for name in ("mailer", "audit"))
    publisher = shop.publisher("orders/new")
    publisher.wait_for_subscribers(2)
    publisher.send({"order": 7}, headers={"trace": "1"}, id="order-7")
    publisher.send({"order": 8}, id="order-8")
    assert take(audit, 2) == [{"order": 7}, {"order": 8}]
    mailer.receive(timeout=PATIENCE).reject("no such order")
    for attempt in range(1, 6):
        message = mailer.receive(timeout=PATIENCE)
        assert (message.id, message.attempt) == ("order-8", attempt)
        message.nack()
    publisher.flush()
    assert dict(held(shop, "mailer").dropped) == {"rejected": 1, "dead": 1}
    letters = service.dead_letters("mailer").letters
    assert {letter.id: (letter.data, letter.holder) for letter in letters} == {
        "order-7": ({"order": 7}, "shop"),
        "order-8": ({"order": 8}, "shop"),
    }
    assert service.dead_letters("audit").letters == ()
    assert service.retry_dead_letters("mailer", ids=["order-7"]).count == 1
    with mailer.receive(timeout=PATIENCE) as again:
        assert (again.data, again.id, again.attempt) == ({"order": 7}, "order-7", 1)
        assert (again.topic, again.queue, dict(again.headers)) == ("orders/new", "mailer", {"trace": "1"})
    with service.puller("mailer.dead") as dead, dead.receive(timeout=PATIENCE) as letter:
        assert (letter.data, letter.topic, letter.queue) == ({"order": 8}, "orders/new", "mailer.dead")
