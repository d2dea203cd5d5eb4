"""A directory as a log would change it while it is opened, with nothing changed: what is written stays in memory.

So that an operator's tools read a spool in exactly the way in which it would be recovered, whoever has it open. What is
kept in memory is what recovery writes again: what has come since the last mark, a second's worth.
"""

from __future__ import annotations

import errno
from pathlib import Path

from zq.record import dataclass, field
from zq.spool.disk import DirectoryDisk, File
from zq.spool.segment import number_of


@dataclass(slots=True)
class _Content:
    """A file: so many bytes of one in the directory, and what was appended."""

    base: str | None = None
    size: int = 0  # bytes of that; it may grow meanwhile
    tail: bytearray = field(default_factory=bytearray)


class _Appended:
    """`zq.spool.disk.File`."""

    def __init__(self, content: _Content) -> None:
        self._content = content
        self.size = content.size + len(content.tail)

    def write(self, data: bytes | bytearray) -> None:
        self._content.tail += data
        self.size += len(data)

    def rewrite(self, offset: int, data: bytes) -> None:
        """It is there."""

    def sync(self) -> None:
        """It stays in memory."""

    def close(self) -> None:
        """There is nothing to close."""


class Overlay:
    """`zq.spool.disk.Disk` over a directory that it only reads. OSError as that."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._disk = DirectoryDisk(directory)
        self._changed: dict[str, _Content | None] = {}  # None: it is gone
        self._seen: dict[str, int] = {}  # inodes of segments

    def names(self) -> list[str]:
        names = set(self._disk.names()) - self._changed.keys()
        return sorted(names | {name for name, content in self._changed.items() if content is not None})

    def open(self, name: str) -> File:
        content = self._changed.get(name)
        if content is None:
            exists = name not in self._changed and name in self._disk.names()
            if not exists and name in self._seen and name not in self._changed:
                raise FileNotFoundError(errno.ENOENT, "it was removed", name)
            size = (self._directory / name).stat().st_size if exists else 0
            content = self._changed[name] = _Content(name if exists else None, size)
        return _Appended(content)

    def read(self, name: str, offset: int, size: int) -> bytes:
        if name not in self._changed:
            return self._read(name, offset, size)
        content = self._changed[name]
        if content is None:
            raise FileNotFoundError(name)
        data = b""
        if content.base is not None and offset < content.size:
            data = self._read(content.base, offset, min(size, content.size - offset))
        start = max(offset - content.size, 0)
        return data + content.tail[start : start + max(offset + size - max(offset, content.size), 0)]

    def _read(self, name: str, offset: int, size: int) -> bytes:
        """FileNotFoundError if it is not the segment any more that it was when something of it was first read."""
        data = self._disk.read(name, offset, size)
        if number_of(name) is not None:
            inode = (self._directory / name).stat().st_ino
            if self._seen.setdefault(name, inode) != inode:
                raise FileNotFoundError(errno.ENOENT, "it was written anew", name)
        return data

    def rename(self, old: str, new: str) -> None:
        self.open(old)
        self._changed[new], self._changed[old] = self._changed[old], None

    def remove(self, name: str) -> None:
        self._changed[name] = None

    def sync(self) -> None:
        """Nothing is on a medium."""

    def close(self) -> None:
        self._disk.close()
