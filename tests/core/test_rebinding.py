"""Bindings that a spool keeps for services that are away."""

from __future__ import annotations

from itertools import count

from zq.core.rebinding import TELL_UNBOUND, Filters, Rebinding
from zq.core.timers import Timers
from zq.wire.frames import Binding, Entry

NONCE = b"n" * 8
SERVICE, REPLICA, OTHER = b"S" * 16, b"R" * 16, b"O" * 16
PULLER = b"p" * 16


class Scene:
    def __init__(self, filters: Filters = ()) -> None:
        self.timers = Timers()
        self.saved: list[Filters] = []
        self.numbers = count(1)
        self.rebinding = Rebinding(self.timers, lambda size: next(self.numbers).to_bytes(size, "big"), lambda: None)
        self.rebinding.open("mailer", filters, self.saved.append, 0.0)

    def entry(
        self, peer: bytes, *filters: str, now: float = 0.0, pulls: bool = True, unbinds: tuple[str, ...] = ()
    ) -> None:
        rows: list[list[object]] = [["mailer", PULLER]] if pulls else []
        binds: list[list[object]] = [["mailer", PULLER, list(filters)]] if filters else []
        self.rebinding.on_entry(peer, Entry(1, NONCE, [], [], [], rows, [], binds, list(unbinds)), now)

    def bound(self) -> list[object]:
        return [row[2] for row in self.rebinding.binds()]


def test_what_its_pullers_name_is_announced_and_written_down_and_stays_without_them() -> None:
    scene = Scene()
    assert scene.bound() == []
    scene.entry(SERVICE, "b/*", "a/**")
    assert scene.bound() == [["a/**", "b/*"]]
    scene.rebinding.on_gone(SERVICE, 1.0)
    assert scene.bound() == [["a/**", "b/*"]]
    assert scene.saved == [("a/**", "b/*")]
    assert Scene(scene.saved[-1]).bound() == [["a/**", "b/*"]]


def test_those_who_are_there_are_united_and_those_who_come_later_with_others_replace_them() -> None:
    scene = Scene()
    scene.entry(SERVICE, "a")
    scene.entry(REPLICA, "b")
    assert scene.bound() == [["a", "b"]]
    scene.rebinding.on_gone(SERVICE, 1.0)
    assert scene.bound() == [["b"]]
    scene.rebinding.on_gone(REPLICA, 2.0)
    scene.entry(OTHER, "c", now=3.0)
    assert scene.bound() == [["c"]]


def test_who_only_announces_for_others_binds_nothing() -> None:
    """Two spools of a queue would keep each other bound for ever."""
    scene = Scene()
    scene.entry(OTHER, "a", pulls=False)
    assert scene.bound() == []
    assert scene.saved == []


def test_another_set_of_filters_is_another_binding_which_says_when_it_came_into_being() -> None:
    scene = Scene()
    scene.entry(SERVICE, "a", now=10.0)
    [[_, first, _]] = scene.rebinding.binds()
    assert isinstance(first, bytes)
    answer = scene.rebinding.on_binding(Binding("mailer", first, 1_000.0), 12.5)
    assert answer is not None
    assert answer.clock == 997.5
    scene.entry(SERVICE, "b", now=20.0)
    [[_, second, _]] = scene.rebinding.binds()
    assert second != first
    assert scene.rebinding.on_binding(Binding("mailer", first, 1_000.0), 21.0) is None
    assert scene.rebinding.on_binding(Binding("other", first, 1_000.0), 21.0) is None


def test_unbind_is_told_for_a_while_and_only_heeded_when_nobody_binds() -> None:
    scene = Scene()
    scene.entry(SERVICE, "a")
    scene.entry(REPLICA, "a")
    scene.entry(SERVICE, now=1.0, unbinds=("mailer",))
    assert scene.bound() == [["a"]]
    scene.entry(REPLICA, now=2.0, unbinds=("mailer",))
    assert scene.bound() == []
    assert scene.saved[-1] == ()
    assert scene.rebinding.unbinds() == ["mailer"]
    for due in scene.timers.due(2.0 + TELL_UNBOUND):
        due(2.0 + TELL_UNBOUND)
    assert scene.rebinding.unbinds() == []


def test_a_queue_that_is_bound_anew_is_told_to_be_unbound_no_more() -> None:
    scene = Scene(("a",))
    scene.entry(SERVICE, unbinds=("mailer",))
    assert scene.rebinding.unbinds() == ["mailer"]
    scene.entry(SERVICE, "b", now=1.0)
    assert (scene.bound(), scene.rebinding.unbinds()) == ([["b"]], [])
