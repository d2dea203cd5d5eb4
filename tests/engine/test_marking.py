"""The engine is told once of what is left for it, and again once it has looked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import zq
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.usefixtures("unhelped")


@pytest.fixture
def peer(clean_environment: None) -> Iterator[zq.Peer]:
    with zq.Peer("alone") as peer:
        yield peer


def test_what_is_published_after_the_engine_has_looked_goes_out_at_once(peer: zq.Peer) -> None:
    with peer.subscriber("news") as subscriber, peer.publisher("news") as publisher:
        publisher.wait_for_subscribers()
        for number in range(5):
            publisher.send(number)
            assert subscriber.receive(timeout=PATIENCE).data == number
            eventually(lambda: not publisher._outgoing.marked)


def test_what_is_pushed_after_the_engine_has_looked_goes_out_at_once(peer: zq.Peer) -> None:
    with peer.puller("jobs") as puller, peer.pusher("jobs") as pusher:
        pusher.wait_for_pullers()
        for number in range(5):
            pusher.send(number)
            with puller.receive(timeout=PATIENCE) as message:
                assert message.data == number
            eventually(lambda: not pusher._outgoing.marked)


def test_what_is_settled_after_the_engine_has_looked_is_told_at_once(peer: zq.Peer) -> None:
    with peer.puller("jobs") as puller, peer.pusher("jobs") as pusher:
        pusher.wait_for_pullers()
        for number in range(5):
            pusher.send_many([number] * 3)
            for _ in range(3):
                puller.receive(timeout=PATIENCE).ack()
            pusher.flush(timeout=PATIENCE)


def test_what_is_settled_while_others_are_in_hand_is_told_although_nobody_receives_any_more(peer: zq.Peer) -> None:
    with peer.puller("jobs") as puller, peer.pusher("jobs") as pusher:
        pusher.wait_for_pullers()
        for turn in range(5):
            pusher.send_many([turn] * 100)
            for number in range(1, 101):
                puller.receive(timeout=PATIENCE).ack()
                if number in (1, 50):
                    settled = 100 * turn + number
                    eventually(lambda count=settled: pusher._core.acked == count)
            pusher.flush(timeout=PATIENCE)
