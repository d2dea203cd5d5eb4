"""The world in which everything happens at once has everything in it."""

from __future__ import annotations

from collections import Counter

from tests.simulation.bound import BoundPuller
from tests.simulation.mixed import MixedWorld, play
from tests.simulation.oracle import News, Work

SEEDS = 40


def told(world: MixedWorld) -> Counter[str]:
    """What has happened in it."""
    counts = Counter(f"request {end}" for end in world.ends.elements())
    counts["bound"] = sum(isinstance(program, BoundPuller) for program in world.programs)
    for stream in world.oracle.streams:
        shares = [stream] if isinstance(stream, Work) else list(stream.shares.values())
        for job in (job for share in shares for job in share.jobs):
            where = "bound" if isinstance(stream, News) else "pushed"
            counts[f"{where} done"] += job.acked > 0
            counts[f"{where} again"] += len(job.deliveries) > 1
            counts[f"{where} rejected"] += job.rejected > 0
            counts["keyed"] += job.plan.key is not None
            counts["delayed"] += job.plan.delay > 0
            counts["mortal"] += job.plan.ttl is not None
            counts[f"lane {job.plan.lane}"] += 1
    return counts


def test_queues_topics_bound_queues_and_requests_share_a_realm() -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        counts += told(play(seed))
    wanted = ("bound", "keyed", "delayed", "mortal", "lane 0", "lane 1", "lane 2", "request replied", "request lost")
    wanted += tuple(f"{where} {what}" for where in ("bound", "pushed") for what in ("done", "again", "rejected"))
    assert {what for what in wanted if not counts[what]} == set(), counts
