"""zq.Dedup: what was done is known, as far as its size reaches."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import zq


def test_an_id_is_new_once() -> None:
    done = zq.Dedup(10)
    assert [done.seen("a"), done.seen("b"), done.seen("a")] == [False, False, True]
    assert "a" in done
    assert "c" not in done
    assert len(done) == 2


def test_the_one_not_seen_for_longest_is_forgotten() -> None:
    done = zq.Dedup(2)
    done.add("a")
    done.add("b")
    assert done.seen("a")
    done.add("c")
    assert ["a" in done, "b" in done, "c" in done] == [True, False, True]
    assert len(done) == 2


def test_looking_changes_nothing() -> None:
    done = zq.Dedup(2)
    done.add("a")
    done.add("b")
    assert "a" in done
    done.add("c")
    assert "a" not in done


def test_work_that_has_failed_can_be_forgotten() -> None:
    done = zq.Dedup(2)
    done.add("a")
    done.discard("a")
    done.discard("never seen")
    assert not done.seen("a")


@pytest.mark.parametrize("size", [0, -1, 1.5, "10", None, True])
def test_a_size_that_cannot_be_is_refused(size: Any) -> None:
    with pytest.raises(zq.Refused, match="whole number >= 1"):
        zq.Dedup(size)


class Slow(str):
    """An id that lets another thread in between the question whether it is known and its being remembered."""

    __slots__ = ("asked",)

    def __hash__(self) -> int:
        self.asked()  # type: ignore[attr-defined]
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other)


def test_of_several_threads_exactly_one_is_the_first() -> None:
    done = zq.Dedup(10)
    asked, other_is_done = threading.Event(), threading.Event()
    answers: dict[str, bool] = {}
    calls = []

    def let_in() -> None:
        calls.append(1)
        if len(calls) == 2:  # it is not known, and about to be remembered
            asked.set()
            other_is_done.wait(0.2)  # in vain, if the other one has to wait as well

    def other() -> None:
        asked.wait()
        answers["other"] = done.seen("a")
        other_is_done.set()

    slow = Slow("a")
    slow.asked = let_in
    thread = threading.Thread(target=other)
    thread.start()
    answers["one"] = done.seen(slow)
    thread.join()
    assert answers == {"one": False, "other": True}
