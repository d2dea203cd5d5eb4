"""The end of a log: what is gone of it is a loss, and what comes back of it was perhaps delivered by others."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

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


def test_what_was_given_back_and_is_there_after_all_is_redelivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk takes a message and cannot sync it. Its pusher hears so, and gives it to a puller."""

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    spool = Answered(tmp_path / "spool")
    assert spool.append(1, [b"\x01"]) == ("stored", [1])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        assert spool.append(2, [b"\x02"])[0] == "full"
    spool.close()

    spool = Answered(tmp_path / "spool")
    assert (spool.found.safe, spool.found.doubtful) == (2, 2)
    spool.close()
