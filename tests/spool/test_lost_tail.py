"""The end of a log: what is gone of it is a loss, and what comes back of it was perhaps delivered by others."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.spool.answered import Answered
from tests.spool.simulated_disk import SimulatedDisk
from zq.spool.log import Log
from zq.spool.mark import MARK
from zq.spool.record import Record
from zq.wire.batch import Run


def cut_short(inner: Path) -> None:
    """The last segment loses its second half, and nobody knows how long it was."""
    (inner / MARK).unlink()
    [segment] = inner.glob("*.log")
    os.truncate(segment, segment.stat().st_size // 2)


def made_on(disk: SimulatedDisk) -> Log:
    log = Log(disk, b"s" * 16, wall=lambda: 1.0)
    log.open()
    return log


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


@pytest.mark.parametrize("seed", range(20))
def test_what_a_failed_sync_left_in_memory_and_a_full_disk_keeps_where_it_is_survives_a_power_cut(seed: int) -> None:
    """Four faults in a row. What was found is confirmed to whoever asks, so it has to be on the medium."""
    disk = SimulatedDisk(seed)
    log = made_on(disk)
    log.append(1, [Run(b"o" * 16, 1, 1, 1.0)], b"first")
    log.commit()
    log.write_mark(clean=False)
    disk.fails = lambda number, what: errno.EIO if what == "sync" else 0
    log.append(1, [Run(b"o" * 16, 1, 1, 1.0)], b"second")
    with pytest.raises(OSError, match="simulated"):
        log.commit()
    disk.fails = lambda number, what: 0
    disk.capacity = disk.used()
    log = made_on(disk)
    assert log.safe == 2
    assert "cannot be written again" in log.found[0].what
    log = made_on(disk.after_a_power_cut())
    assert (log.safe, log.lost) == (2, [])
    assert [record.body for record in log.read(1) if isinstance(record, Record)] == [b"first", b"second"]
