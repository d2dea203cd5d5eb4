"""What happens when a program takes less than is published: waiting, gaps, dropping."""

from __future__ import annotations

import time
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, fill, take
from zq.core.inbox import INBOX_MESSAGES
from zq.core.topics import WINDOW


def only_row(peer: Any) -> zq.SubscribedTopic:
    (row,) = peer.ledger().subscribed
    assert row.balanced
    return row


def test_a_publisher_waits_for_a_subscriber_that_is_a_window_behind(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    subscriber = receiver.subscriber("news")
    publisher = sender.publisher("news", patience=None)
    publisher.wait_for_subscribers()
    sent = fill(publisher, 0, lambda: sender.topics()[0].slow == ("receiver",))
    assert WINDOW <= sent < 2 * WINDOW
    with pytest.raises(zq.Timeout, match="not taken"):
        publisher.send("no room", timeout=0)
    waiting = face.background(publisher.send, "at last")
    assert take(subscriber, sent) == list(range(sent))
    waiting.result(PATIENCE)
    assert take(subscriber, 1) == ["at last"]


def test_patience_is_the_longest_that_a_subscriber_holds_a_topic_back(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    receiver.subscriber("news")
    publisher = sender.publisher("news", patience=0.2)
    publisher.wait_for_subscribers()
    started = time.monotonic()
    publisher.send_many(range(2 * WINDOW), timeout=PATIENCE)
    assert 0.2 <= time.monotonic() - started < PATIENCE / 2
    eventually(lambda: sender.topics()[0].slow == ("receiver",))


def test_a_subscription_may_ask_for_more_patience(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    receiver.subscriber("news", patience=None)
    publisher = sender.publisher("news", patience=0)
    publisher.wait_for_subscribers()
    assert WINDOW <= fill(publisher, 0, lambda: sender.topics()[0].slow == ("receiver",)) < 2 * WINDOW
    with pytest.raises(zq.Timeout):
        publisher.send("no room", timeout=0.3)


def test_who_is_left_behind_gets_the_ring_and_is_told_of_the_gap(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.core.topics.RING_BYTES", 20_000)
    sender, receiver = face.peer("sender"), face.peer("receiver")
    gaps: list[zq.Gap] = []
    subscriber = receiver.subscriber("news", on_gap=gaps.append)
    publisher = sender.publisher("news", patience=0)
    publisher.wait_for_subscribers()
    publisher.send(0)
    data: list[int] = take(subscriber, 1)  # from here on all that is published is on its way
    count = INBOX_MESSAGES + 2 * WINDOW
    publisher.send_many(range(1, count), timeout=PATIENCE)
    eventually(lambda: only_row(receiver).expected == count)  # it had no room for the last of them
    while count - 1 not in data[-1:]:
        data += [message.data for message in subscriber.receive_many(1_000, timeout=PATIENCE)]
    assert len(gaps) == 1
    gap = gaps[0]
    assert (gap.publisher, gap.topic) == (sender.id, "news")
    assert gap.last is not None
    missing = range(gap.first - 1, gap.last)  # topic numbers begin at 1, the data at 0
    assert data == [number for number in range(count) if number not in missing]
    row = only_row(receiver)
    assert (row.gap, row.delivered) == (len(missing), count - len(missing))


def test_a_publisher_without_patience_is_not_held_back(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    receiver.subscriber("news")
    publisher = sender.publisher("news", patience=0)
    publisher.wait_for_subscribers()
    sending = face.background(publisher.send_many, range(4 * WINDOW), timeout=PATIENCE)
    paces: set[str] = set()
    while "behind" not in paces or not sending.done():
        paces |= {consumer.pace for consumer in sender.topics()[0].consumers}
    assert sending.result() == 4 * WINDOW
    assert "waited for" not in paces


def test_drop_oldest_keeps_the_newest_and_counts_the_rest(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    subscriber = receiver.subscriber("news", slow="drop-oldest")
    publisher = sender.publisher("news", patience=None)
    publisher.wait_for_subscribers()
    count = INBOX_MESSAGES + 8_192
    publisher.send_many(range(count), timeout=PATIENCE)  # nobody is waited for
    publisher.flush()
    row = only_row(receiver)
    assert 0 < row.dropped < 8_192 + 1_024
    assert row.queued == count - row.dropped
    assert take(subscriber, row.queued) == list(range(row.dropped, count))
    assert only_row(receiver).delivered == count - row.dropped


def test_latest_keeps_one_message_of_each_topic(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    subscriber = receiver.subscriber("state/*", slow="latest")
    publishers = [sender.publisher(f"state/{name}", patience=None) for name in ("door", "lamp")]
    for publisher in publishers:
        publisher.wait_for_subscribers()
        publisher.send_many([[publisher.name, number] for number in range(1_000)])
    for publisher in publishers:
        publisher.flush()
    assert sorted(take(subscriber, 2)) == [["state/door", 999], ["state/lamp", 999]]
    with pytest.raises(zq.Timeout):
        subscriber.receive(timeout=0)
    for row in receiver.ledger().subscribed:
        assert (row.delivered, row.dropped) == (1, 999)
        assert row.balanced


def test_a_slow_program_costs_a_quick_one_nothing_once_patience_is_over(face: Face) -> None:
    sender = face.peer("sender")
    face.peer("slow").subscriber("news")
    quick = face.peer("quick").subscriber("news")
    publisher = sender.publisher("news", patience=0.05)
    publisher.wait_for_subscribers(2)
    count = 2 * WINDOW
    sending = face.background(publisher.send_many, range(count))
    assert take(quick, count) == list(range(count))
    assert sending.result(PATIENCE) == count


@pytest.mark.usefixtures("patient")
def test_a_publisher_that_leaves_with_a_goodbye_leaves_no_gap(face: Face) -> None:
    receiver = face.peer("receiver")
    gaps: list[zq.Gap] = []
    subscriber = receiver.subscriber("news", on_gap=gaps.append)
    with face.unopened("sender") as sender:
        sender.publisher("news").send_many(range(10))
    assert take(subscriber, 10) == list(range(10))
    eventually(lambda: not receiver.peers())
    with pytest.raises(zq.Timeout):
        subscriber.receive(timeout=0)
    assert gaps == []
