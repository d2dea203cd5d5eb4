"""Asking spools: answered once each, whatever is lost, repeated or late, and done once however often it is asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from zq.core.inspection import KEPT, LARGE, PAGE, Found
from zq.testing import SimulatedNetwork, SimulatedPeer, Weather
from zq.wire.frames import EMPTY, STREAMS, VERIFY, Findings, Inspect

SEEDS = 20


class Looking:
    """A spool that answers after a while, `seconds` later, and says how far it is meanwhile."""

    def __init__(self, peer: SimulatedPeer, name: str, seconds: float) -> None:
        self.peer = peer
        self.name = name
        self.seconds = seconds
        self.asked: list[Inspect] = []
        self.rows: list[dict[str, object]] = [{"name": name}]

    def begin(self, question: Inspect, done: Callable[[Found], None]) -> None:
        self.asked.append(question)
        found = Found(self.rows, count=7, next=3)
        self.peer.network.after(self.seconds, lambda: self.peer.deliver(lambda: done(found)))

    def progress(self, question: Inspect) -> tuple[int, int]:
        return 5, 10


class Scene:
    def __init__(self, seed: int, weather: Weather | None = None) -> None:
        self.network = SimulatedNetwork(seed, weather)
        self.asker = self.network.peer("asker")
        self.holders = [self.network.peer(f"holder {number}") for number in range(3)]
        self._discover()
        assert self.network.run(30.0, lambda: self.asker.node.has_up(3))

    def _discover(self) -> None:
        self.network.introduce()
        self.network.after(0.5, self._discover)

    def look(self, holder: int, seconds: float) -> Looking:
        look = Looking(self.holders[holder], f"{holder}", seconds)
        self.holders[holder].node.inspected.add(look)
        return look

    def ask(self, action: int) -> object:
        node = self.asker.node
        inspection = node.inspect(lambda request: Inspect(request, action, "", "", 1, 1, False), [], node.now)
        self.asker.touch()
        return inspection


@pytest.mark.parametrize("seed", range(SEEDS))
def test_everybody_answers_once_and_looks_once_whatever_is_lost(seed: int) -> None:
    scene = Scene(seed, Weather(mailbox_loss=0.2, mailbox_repeat=0.3, mailbox_late=0.3))
    looks = [scene.look(0, 0.0), scene.look(0, 2.0), scene.look(1, 1.0)]
    inspection = scene.ask(EMPTY)
    assert scene.network.run(60.0, lambda: inspection.complete)  # type: ignore[attr-defined]
    answers = dict(inspection.found)  # type: ignore[attr-defined]
    assert len(answers) == len(inspection.found) == 4  # type: ignore[attr-defined]
    assert [row["name"] for row in answers[scene.holders[0].node.card.id].rows] == ["0", "0"]
    assert answers[scene.holders[0].node.card.id].count == 14
    assert answers[scene.holders[2].node.card.id].rows == []
    assert [len(look.asked) for look in looks] == [1, 1, 1]
    assert inspection.gone == []  # type: ignore[attr-defined]


def test_who_is_still_looking_says_how_far_it_is() -> None:
    scene = Scene(1)
    scene.look(0, 5.0)
    scene.look(0, 5.0)
    inspection = scene.ask(VERIFY)
    holder = scene.holders[0].node.card.id
    assert scene.network.run(3.0, lambda: inspection.progress)  # type: ignore[attr-defined]
    assert inspection.progress == {holder: (10, 20)}  # type: ignore[attr-defined]
    assert not inspection.complete  # type: ignore[attr-defined]
    assert scene.network.run(5.0, lambda: inspection.complete)  # type: ignore[attr-defined]


def test_who_leaves_meanwhile_is_named() -> None:
    scene = Scene(1)
    scene.look(0, 1_000.0)
    inspection = scene.ask(STREAMS)
    scene.network.run(1.0)
    scene.network.kill(scene.holders[0])
    assert scene.network.run(20.0, lambda: inspection.complete)  # type: ignore[attr-defined]
    assert inspection.gone == [scene.holders[0].node.card.id]  # type: ignore[attr-defined]


def test_questions_that_are_never_answered_are_bounded() -> None:
    scene = Scene(1)
    look = scene.look(0, 1_000.0)
    for _ in range(KEPT + 10):
        scene.ask(STREAMS)
    scene.network.run(3.0)
    assert len(look.asked) == KEPT


@pytest.mark.parametrize("seed", range(SEEDS))
def test_an_answer_of_many_pages_comes_whole_and_in_order_whatever_is_lost(seed: int) -> None:
    scene = Scene(seed, Weather(mailbox_loss=0.2, mailbox_repeat=0.3, mailbox_late=0.3))
    looks = [scene.look(0, 1.0), scene.look(0, 0.0)]
    for look in looks:
        look.rows = [{"name": look.name, "number": number, "text": b"x" * 1_000} for number in range(2_000)]
    inspection = scene.ask(STREAMS)
    assert scene.network.run(120.0, lambda: inspection.complete)  # type: ignore[attr-defined]
    holder = scene.holders[0].node.card.id
    told = [found for peer, found in inspection.found if peer == holder]  # type: ignore[attr-defined]
    assert [found.page for found in told] == list(range(1, told[0].pages + 1))
    assert told[0].pages > 5
    assert [row["number"] for found in told for row in found.rows] == [*range(2_000), *range(2_000)]
    assert sum(found.count for found in told) == 14
    assert [len(look.asked) for look in looks] == [1, 1]


def test_of_an_answer_that_is_not_kept_any_more_the_rest_is_said_to_be_missing() -> None:
    scene = Scene(1)
    look = scene.look(0, 0.0)
    look.rows = [{"text": b"x" * (PAGE // 2)} for number in range(6)]
    holder = scene.holders[0].node
    for request in range(1, LARGE + 2):
        holder.inspected.on_inspect(scene.asker.node.card.id, Inspect(request, STREAMS, "", "", 1, 1, False))
    assert scene.network.run(1.0, lambda: len(look.asked) > LARGE)
    scene.network.run(1.0)
    sent: list[Findings] = []
    holder.inspected._send = lambda peer, findings: sent.append(findings)
    for request in (1, LARGE + 1):
        holder.inspected.on_inspect(scene.asker.node.card.id, Inspect(request, STREAMS, "", "", 1, 1, False, 2))
    assert [(one.page, one.pages, len(one.rows)) for one in sent] == [(2, 2, 0), (2, 6, 1)]
    assert "ask again" in sent[0].problem
    assert len(look.asked) == LARGE + 1
