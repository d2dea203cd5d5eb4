"""The mark: how far a log was safe when somebody last looked, in a file of its own.

    magic 8 | stream 16 | segment 8 | end 8 | last 8 | clean 1; sealed

It is written once a second while there is something new, and when the log is closed (`clean`). A log that holds less
than its mark says has lost something that it had confirmed, which a torn tail never is; a mark that is lost itself
costs that the last segment is written again.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from zq.spool.disk import Disk
from zq.spool.sealed import read_sealed, seal, write_whole

MARK = "mark"
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
    write_whole(disk, MARK, seal(_MARK.pack(MAGIC, *mark)))


def read_mark(disk: Disk) -> Mark | None:
    """None if there is none, or one that is damaged."""
    data = read_sealed(disk, MARK, _MARK.size + 1)
    if data is None or len(data) != _MARK.size:
        return None
    magic, stream, segment, end, last, clean = _MARK.unpack_from(data)
    return Mark(stream, segment, end, last, bool(clean)) if magic == MAGIC else None
