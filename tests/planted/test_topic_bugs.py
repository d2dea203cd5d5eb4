"""Planted bugs of topic streams are found: what their tests promise is tested by breaking it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tests.planted.topic_bugs import garden
from tests.planting import DEADLINE, Search

AT_ONCE = 2  # processes


@pytest.fixture(scope="module")
def searches() -> Iterator[dict[str, Future[Search]]]:
    """All of them, begun at once; a second or two each."""
    yield from garden.searches(garden.faults, AT_ONCE)


@pytest.mark.parametrize("name", garden.faults)
def test_a_planted_bug_of_topic_streams_is_found(name: str, searches: dict[str, Future[Search]]) -> None:
    search = searches[name].result(len(garden.faults) * DEADLINE)
    assert search.found, f"{search.row}\n{search.said}"


def test_there_are_enough_of_them() -> None:
    assert len(garden.faults) >= 6
