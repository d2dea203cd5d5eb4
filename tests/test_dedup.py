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


def test_of_several_threads_exactly_one_is_the_first() -> None:
    done, firsts = zq.Dedup(10_000), list[str]()
    together = threading.Barrier(4)

    def ask() -> None:
        together.wait()
        firsts.extend(id for id in map(str, range(2_000)) if not done.seen(id))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(firsts) == sorted(map(str, range(2_000)))
