"""Planted bugs are found: what is tested by the simulator and the core's tests is tested by breaking it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tests.planted.bugs import garden
from tests.planting import DEADLINE, KINDS, Search

AT_ONCE = 2  # processes; they do nothing but compute
SLOW = {
    "heads_are_not_repeated",
    "a_fence_whose_answer_was_lost_is_not_set_again",
    "a_nack_lets_go_of_the_key",
    "an_outbox_confirms_what_the_disk_has_not_synced",
    "what_a_disk_had_no_room_for_is_given_up_in_silence",
}  # take more than a few seeds
PLAYED = [fault.name for fault in garden.faults.values() if fault.found_by in KINDS]
QUICK = [name for name in PLAYED if name not in SLOW]

Searches = dict[str, Future[Search]]


@pytest.fixture(scope="module")
def searches() -> Iterator[Searches]:
    """All of them, begun at once."""
    yield from garden.searches(QUICK, AT_ONCE)


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found(name: str, searches: Searches) -> None:
    search = searches[name].result(len(QUICK) * DEADLINE)
    assert search.found, f"{search.row}\n{search.said}"


def test_there_are_enough_of_them() -> None:
    assert len(garden.faults) >= 20
    assert len(QUICK) >= 10
