"""Bound queues in the simulation: what they are owed, as seen from outside, and programs that bind and are restarted.

A queue is owed what was published after a puller that binds it came into being, at every publisher that has come to
know of it; with small rings only from the moment on at which the publisher knew. When a publisher has come to know is
the one thing that is looked up inside.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.programs import FILTERS, WORKERS, Puller
from zq.testing import SimulatedPeer
from zq.wire.names import Filter

if TYPE_CHECKING:
    from tests.simulation.world import World

BOUND_QUEUES = ("mail", "audit")  # to the first one pushers push as well


class BoundPuller(Puller):
    """A puller that binds its queue to topics."""

    def __init__(self, world: World, peer: SimulatedPeer, queue: str, texts: list[str], behaviour: str) -> None:
        self.texts = texts
        super().__init__(world, peer, queue, behaviour, [Filter(text) for text in texts])

    def restart(self) -> None:
        """Closed, and another one in its place."""
        self.close()
        world, peer = self.world, self.peer

        def again() -> None:
            if peer.alive and peer.stopped_at is None and peer not in world.leaving:
                world.programs.append(BoundPuller(world, peer, self.queue, self.texts, "fast"))

        world.network.after(self.random.choice((0.0, 0.01, 0.3, 2.0)) * self.random.random(), again)


def bind(world: World, peer: SimulatedPeer) -> None:
    """A program that binds a queue, perhaps to other topics than those that do so already."""
    draw = world.random
    queue = draw.choice(BOUND_QUEUES)
    same = [each.texts for each in world.programs if isinstance(each, BoundPuller) and each.queue == queue]
    texts = draw.choice(same) if same and draw.random() < 0.7 else draw.sample(FILTERS, draw.choice((1, 1, 2)))
    world.programs.append(BoundPuller(world, peer, queue, texts, draw.choice((*WORKERS, "moody", "moody"))))


def roll(world: World) -> None:
    """A rolling restart of all replicas of a service."""
    queue = world.random.choice(BOUND_QUEUES)
    at = 0.0
    for program in world.programs:
        if isinstance(program, BoundPuller) and program.queue == queue and not program.worker.closed:
            at += world.random.choice((0.0, 0.05, 0.5))
            world.network.after(at, partial(_restart, world, program))


def _restart(world: World, program: BoundPuller) -> None:
    peer = program.peer
    if not world.is_quiet and peer.alive and peer.stopped_at is None and not program.worker.closed:
        program.restart()


def look(world: World, publisher: SimulatedPeer) -> None:
    """Tells the oracle which bindings `publisher` knows of."""
    for binding in publisher.node.bindings._bindings.values():
        for peer, puller in binding.bonds:
            bond = binding.bonds[peer, puller]
            for worker in world.oracle.workers:
                if worker.id == puller and worker.peer is world.named(peer):
                    world.oracle.known_at(publisher, worker, world.network.now, answered=not bond.asked)
