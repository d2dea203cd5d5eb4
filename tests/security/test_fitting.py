"""Which of two keys an endpoint is dialled with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from zq.security import fitting
from zq.security.fitting import Fitting
from zq.security.lock import Lock

HERE, BESIDE, ELSEWHERE = "tcp://10.0.0.1:20000", "tcp://10.0.0.1:20001", "tcp://10.0.0.2:20000"


def of(keys: int = 2, own: int = 1) -> Fitting:
    return Fitting(cast(Lock, SimpleNamespace(keys=keys, own=own)))


def test_with_one_key_there_is_nothing_to_choose() -> None:
    assert not of(keys=1, own=0)
    assert of()


def test_nobody_known_is_dialled_with_the_key_that_we_listen_with() -> None:
    assert of(own=0).likely(HERE) == 0
    assert of(own=1).likely(HERE) == 1


def test_a_key_that_does_not_fit_is_followed_by_the_other_there_only() -> None:
    choice = of()
    assert choice.does_not(HERE, 1) == 0
    assert [choice.likely(each) for each in (HERE, BESIDE, ELSEWHERE)] == [0, 1, 1]
    assert choice.does_not(HERE, 0) == 1


def test_a_key_that_fits_is_tried_first_at_all_of_that_host() -> None:
    choice = of()
    choice.fits(HERE, 0)
    assert [choice.likely(each) for each in (HERE, BESIDE, ELSEWHERE)] == [0, 0, 1]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "ENDPOINTS", 4)
    choice = of()
    for number in range(10):
        choice.fits(f"tcp://10.0.0.{number}:20000", 0)
    assert len(choice._known) == 4
