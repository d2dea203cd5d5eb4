"""One directory of files that are only ever appended to: the seam between the log and an operating system's disk.

What a power cut may do to it, and what the log therefore takes for granted: bytes are safe once `File.sync` has
returned, names once `Disk.sync` has; until then any subset of the 512-byte sectors written, and of the names changed,
may survive. A sync that fails has lost what it was to save, and the next one on that file would say that all is well
(Linux marks the pages clean): it is never repeated.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Protocol

FILE_MODE = 0o600
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})  # errors that say that there is no room


class File(Protocol):
    """An open file, for appending. Not thread-safe."""

    size: int  # bytes, those written included

    def write(self, data: bytes | bytearray) -> None:
        """Appends all of it. OSError: an unknown part of it may be there."""

    def rewrite(self, offset: int, data: bytes) -> None:
        """Writes what is there already once more, in its place: a sync saves it then, though one before has failed, and
        on most file systems that needs no room. OSError."""

    def sync(self) -> None:
        """Returns when all that was written is on the medium. OSError: it is not, and never will be by this file."""

    def close(self) -> None: ...


class Disk(Protocol):
    """A directory. Names are made by the log, never by a user. All methods may raise OSError."""

    def names(self) -> list[str]: ...

    def open(self, name: str) -> File:
        """Creates it if it is not there."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Up to `size` bytes; fewer at the end of the file."""

    def rename(self, old: str, new: str) -> None:
        """Replaces what is called `new`."""

    def remove(self, name: str) -> None: ...

    def sync(self) -> None:
        """Returns when names are on the medium: those of created, renamed and removed files."""


class _Appended:
    """`File` of the operating system."""

    def __init__(self, name: str, directory: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._name = name
        self._directory = directory
        self._descriptor = os.open(name, flags, FILE_MODE, dir_fd=directory)
        self.size = os.fstat(self._descriptor).st_size

    def write(self, data: bytes | bytearray) -> None:
        rest = memoryview(data)
        while rest:  # a disk that fills up takes a part first, and says why with the next call
            written = os.write(self._descriptor, rest)
            self.size += written
            rest = rest[written:]

    def rewrite(self, offset: int, data: bytes) -> None:
        # By another descriptor: Linux appends whatever is written by this one, at whatever offset.
        descriptor = os.open(self._name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._directory)
        rest = memoryview(data)
        try:
            while rest:
                written = os.pwrite(descriptor, rest, offset)
                offset += written
                rest = rest[written:]
        finally:
            os.close(descriptor)

    def sync(self) -> None:
        sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
        sync(self._descriptor)
        if not os.fstat(self._descriptor).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "the file was removed by somebody else")

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class DirectoryDisk:
    """`Disk` of the operating system. A directory that is moved while it is open stays the one that it is."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def names(self) -> list[str]:
        return sorted(os.listdir(self._descriptor))  # noqa: PTH208 - of an open directory, wherever it is now

    def open(self, name: str) -> File:
        return _Appended(name, self._descriptor)

    def read(self, name: str, offset: int, size: int) -> bytes:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._descriptor)
        try:
            chunks: list[bytes] = []
            while size > 0 and (chunk := os.pread(descriptor, min(size, 1 << 30), offset)):
                chunks.append(chunk)
                offset += len(chunk)
                size -= len(chunk)
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        finally:
            os.close(descriptor)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def remove(self, name: str) -> None:
        os.unlink(name, dir_fd=self._descriptor)

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
