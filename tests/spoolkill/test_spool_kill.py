"""A short round, always the same kills; `make proof-spool-kill N=1000` plays many others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes.journal import Journal
from tests.spoolkill.campaign import Player, Verdict, judge, play

SEED, KILLS = 3, 24


@pytest.mark.timeout(180)  # 15 s on two processors that are not busy
def test_kills_of_everybody_lose_nothing_that_was_confirmed() -> None:
    verdict = play(SEED, KILLS)
    what = "\n".join([*verdict.violations, f"to see it again: python -m tests.spoolkill {KILLS} --seed {SEED}"])
    assert verdict.violations == [], what
    assert verdict.kills.total() >= KILLS
    assert verdict.kills["produce"] > 0, what
    assert verdict.kills["keep"] > 0, what
    assert verdict.counts["confirmed"] > 1_000, what
    assert verdict.counts["lost"] == 0


def player(directory: Path, role: str, number: int, *rows: tuple[object, ...]) -> Player:
    journal = directory / f"{role}-{number}"
    written = Journal(str(journal))
    for row in rows:
        written.add(*row)
    return Player(role, number, directory, lives=[(number, journal)])


def test_the_judge_finds_what_is_lost_and_what_came_twice_unmarked(tmp_path: Path) -> None:
    producer = player(tmp_path, "produce", 1, ("confirmed", 2), ("confirmed", 3))
    came = ("came", 1, 1, False), ("came", 1, 2, False), ("came", 1, 3, False)
    fine = Verdict()
    judge([producer, player(tmp_path, "consume", 2, *came, ("came", 1, 2, True))], fine)
    assert fine.violations == []
    assert (fine.counts["confirmed"], fine.counts["redelivered"]) == (3, 1)
    lost = Verdict()
    judge([producer, player(tmp_path, "consume", 3, *came[:2])], lost)
    assert ["1 of 3 confirmed are lost: [3]" in each for each in lost.violations] == [True]
    twice = Verdict()
    judge([producer, player(tmp_path, "consume", 4, *came, came[1])], twice)
    assert ["came 2 times without saying" in each for each in twice.violations] == [True]
