"""How far a topic goes ahead of those who follow it."""

from __future__ import annotations

import pytest

from zq.core import topics as module
from zq.core.timers import Timers
from zq.core.topics import Origin, Topic, Topics
from zq.wire.frames import Entry, Seen

ME, OTHER = b"m" * 16, b"o" * 16
WINDOW_BYTES = 1_000


class Publishing:
    """One topic, followed by one peer that waits; its window and the ring have 1,000 bytes each."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.topics = Topics(Origin(ME), self.timers, lambda frame: None, lambda frame: None)
        self.topic: Topic = self.topics.open("a", retain=False, patience=60.0)
        self.topics.on_entry(OTHER, Entry(1, bytes(8), [["a", -1.0, 1]], [], [], [], [], []), 0.0)

    def leave(self, *sizes: int) -> None:
        self.topic.outgoing.items.extend(bytes(size) for size in sizes)

    def take(self) -> int:
        self.topics.take(self.topic, 0.0, 0.0)
        return self.topic.head

    def taken(self, number: int) -> int:
        self.topics.on_seen(OTHER, Seen([["a", number, number]]))
        return self.take()


@pytest.fixture
def publishing(monkeypatch: pytest.MonkeyPatch) -> Publishing:
    monkeypatch.setattr(module, "WINDOW_BYTES", WINDOW_BYTES)
    monkeypatch.setattr(module, "RING_BYTES", WINDOW_BYTES)
    return Publishing()


def test_what_a_waiting_follower_has_not_taken_stays_in_the_ring(publishing: Publishing) -> None:
    """However much callers leave at once: it may have got nothing yet, and asks for all of it later."""
    publishing.leave(*[300] * 30)
    assert publishing.take() == 3
    for number in range(1, 31):
        head = publishing.taken(number)
        assert publishing.topic.track.oldest <= number + (number < 30)
        assert number <= head <= number + 3
    assert head == 30


def test_a_message_larger_than_the_window_passes_alone(publishing: Publishing) -> None:
    publishing.leave(100, 5_000, 100, 5_000)
    assert publishing.take() == 1
    assert publishing.taken(1) == 2
    assert publishing.taken(2) == 3
    assert publishing.taken(3) == 4
