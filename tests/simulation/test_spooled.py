"""Schedules with spools and outboxes in the path; `python -m tests.simulation --spools --seeds 0-1000` takes more."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.seeds import replay
from tests.simulation.spooled import play

SEEDS = 40  # a third of a second each
FOUND = (37, 41)  # what was not due came early, after its spool was lost


@pytest.mark.timeout(240)
def test_spools_and_outboxes_lose_nothing_that_was_confirmed() -> None:
    counts: Counter[str] = Counter()
    for seed in sorted({*range(SEEDS), *FOUND}):
        try:
            world = play(seed)
        except Exception as error:
            error.add_note(replay(seed, kind="spools"))
            raise
        for place in world.places:
            counts[place.kind] += 1
            counts[f"{place.kind} stored"] += place.media[0].safe
            counts["dead letters"] += place.media[1].safe
        counts["confirmed"] += sum(sent.confirmed for sent in world.messages)
        counts["acked"] += sum(sent.acked for sent in world.messages)
        counts["keyed"] += sum(sent.plan.key is not None for sent in world.messages)
        counts["delayed"] += sum(sent.plan.delay > 0 for sent in world.messages)
        counts["pushed from memory"] += sum(sent.tame for sent in world.messages)
    wanted = ("outbox stored", "spool stored", "dead letters", "confirmed", "acked", "keyed", "delayed")
    assert {what for what in (*wanted, "pushed from memory") if not counts[what]} == set(), counts
