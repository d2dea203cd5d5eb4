"""The last numbers of publishers' topics: bounded, and nothing is forgotten that would be asked for again."""

from __future__ import annotations

import pytest

from zq.core import heads as module
from zq.core.heads import LATE, Heads

A, B = (b"a" * 16, "t/a"), (b"b" * 16, "t/b")


def test_a_clear_is_remembered_until_all_up_to_there_is_stored_and_nothing_is_retained() -> None:
    heads = Heads({A: 3}, 0.0)
    assert heads.clear(A, 5)
    assert not heads.clear(A, 5)
    assert (heads.is_cleared(A, 5), heads.is_cleared(A, 6), heads.is_cleared(B, 5)) == (True, False, False)
    heads.settle_clear(A)
    assert heads.is_cleared(A, 5)  # what has number 5 may still come
    heads.note(A, 5, 1.0)
    heads.settle_clear(A)
    assert (heads.is_cleared(A, 5), heads.clears) == (False, 0)


def test_clears_are_bounded_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    heads = Heads({}, 0.0)
    for number in range(10):
        heads.clear((b"p" * 16, f"t/{number}"), 1)
    assert heads.clears == 3
    assert heads.is_cleared((b"p" * 16, "t/9"), 1)
    assert not heads.is_cleared((b"p" * 16, "t/0"), 1)


def test_rows_go_that_are_old_enough_and_others_only_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    monkeypatch.setattr(module, "LIMIT", 6)
    heads = Heads({(b"f" * 16, "t/found"): 1}, 100.0)
    for number in range(5):
        heads.note((b"p" * 16, f"t/{number}"), 1, 100.0 + number)
    assert (len(heads), heads.doubled) == (6, 0)
    heads.note(A, 1, 102.5 + LATE)
    assert len(heads) == 3  # A, and those that came at 103 and 104
    assert heads.doubled == 0
    assert set(heads.numbers()) == {A, (b"p" * 16, "t/3"), (b"p" * 16, "t/4")}
    for number in range(10):
        heads.note((b"q" * 16, f"t/{number}"), 1, 102.5 + LATE)
    assert (len(heads), heads.doubled) == (6, 7)
