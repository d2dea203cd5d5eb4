"""File descriptors are counted, the sooner the fewer are left, and some are kept in reserve."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from zq.engine import descriptors
from zq.engine.descriptors import LATEST, OF_A_PEER, SOONEST, Descriptors


class Counted:
    """As many names as are said to be open."""

    def __init__(self) -> None:
        self.open = 0
        self.looks = 0
        self.why = errno.EMFILE  # less than none are open

    def __call__(self, path: str) -> Iterator[None]:
        self.looks += 1
        if self.open < 0:
            raise OSError(self.why, os.strerror(self.why))
        return iter([None] * self.open)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr(os, "scandir", counted)
    monkeypatch.setattr(descriptors, "raise_limit", lambda: 1_000)
    return counted


def test_some_are_kept_in_reserve_and_it_takes_more_to_go_on(counted: Counted) -> None:
    mine, now = Descriptors(), 0.0
    for free, scarce in ((300, False), (250, True), (300, True), (390, False), (300, False)):
        counted.open = 1_000 - free
        now += LATEST
        mine.look(now)
        assert mine.scarce == scarce, free


def test_who_dials_many_at_once_is_stopped_before_they_are_counted_again(counted: Counted) -> None:
    counted.open = 1_000 - descriptors.RESERVE - 5 * OF_A_PEER
    mine = Descriptors()
    assert [mine.can_afford_a_peer() for _ in range(7)] == [True] * 5 + [False] * 2


def test_they_are_counted_the_sooner_the_fewer_are_free(counted: Counted) -> None:
    mine = Descriptors()
    plenty = counted.looks
    mine.look(SOONEST)
    assert counted.looks == plenty
    counted.open = 700
    mine.look(LATEST)
    few = counted.looks
    mine.look(LATEST + 0.1)
    assert counted.looks == few + 1


def test_where_not_even_a_listing_can_be_had_none_is_left(counted: Counted) -> None:
    counted.open = -1
    assert Descriptors().scarce


@pytest.mark.parametrize("why", [errno.ENOENT, errno.EACCES])
def test_where_they_may_not_be_listed_nobody_is_shut_out(counted: Counted, why: int) -> None:
    """In a sandbox, for example."""
    counted.open, counted.why = -1, why
    mine = Descriptors()
    assert not mine.scarce
    assert all(mine.can_afford_a_peer() for _ in range(10_000))


def test_where_nobody_says_how_many_there_are_all_may_be_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "raise_limit", lambda: 0)
    mine = Descriptors()
    assert all(mine.can_afford_a_peer() for _ in range(10_000))
