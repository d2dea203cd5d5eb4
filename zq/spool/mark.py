"""The mark: how far a log was safe when somebody last looked, in a file of its own.

    magic 8 | stream 16 | segment 8 | end 8 | last 8 | clean 1 | CRC 4

It is written aside, synced and renamed: once a second while there is something new, and when the log is closed
(`clean`). A log that holds less than its mark says has lost something that it had confirmed, which a torn tail never
is; a mark that is lost itself costs that the last segment is written again.
"""

from __future__ import annotations

import struct
from typing import NamedTuple
from zlib import crc32

from zq.spool.disk import Disk

MARK, ASIDE = "mark", "mark.new"
MAGIC = b"zqmark\x00\x01"
_MARK = struct.Struct(">8s16sQQQB")


class Mark(NamedTuple):
    """A place in a log up to which everything was on the medium."""

    stream: bytes
    segment: int
    end: int  # bytes of that segment
    last: int  # number of the last message
    clean: bool  # the log was closed there


def write_mark(disk: Disk, mark: Mark) -> None:
    packed = _MARK.pack(MAGIC, *mark)
    if ASIDE in disk.names():
        disk.remove(ASIDE)
    file = disk.open(ASIDE)
    try:
        file.write(packed + crc32(packed).to_bytes(4, "big"))
        file.sync()
    finally:
        file.close()
    disk.rename(ASIDE, MARK)
    disk.sync()


def read_mark(disk: Disk) -> Mark | None:
    """None if there is none, or one that is damaged."""
    if MARK not in disk.names():
        return None
    data = disk.read(MARK, 0, _MARK.size + 5)
    if len(data) != _MARK.size + 4 or crc32(data[: _MARK.size]).to_bytes(4, "big") != data[_MARK.size :]:
        return None
    magic, stream, segment, end, last, clean = _MARK.unpack_from(data)
    return Mark(stream, segment, end, last, bool(clean)) if magic == MAGIC else None
