"""Planted holes are found: what keeps strangers out is tested by taking it away."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.security.holes import DEADLINE, FOUND, HOLES, find

AT_ONCE = 4  # processes; they wait more than they work

Search = Future["subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def searches() -> Iterator[dict[str, Search]]:
    """All of them, begun at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(find, name) for name in HOLES}


@pytest.mark.parametrize("name", HOLES)
def test_a_planted_hole_is_found(name: str, searches: dict[str, Search]) -> None:
    ended = searches[name].result(DEADLINE)
    assert ended.returncode == FOUND, ended.stdout + ended.stderr
    assert "1 failed" in ended.stdout


def test_there_are_enough_of_them() -> None:
    assert len(HOLES) >= 8
