"""Everything at once: peers push, pull, publish, subscribe, bind, ask and answer in one realm, under all faults."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.simulation import requests, world
from tests.simulation.requests import RequestWorld
from tests.simulation.world import Role, World


class MixedWorld(RequestWorld):
    """Requests share mailboxes, work connections and peers with queues and topics; some queues are bound to topics."""

    def __init__(self, seed: int, *, small_rings: bool, trace: Callable[[str], None] | None = None) -> None:
        super().__init__(seed, small_rings=small_rings, trace=trace)
        self._binds = True

    def roles(self) -> list[Role]:
        return [*World.roles(self), *super().roles()]

    def more_roles(self) -> list[Role]:
        return [*World.more_roles(self), *super().more_roles()]

    def _check_end(self) -> None:
        self.check_requests()
        World._check_end(self)


def play(seed: int, trace: Callable[[str], None] | None = None) -> MixedWorld:
    """Runs one seed."""
    with (
        world.limits(random.Random(f"limits {seed}")) as small_rings,
        requests.limits(random.Random(f"request limits {seed}")),
    ):
        realm = MixedWorld(seed, small_rings=small_rings, trace=trace)
        realm.run()
        return realm
