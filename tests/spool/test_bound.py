"""The files beside a log: the topics a queue is bound to, the last numbers of a topic stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from zq.spool.bound import BOUND, read_bound, write_bound
from zq.spool.disk import DirectoryDisk
from zq.spool.heads import HEADS, read_heads, write_heads

STREAM = b"s" * 16


@pytest.fixture
def disk(tmp_path: Path) -> DirectoryDisk:
    return DirectoryDisk(tmp_path)


def test_filters_are_read_as_they_were_written_last(disk: DirectoryDisk) -> None:
    assert read_bound(disk, STREAM) == ()
    write_bound(disk, STREAM, ("a/**", "b"))
    write_bound(disk, STREAM, ("c/*",))
    assert read_bound(disk, STREAM) == ("c/*",)
    assert read_bound(disk, b"t" * 16) == ()
    write_bound(disk, STREAM, ())
    assert read_bound(disk, STREAM) == ()


def test_numbers_are_read_as_they_were_written_last(disk: DirectoryDisk) -> None:
    assert read_heads(disk, STREAM) is None
    rows = {(b"p" * 16, "a/b"): 7, (b"q" * 16, "a/b"): 9}
    write_heads(disk, STREAM, 3, {}, {})
    write_heads(disk, STREAM, 16, rows, {"a/b": 4})
    found = read_heads(disk, STREAM)
    assert found == (16, rows, {"a/b": 4})
    assert read_heads(disk, b"t" * 16) is None


def test_whatever_bit_flips_neither_is_believed(disk: DirectoryDisk, tmp_path: Path) -> None:
    write_bound(disk, STREAM, ("a/**",))
    write_heads(disk, STREAM, 16, {(b"p" * 16, "a/b"): 7}, {"a/b": 4})
    for name in (BOUND, HEADS):
        whole = (tmp_path / name).read_bytes()
        for bit in range(8 * len(whole)):
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            (tmp_path / name).write_bytes(damaged)
            assert read_bound(disk, STREAM) == () if name == BOUND else read_heads(disk, STREAM) is None
        for size in range(len(whole)):
            (tmp_path / name).write_bytes(whole[:size])
            assert read_bound(disk, STREAM) == () if name == BOUND else read_heads(disk, STREAM) is None
