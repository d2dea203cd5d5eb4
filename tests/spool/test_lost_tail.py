"""What others than a log know of it: a tail that is gone is a loss, and its numbers are not those of later messages."""

from __future__ import annotations

import os
from pathlib import Path

from tests.spool.answered import Answered
from zq.spool.mark import MARK


def cut_short(inner: Path) -> None:
    """The last segment loses its second half, and nobody knows how long it was."""
    (inner / MARK).unlink()
    [segment] = inner.glob("*.log")
    os.truncate(segment, segment.stat().st_size // 2)


def test_what_was_settled_beyond_a_tail_that_is_gone_settles_nothing_that_comes_later(tmp_path: Path) -> None:
    spool = Answered(tmp_path / "spool")
    for number in range(1, 21):
        spool.append(number, [b"\x01"])
    spool.settle(1, 20)
    spool.close()
    cut_short(tmp_path / "spool" / spool.stream.hex())

    spool = Answered(tmp_path / "spool")
    assert spool.append(21, [b"\x02"]) == ("stored", [21])
    spool.close()

    spool = Answered(tmp_path / "spool")
    assert 21 not in spool.found.settled
    assert spool.read(21) == [(21, b"\x02")]
    spool.close()
