"""Several publishers that are each a window ahead of one subscriber: none of them has to send anything twice."""

from __future__ import annotations

from typing import Any

import pytest

from zq.core import inbox, topics
from zq.core.topics import Topics
from zq.testing import Network

PUBLISHERS, WINDOW = 8, 8


def test_what_several_publishers_send_within_their_windows_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(topics, "WINDOW", WINDOW)
    monkeypatch.setattr(inbox, "INBOX_MESSAGES", 2 * WINDOW)
    asked: list[Any] = []
    refill = Topics.refill
    monkeypatch.setattr(Topics, "refill", lambda own, peer, repair: asked.append(repair) or refill(own, peer, repair))
    with Network(seed=3) as network:
        reader = network.peer("reader")
        subscriber = reader.subscriber("news")
        publishers = [network.peer(f"source-{number}").publisher("news") for number in range(PUBLISHERS)]
        for publisher in publishers:
            publisher.wait_for_subscribers()
        network.run(1.0)  # until their feeds have been heard of as well
        for publisher in publishers:
            publisher.send_many(range(WINDOW))
        network.run(0.1)
        data = [subscriber.receive(timeout=1).data for _ in range(PUBLISHERS * WINDOW)]
        assert sorted(data) == sorted(list(range(WINDOW)) * PUBLISHERS)
    assert asked == []
