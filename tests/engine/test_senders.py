"""A sender that has no room: who does the work that makes some."""

from __future__ import annotations

import threading
import time

import pytest

import zq
from zq.core.announcement import Announcement
from zq.core.outgoing import PILE_MESSAGES
from zq.handles import life

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


def test_a_machine_that_stands_still_while_a_publisher_leaves_takes_no_time_from_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(life, "ANSWER", 0.2)
    over, heard = threading.Event(), list[bool]()
    has_entries = Announcement.has_entries

    def after_a_stall(announcement: Announcement, version: int) -> bool:
        if heard == []:
            time.sleep(0.4)  # what is simulated: the machine stands still for longer than ANSWER
        heard.append(has_entries(announcement, version))
        if len(heard) == 2:  # the others stood still as well, and answer now
            monkeypatch.setattr(life, "ANSWER", PATIENCE)
            over.set()
        return heard[-1]

    def stand_still() -> None:
        over.wait(PATIENCE)

    with zq.Peer("other") as other, zq.Peer("leaving") as peer, other.subscriber("news"):
        with peer.publisher("news") as publisher:
            publisher.wait_for_subscribers()
            monkeypatch.setattr(Announcement, "has_entries", after_a_stall)
            engine = other._engine
            assert engine is not None
            engine.later(stand_still)
        assert heard[-1]
