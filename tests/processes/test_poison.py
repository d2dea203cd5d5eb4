"""A message that kills the interpreter of whoever takes it: it ends, and takes nobody's work along."""

from __future__ import annotations

import pytest

import zq
from tests.processes.conftest import Options, Start
from tests.waiting import eventually

ATTEMPTS = 2


@pytest.mark.parametrize(
    ("count", "place"), [(30, 0), (30, 15), (5_000, 2_500)], ids=["first", "in the middle", "in the middle of many"]
)
def test_a_message_that_kills_its_worker_is_dead_after_a_few_of_them_and_the_others_are_done(
    start: Start, local: Options, count: int, place: int
) -> None:
    values: list[int | str] = list(range(count))
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
            held = row()
            return held.taken == count and held.waiting + held.in_flight == 0

        eventually(done_under_a_supervisor, 40.0)
        [letter] = peer.dead_letters("jobs").letters
        held = row()
    killed = len(workers) - 1
    assert ATTEMPTS <= killed <= ATTEMPTS + 2
    assert (letter.data, [failed.outcome for failed in letter.history]) == ("poison", ["lost"] * ATTEMPTS)
    assert (held.acked, dict(held.dropped)) == (count - 1, {"dead": 1})
