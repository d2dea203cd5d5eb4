"""Planted holes are found: what keeps strangers out is tested by taking it away."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tests.planting import DEADLINE, Search
from tests.security.holes import garden

AT_ONCE = 4  # processes; they wait more than they work

Searches = dict[str, Future[Search]]


@pytest.fixture(scope="module")
def searches() -> Iterator[Searches]:
    """All of them, begun at once."""
    yield from garden.searches(garden.faults, AT_ONCE)


@pytest.mark.parametrize("name", garden.faults)
def test_a_planted_hole_is_found(name: str, searches: Searches) -> None:
    search = searches[name].result(DEADLINE)
    assert search.found, f"{search.row}\n{search.said}"


def test_there_are_enough_of_them() -> None:
    assert len(garden.faults) >= 8
