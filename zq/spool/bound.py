"""The topics that a spooled queue is bound to, in a file beside its log.

    magic 8 | stream 16 | filters, a zero byte behind each; sealed

It is written whenever they change. Where it is missing or damaged the queue is bound again when its service comes
back.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from zq.errors import Refused
from zq.spool.disk import Disk
from zq.spool.sealed import read_sealed, seal, write_whole
from zq.wire.names import check_filter

BOUND = "bound"
SIZE_MOST = 1 << 20  # bytes that are read
MAGIC = b"zqbind\x00\x01"
_HEAD = struct.Struct(">8s16s")


def write_bound(disk: Disk, stream: bytes, filters: Sequence[str]) -> None:
    """OSError."""
    packed = _HEAD.pack(MAGIC, stream) + b"".join(text.encode() + b"\0" for text in filters)
    write_whole(disk, BOUND, seal(packed))


def read_bound(disk: Disk, stream: bytes) -> tuple[str, ...]:
    """None of them where nothing, or nothing that makes sense, was written. OSError."""
    data = read_sealed(disk, BOUND, SIZE_MOST)
    if data is None or len(data) < _HEAD.size:
        return ()
    if _HEAD.unpack_from(data) != (MAGIC, stream):
        return ()
    texts = data[_HEAD.size :].decode("ascii", "replace").split("\0")[:-1]
    try:
        return tuple(map(check_filter, texts))
    except Refused:
        return ()
