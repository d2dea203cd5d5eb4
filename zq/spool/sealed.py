"""Small files of a spool, replaced as a whole: what is in it | CRC 4.

Each is written aside, synced and renamed, so that a crash leaves the old one or the new one. What does not fit its CRC
is damaged.
"""

from __future__ import annotations

import contextlib
from zlib import crc32

from zq.spool.disk import Disk

CRC_BYTES = 4


def seal(content: bytes) -> bytes:
    return content + crc32(content).to_bytes(CRC_BYTES, "big")


def unseal(data: bytes) -> bytes | None:
    """What is in it; None if it is damaged."""
    content = data[:-CRC_BYTES]
    return content if len(data) >= CRC_BYTES and seal(content) == data else None


def write_whole(disk: Disk, name: str, data: bytes) -> None:
    """Returns when the file is on the medium with all of it. After an OSError it is as it was."""
    aside = f"{name}.new"
    if aside in disk.names():
        disk.remove(aside)
    file = disk.open(aside)
    try:
        file.write(data)
        file.sync()
    except OSError:
        with contextlib.suppress(OSError):  # a full disk most likely
            disk.remove(aside)
        raise
    finally:
        file.close()
    disk.rename(aside, name)
    disk.sync()


def read_sealed(disk: Disk, name: str, most: int) -> bytes | None:
    """What is in it, of at most `most` bytes. None if there is none, or one that is damaged. OSError."""
    return unseal(disk.read(name, 0, most + CRC_BYTES)) if name in disk.names() else None
