"""The pytest fixture `zq_network`. A project turns it on with `pytest_plugins = ["zq.testing.plugin"]`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from zq.testing.realm import Network


@pytest.fixture
def zq_network(request: pytest.FixtureRequest) -> Iterator[Network]:
    """An open `zq.testing.Network`, closed after the test. Its seed is 0, or what the test is parametrised with:
    `@pytest.mark.parametrize("zq_network", range(100), indirect=True)`."""
    seed: Any = getattr(request, "param", 0)
    with Network(seed) as network:
        yield network
        for peer in network.peers:
            assert not peer.alive or peer.ledger().balanced, f"a bug of zq: the ledger of {peer.name} does not balance"
