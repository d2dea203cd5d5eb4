"""The ledger over the realm counts whatever zq has to offer, each message once, as any peer of the realm tells it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import zq
from zq.core.binding import UNBIND_AFTER, UNBOUND
from zq.testing import Network

TOLD = 2.5  # s until every listing has the newest


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(seed=7) as network:
        yield network


def account(ledger: zq.Ledger, queue: str) -> zq.QueueAccount:
    [row] = [row for row in ledger.queues if row.queue == queue]
    assert row.taken == row.waiting + row.in_flight + row.acked + row.expired + sum(row.dropped.values())
    assert ledger.balanced
    return row


def test_each_queue_that_a_topic_is_bound_to_has_its_own_account(network: Network) -> None:
    shop, mailer, audit, observer = (network.peer(name) for name in ("shop", "mailer", "audit", "observer"))
    mails, audits = mailer.puller("mailer", topics=["orders/**"]), audit.puller("audit", topics=["**"], prefetch=2)
    publisher = shop.publisher("orders/new")
    publisher.wait_for_subscribers(2)
    publisher.send_many(range(5))
    held = [mails.receive(timeout=5) for _ in range(5)]
    held[0].ack()
    held[1].reject("no address")
    network.run(TOLD)
    ledger = observer.ledger(realm=True)
    mail, audited = account(ledger, "mailer"), account(ledger, "audit")
    assert (mail.taken, mail.acked, mail.in_flight, mail.dropped) == (5, 1, 3, {"rejected": 1})
    assert (audited.taken, audited.acked, audited.in_flight, audited.waiting) == (5, 0, 2, 3)
    assert account(ledger, "mailer.dead").waiting == 1
    assert [(row.queue, row.origin, row.count, row.why, row.at) for row in ledger.missing] == [
        ("mailer", shop.id, 1, "rejected", "shop")
    ]
    for message in (*held[2:], *audits.receive_many(2, timeout=5)):
        message.ack()


def test_what_an_unbound_queue_had_is_named_and_stays_in_the_listing(network: Network) -> None:
    shop, mailer, observer = (network.peer(name) for name in ("shop", "mailer", "observer"))
    puller = mailer.puller("mailer", topics=["orders/**"], prefetch=1)
    publisher = shop.publisher("orders/new")
    publisher.wait_for_subscribers()
    puller.close()
    publisher.send_many(range(3))
    network.run(UNBIND_AFTER + TOLD)
    ledger = observer.ledger(realm=True)
    assert account(ledger, "mailer").dropped == {UNBOUND: 3}
    assert [(row.queue, row.origin, row.count, row.why, row.holder) for row in ledger.missing] == [
        ("mailer", shop.id, 3, UNBOUND, "shop")
    ]
    mailer.puller("mailer")
    network.run(TOLD)
    [info] = [info for info in observer.queues() if info.name == "mailer"]
    assert info.dropped == {UNBOUND: 3}


def test_a_vanished_publisher_of_a_bound_queue_is_unknown(network: Network) -> None:
    shop, mailer, observer = (network.peer(name) for name in ("shop", "mailer", "observer"))
    puller = mailer.puller("mailer", topics=["orders/**"], prefetch=2)
    publisher = shop.publisher("orders/new")
    publisher.wait_for_subscribers()
    publisher.send_many(range(6))
    message = puller.receive(timeout=5)
    network.run(TOLD)
    shop.kill()
    network.run(10.0)
    ledger = observer.ledger(realm=True)
    assert account(ledger, "mailer").orphaned == 2
    [missing] = [row for row in ledger.missing if row.queue == "mailer"]
    assert (missing.count, missing.why, missing.holder, missing.origin) == (4, "unknown", "shop", shop.id)
    message.ack()


def test_lanes_and_what_expires_are_in_one_account(network: Network) -> None:
    pusher, worker, observer = (network.peer(name) for name in ("pusher", "worker", "observer"))
    jobs = pusher.pusher("jobs")
    puller = worker.puller("jobs", prefetch=3)
    jobs.wait_for_pullers()
    for lane in ("high", "normal", "low"):
        jobs.send(lane, lane=lane)
    messages = [puller.receive(timeout=5) for _ in range(3)]
    for number in range(4):
        jobs.send(number, ttl=1.0, lane="high")
    network.run(TOLD)
    ledger = observer.ledger(realm=True)
    row = account(ledger, "jobs")
    assert (row.taken, row.in_flight, row.waiting, row.expired, row.orphaned) == (7, 3, 0, 4, 0)
    assert [(missing.queue, missing.first, missing.last, missing.why) for missing in ledger.missing] == [
        ("jobs", 4, 7, "expired")
    ]
    for message in messages:
        message.ack()
    network.run(TOLD)
    assert account(observer.ledger(realm=True), "jobs").acked == 3


def test_requests_are_in_the_ledgers_of_both_sides(network: Network) -> None:
    asker, server, observer = (network.peer(name) for name in ("asker", "server", "observer"))
    replier = server.replier("sum")

    def serve() -> None:
        for request in replier:
            request.reply(sum(request.data))

    server.start(serve)
    asker.wait_for_repliers("sum")
    assert asker.request("sum", [1, 2]).data == 3
    with pytest.raises(zq.NoPeer):
        asker.request("nothing")
    ledgers = {ledger.name: ledger for ledger in observer.ledger(realm=True).others}
    asked = {row.service: row for row in ledgers["asker"].requested}
    [replied] = ledgers["server"].replied
    assert (asked["sum"].asked, asked["sum"].replied, asked["nothing"].nobody) == (1, 1, 1)
    assert (replied.received, replied.replied, replied.held) == (1, 1, 0)
