"""A publisher falls silent while messages of its are missing: they come if it is back, and are a Gap if it is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.core.test_hearing import more, two_peers
from tests.core.test_node import Reader
from zq.core.absent import ABSENT_FOR
from zq.core.port import Kind
from zq.core.topics import Topic
from zq.info import Gap
from zq.testing import SimulatedNetwork, SimulatedPeer

GONE = 8.0  # s until a silent peer is


class Scene:
    """One who publishes 1, 2, 3 and 4; one who has had 1 and 4, and asks for 2 and 3."""

    def __init__(self, network: SimulatedNetwork) -> None:
        self.network = network
        self.publisher, self.subscriber = two_peers(network)
        self.reader = Reader(self.subscriber)
        self.topic: Topic = self.publisher.node.publish_topic("t", retain=False, patience=1.0)
        more(self.publisher, self.topic, b"1")
        self.until(lambda: self.reader.look() == [b"1"])
        (feed,) = (each for each in network.connections() if each.kind is Kind.FEED and each.dialler is self.subscriber)
        network.reset(feed)
        more(self.publisher, self.topic, b"2", b"3")
        self.until(lambda: self.held() is not None and feed.up)
        more(self.publisher, self.topic, b"4")
        self.until(lambda: self.held() == 1)

    def part(self) -> None:
        """Until each takes the other for gone."""
        self.network.sever(self.publisher, self.subscriber)
        self.until(lambda: self.subscriber.node.receptions.absent.get(self.publisher.id) is not None)
        assert self.reader.look() == [b"1"]

    def held(self) -> int | None:
        """Batches that came too early; None before anything is missing."""
        receptions = self.subscriber.node.receptions
        reception = receptions._receptions.get(self.publisher.id)
        topic = reception.topics.get("t") if reception else None
        return len(topic.held) if topic is not None and topic.has_hole else None

    def until(self, happened: Callable[[], bool], within: float = GONE) -> None:
        assert self.network.run(within, until=happened)

    def gaps(self) -> list[tuple[int, int | None]]:
        return [(item.first, item.last) for item in self.reader.look() if isinstance(item, Gap)]


@pytest.fixture
def scene() -> Scene:
    return Scene(SimulatedNetwork(seed=5))


def row(peer: SimulatedPeer) -> tuple[int, int, int, int]:
    (row,) = peer.node.ledger(peer.clock()).subscribed
    return row.expected, row.delivered, row.repairing, row.gap


def test_what_was_missing_comes_when_it_is_back(scene: Scene) -> None:
    scene.part()
    scene.network.run(ABSENT_FOR / 2)
    assert scene.reader.look() == [b"1"]
    scene.network.heal(scene.publisher, scene.subscriber)
    scene.until(lambda: scene.reader.look() == [b"1", b"2", b"3", b"4"])
    more(scene.publisher, scene.topic, b"5")
    scene.until(lambda: scene.reader.look()[4:] == [b"5"])
    assert row(scene.subscriber) == (5, 5, 0, 0)
    scene.network.run(2 * ABSENT_FOR)  # nobody is waited for any more
    more(scene.publisher, scene.topic, b"6")
    scene.until(lambda: scene.reader.look()[5:] == [b"6"])


def test_what_came_too_early_is_still_there_when_it_is_back(scene: Scene) -> None:
    """Although its publisher has nothing but the newest any more."""
    scene.part()
    more(scene.publisher, scene.topic, b"5")
    track = scene.topic.track
    scene.until(lambda: scene.topic.head == 5)
    while len(track.frames) > 1:
        track.drop_oldest()
    scene.network.heal(scene.publisher, scene.subscriber)
    scene.until(lambda: len(scene.reader.look()) == 4)
    assert scene.gaps() == [(2, 3)]
    assert scene.reader.look()[2:] == [b"4", b"5"]


def test_what_was_missing_is_a_gap_when_it_stays_away(scene: Scene) -> None:
    scene.part()
    assert row(scene.subscriber) == (4, 1, 3, 0)
    scene.until(lambda: len(scene.reader.look()) == 4, ABSENT_FOR + GONE)
    assert scene.gaps() == [(2, 3), (5, None)]
    assert scene.reader.look()[2] == b"4"
    assert row(scene.subscriber) == (4, 2, 0, 2)
    scene.network.heal(scene.publisher, scene.subscriber)
    more(scene.publisher, scene.topic, b"5")
    scene.until(lambda: scene.reader.look()[4:] == [b"5"], 60.0)


def test_who_is_killed_is_not_waited_for(scene: Scene) -> None:
    scene.network.kill(scene.publisher)
    scene.until(lambda: scene.gaps() == [(2, 3), (5, None)])
    assert scene.reader.look()[2] == b"4"


def test_who_subscribes_meanwhile_has_it_from_then_on(scene: Scene) -> None:
    scene.part()
    late = Reader(scene.subscriber)
    scene.network.run(1.0)
    scene.network.heal(scene.publisher, scene.subscriber)
    scene.until(lambda: scene.reader.look() == [b"1", b"2", b"3", b"4"])
    more(scene.publisher, scene.topic, b"5")
    scene.until(lambda: scene.reader.look()[4:] == [b"5"] and late.look() == [b"5"])


def test_who_unsubscribes_meanwhile_hears_of_nothing(scene: Scene) -> None:
    scene.part()
    scene.subscriber.node.unsubscribe(scene.reader.core, scene.subscriber.clock())
    scene.network.run(ABSENT_FOR + GONE)
    assert scene.reader.look() == [b"1"]
