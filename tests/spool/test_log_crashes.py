"""Power cuts, kills and failing calls at every step of a stream's life: what was confirmed is there, without holes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.spool import failing_calls
from tests.spool.life import CUTS, lives

IMAGES = 5_000  # in `make test`; `make proof-spool-crash N=1000000` looks at as many as one likes
PARTS = 5


@pytest.mark.parametrize("part", range(PARTS))
def test_a_power_cut_at_any_step_loses_nothing_that_was_confirmed(part: int) -> None:
    seeds = -(-IMAGES // CUTS // PARTS)
    outcome = lives(range(part * seeds, (part + 1) * seeds))
    assert outcome.images >= IMAGES // PARTS
    assert outcome.failures == []


@pytest.mark.parametrize("what", failing_calls.KINDS)
def test_a_call_of_the_operating_system_that_fails_confirms_nothing_and_loses_nothing(
    what: str, tmp_path: Path
) -> None:
    """The k-th call, for every k: on real files, in memory where there is a place for that."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as directory:
        calls = failing_calls.every_call(what, Path(directory))
    assert calls > 60, "it did next to nothing"
