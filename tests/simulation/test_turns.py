"""Whether a turn is due is known beforehand: one of which nobody knew that it was does nothing.

An engine that has read frames skips a node's turn unless a timer is due, a program has left or asked for something, or
the node `has_rest`. So whatever comes in, if none of that is so, the turn that the simulated peer has all the same must
neither send nor call anybody nor set an earlier timer.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.simulation import mixed, spooled
from zq.core.node import Node
from zq.testing import SimulatedPeer, network

SEEDS = 20
ACTS = ("dial", "send", "hang_up", "subscribe", "publish")


class Watched:
    """All nodes and peers of the worlds that are played meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.turns: Counter[str] = Counter()
        self._acts = 0
        self._asked: set[SimulatedPeer] = set()  # by their programs, since their last turn
        for name in ACTS:
            monkeypatch.setattr(SimulatedPeer, name, self._counted(getattr(SimulatedPeer, name)))
        deliver, touch, turn = SimulatedPeer.deliver, SimulatedPeer.touch, SimulatedPeer._turn
        delivered: set[SimulatedPeer] = set()

        def watched_deliver(peer: SimulatedPeer, event: Callable[[], None]) -> None:
            of_carrier = sys._getframe(1).f_globals["__name__"] == network.__name__

            def happen() -> None:
                event()  # what a program does in it counts as asked, and a disk asks for a turn when it is done
                if of_carrier:
                    delivered.add(peer)

            deliver(peer, happen)

        def watched_touch(peer: SimulatedPeer, *streams: Any) -> None:
            if peer in delivered:
                delivered.discard(peer)
            elif not streams:
                self._asked.add(peer)
            touch(peer, *streams)

        def watched_turn(peer: SimulatedPeer, now: float) -> None:
            asked = peer in self._asked or bool(peer._touched)
            self._asked.discard(peer)
            node = peer.node
            if asked or now >= node.timers.soonest or node.has_rest():
                self.turns["due"] += 1
                turn(peer, now)
                return
            self.turns["skipped"] += 1
            before, due = self._acts, node.timers.next()
            whole = Node.turn(node, now, peer.wall())
            assert self._acts == before, f"a turn of {peer.name} did something that nobody knew to be due"
            assert whole == due, f"a turn of {peer.name} set a timer that nobody knew to be due"
            turn(peer, now)

        monkeypatch.setattr(SimulatedPeer, "deliver", watched_deliver)
        monkeypatch.setattr(SimulatedPeer, "touch", watched_touch)
        monkeypatch.setattr(SimulatedPeer, "_turn", watched_turn)

    def _counted(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def counted(peer: SimulatedPeer, *arguments: Any) -> Any:
            self._acts += 1
            return act(peer, *arguments)

        return counted


@pytest.mark.parametrize("world", [mixed, spooled], ids=["mixed", "spooled"])
def test_a_turn_that_is_skipped_would_have_done_nothing(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    for seed in range(SEEDS):
        world.play(seed)
    assert watched.turns["skipped"] > 100
