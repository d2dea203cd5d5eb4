"""A message that kills the interpreter of whoever takes it: it ends, and takes nobody's work along."""

from __future__ import annotations

import pytest

import zq
from tests.processes.conftest import Options, Start
from tests.waiting import eventually

ATTEMPTS = 2


@pytest.mark.parametrize("place", [0, 15], ids=["first", "in the middle"])
def test_a_message_that_kills_its_worker_is_dead_after_a_few_of_them_and_the_others_are_done(
    start: Start, local: Options, place: int
) -> None:
    values: list[int | str] = list(range(30))
    values[place] = "poison"
    workers = [start("work_until_poisoned", local, "jobs")]
    with zq.Peer("pusher", **local) as peer:
        pusher = peer.pusher("jobs", max_attempts=ATTEMPTS)
        pusher.send_many(values)

        def row() -> zq.HeldQueue:
            return next(row for row in peer.ledger().held if row.queue == "jobs")

        def done_under_a_supervisor() -> bool:
            if not workers[-1].is_running_after(0.05):
                assert workers[-1].wait() == 13
                workers.append(start("work_until_poisoned", local, "jobs"))
            return row().waiting + row().in_flight == 0

        eventually(done_under_a_supervisor, 40.0)
        [letter] = peer.dead_letters("jobs").letters
        held = row()
    killed = len(workers) - 1
    assert ATTEMPTS <= killed <= ATTEMPTS + 2
    assert (letter.data, [failed.outcome for failed in letter.history]) == ("poison", ["lost"] * ATTEMPTS)
    assert (held.acked, dict(held.dropped)) == (29, {"dead": 1})
