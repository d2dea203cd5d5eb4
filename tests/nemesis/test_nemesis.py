"""One round of the nemesis, always the same faults; `make proof-kill N=1000` plays many others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lan.conftest import namespaces  # noqa: F401 - the fixture that skips where there can be no LAN
from tests.nemesis.__main__ import replay
from tests.nemesis.judge import Life, judge
from tests.nemesis.round import play
from tests.processes.journal import Journal

SEED, FAULTS = 4, 10

Row = tuple[object, ...]


@pytest.mark.lan
@pytest.mark.timeout(120)  # 20 s on two processors that are not busy
@pytest.mark.usefixtures("namespaces")
def test_a_nemesis_breaks_no_promise() -> None:
    done: list[str] = []
    result = play(SEED, faults=FAULTS, say=done.append)
    what = "\n".join([*result.verdict.violations, *done, f"to see it again: {replay(SEED)}"])
    assert result.faults.total() >= FAULTS
    assert result.verdict.counts["confirmed"] > 100, what
    assert result.verdict.counts["read"] > 100, what
    for part in ("bound", "keyed", "rejected", "replied", "kept"):
        assert result.verdict.counts[part] > 0, f"{part}: {what}"
    assert result.verdict.violations == [], what


# --- the judge can find fault


def life(directory: Path, role: str, stream: int, *rows: Row, alive: bool = True) -> Life:
    journal = directory / f"{role}-{stream}"
    written = Journal(str(journal))
    for row in rows:
        written.add(*row)
    return Life(role=role, stream=stream, journal=journal, alive=alive)


PUSHED: tuple[Row, ...] = (("taken", 1), ("taken", 2), ("confirmed", 1))
WORKED: tuple[Row, ...] = (("began", 1, 1, 1, False), ("done", 1, 1), ("began", 1, 2, 1, False), ("done", 1, 2))
PUBLISHED: tuple[Row, ...] = tuple(("published", number) for number in range(1, 5))


def test_a_round_without_fault_is_found_so(tmp_path: Path) -> None:
    came: list[Row] = [("came", 9, number) for number in range(1, 5)]
    verdict = judge(
        [
            life(tmp_path, "push", 1, *PUSHED),
            life(tmp_path, "pull", 2, *WORKED),
            life(tmp_path, "subscribe", 3, ("subscribed",), *came),
            life(tmp_path, "publish", 9, *PUBLISHED),
        ]
    )
    assert verdict.violations == []
    assert (verdict.counts["confirmed"], verdict.counts["read"]) == (2, 4)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (WORKED[:2], "1 of 2 confirmed messages were not processed"),
        ((("began", 1, 3, 1, False), ("began", 1, 1, 1, False)), "comes first behind"),
        ((("began", 1, 4, 1, False), ("began", 1, 12, 1, False)), "of the same key, had ended"),
        ((*WORKED, *WORKED[2:]), "more than once"),
        ((("began", 1, 1, 2, False), *WORKED[1:]), "claims to be new with attempt 2"),
    ],
)
def test_what_is_wrong_with_a_queue_is_found(tmp_path: Path, rows: tuple[Row, ...], complaint: str) -> None:
    verdict = judge([life(tmp_path, "push", 1, *PUSHED), life(tmp_path, "pull", 2, *rows)])
    assert any(complaint in violation for violation in verdict.violations), verdict.violations


def test_lanes_have_orders_of_their_own(tmp_path: Path) -> None:
    rows = [("began", 1, number, 1, False) for number in (1, 3, 2)]  # the second is of the high lane
    assert judge([life(tmp_path, "pull", 2, *rows)]).violations == []


def test_what_is_rejected_is_done(tmp_path: Path) -> None:
    rows = (*WORKED[:2], WORKED[2], ("rejected", 1, 2))
    assert judge([life(tmp_path, "push", 1, *PUSHED), life(tmp_path, "pull", 2, *rows)]).violations == []


def test_what_a_bound_service_has_missed_is_found(tmp_path: Path) -> None:
    rows = [("bound",), *(("done", 9, number) for number in (1, 2, 4))]
    lives = [life(tmp_path, "serve", 3, *rows), life(tmp_path, "publish", 9, *PUBLISHED)]
    assert any("1 of 4 were not processed by the bound service: [3]" in each for each in judge(lives).violations)
    lives[0].alive = False  # and another one may have begun later
    assert judge(lives).violations == []


def test_what_an_outbox_has_lost_is_found_and_what_claims_to_be_new_twice(tmp_path: Path) -> None:
    store = life(tmp_path, "store", 5, ("confirmed", 1), ("confirmed", 2), alive=False)
    came = life(tmp_path, "fetch", 6, ("fetched", 5, 1, False), ("fetched", 5, 2, False), ("fetched", 5, 2, True))
    assert judge([store, came]).violations == []
    some = life(tmp_path, "fetch", 7, ("fetched", 5, 1, False), ("fetched", 5, 1, False))
    told = judge([store, some]).violations
    assert ["1 of 2 in its outbox were not fetched: [2]" in told[0], "claims to be new 2 times" in told[1]] == [
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("handed", "ended", "complaint"),
    [
        (2, "replied", "handed out 2 times"),
        (0, "replied", "replied to by nobody"),
        (1, "NoPeer", "although nobody was there"),
        (1, "EngineFailed", "ended as EngineFailed"),
        (1, "PeerLost", "in peace its last request ended as PeerLost"),
    ],
)
def test_what_is_wrong_with_requests_is_found(tmp_path: Path, handed: int, ended: str, complaint: str) -> None:
    replier = life(tmp_path, "reply", 3, *[("handed", 7, 1)] * handed)
    verdict = judge([replier, life(tmp_path, "ask", 7, ("ended", 7, 1, ended))])
    assert any(complaint in violation for violation in verdict.violations), verdict.violations


def test_what_was_confirmed_by_a_pusher_that_was_killed_is_owed_and_nothing_else(tmp_path: Path) -> None:
    pusher = life(tmp_path, "push", 1, *PUSHED, alive=False)
    assert judge([pusher, life(tmp_path, "pull", 2, *WORKED[:2])]).violations == []
    assert judge([pusher]).violations != []


@pytest.mark.parametrize(
    ("rows", "alive", "complaint"),
    [
        ((("came", 9, 2), ("came", 9, 3), ("came", 9, 4)), True, "2 is the first, but [1]"),
        ((("came", 9, 1), ("came", 9, 3), ("came", 9, 4)), True, "comes behind 1"),
        ((("came", 9, 1), ("came", 9, 2)), True, "has 2 of 4"),
        ((), True, "has None of 4"),
        ((("came", 9, 1), ("gap", 9, 2, 4)), True, "that it had not lost"),
        ((("came", 9, 1),), False, "was not told that there may be more"),
    ],
)
def test_what_is_wrong_with_a_topic_is_found(
    tmp_path: Path, rows: tuple[Row, ...], alive: bool, complaint: str
) -> None:
    reader = life(tmp_path, "subscribe", 3, ("subscribed",), *rows)
    verdict = judge([reader, life(tmp_path, "publish", 9, *PUBLISHED, alive=alive)])
    assert any(complaint in violation for violation in verdict.violations), verdict.violations


def test_a_gap_of_unknown_end_is_the_end_of_a_publisher_that_was_killed(tmp_path: Path) -> None:
    reader = life(tmp_path, "subscribe", 3, ("subscribed",), ("came", 9, 1), ("gap", 9, 2, None))
    assert judge([reader, life(tmp_path, "publish", 9, *PUBLISHED, alive=False)]).violations == []
