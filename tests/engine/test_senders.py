"""A sender that has no room: who does the work that makes some."""

from __future__ import annotations

import threading

import zq
from zq.core.outgoing import PILE_MESSAGES

COUNT = 4 * PILE_MESSAGES
PATIENCE = 20.0  # s


def test_a_sender_that_waits_for_room_gets_it_whoever_leads() -> None:
    """It leads itself, or a receiver does that waits in another thread and would go on waiting."""
    with zq.Peer("both") as peer, peer.publisher("news") as publisher:
        publisher.send_many(range(COUNT), timeout=PATIENCE)
        with peer.subscriber("nothing") as waiting:
            receiver = threading.Thread(target=lambda: next(iter(waiting), None))
            receiver.start()
            publisher.send_many(range(COUNT), timeout=PATIENCE)
            for number in range(COUNT):
                publisher.send(number, timeout=PATIENCE)
            publisher.flush(timeout=PATIENCE)
        receiver.join()


def test_several_senders_that_wait_for_room_all_get_some() -> None:
    with zq.Peer("all") as peer, peer.publisher("news") as publisher:
        threads = [threading.Thread(target=publisher.send_many, args=(range(COUNT),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        publisher.flush(timeout=PATIENCE)
        (topic,) = peer.ledger().published
        assert topic.published == 4 * COUNT
