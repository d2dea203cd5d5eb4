"""LANs and processes on their hosts, all of which end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.lan.hosts import Neighbour
from tests.lan.lan import Lan, why_not

MakeLan = Callable[..., Lan]
Settle = Callable[..., Neighbour]  # settle(lan, host, **options): a peer goes to live there

OPEN = {"realm": "lan", "insecure": True}  # every test has a network of its own


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Skips where there can be no LAN."""
    if missing := why_not():
        pytest.skip(missing)


@pytest.fixture
def make_lan(namespaces: None) -> Iterator[MakeLan]:
    """Makes a LAN of so many hosts."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Lan(*arguments, **options))


@pytest.fixture
def settle(make_lan: MakeLan) -> Iterator[Settle]:
    """Starts a peer on a host; `options` are those of zq.Peer."""
    started: list[Neighbour] = []

    def settle_one(lan: Lan, host: int, **options: Any) -> Neighbour:
        started.append(Neighbour(lan, host, OPEN | options))
        return started[-1]

    yield settle_one
    for neighbour in started:
        neighbour.end()
