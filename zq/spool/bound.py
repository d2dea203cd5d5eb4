"""The topics that a spooled queue is bound to, in a file beside its log.

    magic 8 | stream 16 | filters, a zero byte behind each | CRC 4

It is written aside, synced and renamed whenever they change. Where it is missing or damaged the queue is bound again
when its service comes back.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from zlib import crc32

from zq.errors import Refused
from zq.spool.disk import Disk
from zq.wire.names import check_filter

BOUND, ASIDE = "bound", "bound.new"
SIZE_MOST = 1 << 20  # bytes that are read
MAGIC = b"zqbind\x00\x01"
_HEAD = struct.Struct(">8s16s")


def write_bound(disk: Disk, stream: bytes, filters: Sequence[str]) -> None:
    """OSError."""
    packed = _HEAD.pack(MAGIC, stream) + b"".join(text.encode() + b"\0" for text in filters)
    if ASIDE in disk.names():
        disk.remove(ASIDE)
    file = disk.open(ASIDE)
    try:
        file.write(packed + crc32(packed).to_bytes(4, "big"))
        file.sync()
    finally:
        file.close()
    disk.rename(ASIDE, BOUND)
    disk.sync()


def read_bound(disk: Disk, stream: bytes) -> tuple[str, ...]:
    """None where nothing, or nothing that makes sense, was written. OSError."""
    if BOUND not in disk.names():
        return ()
    data = disk.read(BOUND, 0, SIZE_MOST)
    if len(data) < _HEAD.size + 4 or crc32(data[:-4]).to_bytes(4, "big") != data[-4:]:
        return ()
    if _HEAD.unpack_from(data) != (MAGIC, stream):
        return ()
    texts = data[_HEAD.size : -4].decode("ascii", "replace").split("\0")[:-1]
    try:
        return tuple(map(check_filter, texts))
    except Refused:
        return ()
