"""A small file beside a log, replaced as a whole: what is in it | CRC 4.

It is written aside, synced and renamed, so that a crash leaves the old one or the new one. What does not fit its CRC is
damaged, and is as if it were not there.
"""

from __future__ import annotations

from zlib import crc32

from zq.spool.disk import Disk

CRC_BYTES = 4


def write_sealed(disk: Disk, name: str, content: bytes) -> None:
    """Returns when it is on the medium. OSError."""
    aside = f"{name}.new"
    if aside in disk.names():
        disk.remove(aside)
    file = disk.open(aside)
    try:
        file.write(content + _seal(content))
        file.sync()
    finally:
        file.close()
    disk.rename(aside, name)
    disk.sync()


def read_sealed(disk: Disk, name: str, most: int) -> bytes | None:
    """What is in it, of at most `most` bytes. None if there is none, or one that is damaged. OSError."""
    if name not in disk.names():
        return None
    data = disk.read(name, 0, most + CRC_BYTES)
    content = data[:-CRC_BYTES]
    return content if len(data) >= CRC_BYTES and _seal(content) == data[-CRC_BYTES:] else None


def _seal(content: bytes) -> bytes:
    return crc32(content).to_bytes(CRC_BYTES, "big")
