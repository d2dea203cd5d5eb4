"""Planted holes are found: what keeps strangers out is tested by taking it away."""

from __future__ import annotations

import pytest

from tests.security.holes import FOUND, HOLES, find


@pytest.mark.parametrize("name", HOLES)
def test_a_planted_hole_is_found(name: str) -> None:
    ended = find(name)
    assert ended.returncode == FOUND, ended.stdout + ended.stderr
    assert "1 failed" in ended.stdout


def test_there_are_enough_of_them() -> None:
    assert len(HOLES) >= 8
