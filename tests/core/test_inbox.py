"""Inboxes: what a subscription that is too slow gives up, and that nothing leaves without being counted."""

from __future__ import annotations

import pytest

from zq.core import inbox as module
from zq.core.inbox import Handing, Slow, SubscriptionInbox
from zq.info import Gap
from zq.wire.batch import Batch, Run

SENDER = b"s" * 16
GAP = Gap(publisher=SENDER, topic="a", first=1, last=2)


def batch(first: int, count: int, topic: str = "a") -> Batch:
    return Batch(sender=SENDER, first=first, count=count, runs=[Run(SENDER, first, count, 0.0)], body=b"x", topic=topic)


def inbox(policy: Slow) -> SubscriptionInbox:
    return SubscriptionInbox(policy, lambda: None)


def take(box: SubscriptionInbox) -> Batch | Gap:
    box.taken.append(box.arrived.popleft())
    box.handing = Handing(box.taken[-1], ())
    return box.taken[-1]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INBOX_MESSAGES", 10)


def test_one_that_waits_refuses_what_has_no_room() -> None:
    box = inbox("wait")
    assert box.offer(batch(1, 6))
    assert not box.offer(batch(7, 6), queued=6)
    assert not box.has_room(6)
    take(box)
    box.settle_taken()
    assert box.has_room(0)
    assert box.offer(batch(7, 6))


def test_one_that_waits_has_room_for_each_topic_as_long_as_it_has_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or it would refuse what several publishers send, each of which may be a window ahead."""
    monkeypatch.setattr(module, "INBOX_BYTES", 4 * batch(1, 6).size)
    box = inbox("wait")
    for _ in range(4):
        assert box.offer(batch(1, 6), queued=0)
        assert not box.refused
    assert not box.offer(batch(1, 6), queued=0)
    assert not box.has_room(0)
    box = inbox("wait")
    monkeypatch.setattr(module, "INBOX_BATCHES", 2)
    assert [box.offer(batch(number, 1), queued=0) for number in (1, 2, 3)] == [True, True, False]


def test_one_batch_larger_than_the_inbox_passes_alone() -> None:
    box = inbox("wait")
    assert box.offer(batch(1, 50))
    assert not box.offer(batch(51, 1), queued=50)


def test_the_oldest_are_dropped_and_counted_but_gaps_stay() -> None:
    box = inbox("drop-oldest")
    box.arrived.append(GAP)
    for first in (1, 5, 9):
        assert box.offer(batch(first, 4))
    assert box.dropped == [(SENDER, "a", 4)]
    assert [item if isinstance(item, Gap) else item.first for item in box.arrived] == [GAP, 5, 9]
    assert box.messages == 8


def test_only_the_newest_of_each_topic_is_kept() -> None:
    box = inbox("latest")
    for offered in (batch(1, 3), batch(1, 2, "b"), batch(4, 2)):
        assert box.offer(offered)
    kept = [item for item in box.arrived if isinstance(item, Batch)]
    assert [(item.topic, item.first + item.skip, item.live) for item in kept] == [("b", 2, 1), ("a", 5, 1)]
    assert sorted(box.dropped) == [(SENDER, "a", 1), (SENDER, "a", 1), (SENDER, "a", 2), (SENDER, "b", 1)]
    assert box.messages == 2


def test_what_was_taken_is_not_replaced_and_not_remembered() -> None:
    box = inbox("latest")
    box.offer(batch(1, 1))
    taken = take(box)
    box.offer(batch(2, 1))
    assert box.dropped == []
    assert box.settle_taken() == [taken]
    assert box.messages == 1
    take(box)
    box.settle_taken()
    assert box._newest == {}


def test_a_batch_that_a_caller_is_just_taking_is_counted_later() -> None:
    box = inbox("wait")
    box.offer(batch(1, 3))
    box.taken.append(box.arrived.popleft())  # and was interrupted before it made it the one handed out
    assert box.settle_taken() == []
    assert box.messages == 3
    box.handing = Handing(box.taken[-1], range(3))
    assert len(box.settle_taken()) == 1
    assert (box.messages, box.queued) == (0, 3)
