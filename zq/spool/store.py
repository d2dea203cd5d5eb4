"""A spool's directory: who owns it, what it is called for ever, and which streams are in it.

    lock           flock of the one process that has it open; its pid, for whoever comes second
    reserve        bytes that mean nothing, see `reserve`
    spool          magic 8 | uuid 16 | epoch 8 | device 8 | inode of `lock` 8 | CRC 4
    <stream>/      one directory a stream, called by the stream's uuid: names never become names of files
        stream     magic 8 | uuid 16 | kind 1 | name | CRC 4
        journal, mark, *.log, *.bad

The epoch goes up, synced, at every open, before anything else is done: a power cut never makes a spool use the numbers
of one epoch for other content. `spool` says where the directory was when it was written; one that is somewhere else is
a copy or a backup that was restored, and gets a new uuid, because whoever knows the old one knows later things of it.
A directory that is not whole yet (a crash while it was made) is finished; one that is not understood is refused, and
nothing in it is touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from zq.errors import AccessDenied, Refused, SpoolDamaged, SpoolLocked
from zq.spool.disk import FILE_MODE, FULL, DirectoryDisk, Disk
from zq.spool.mark import MAGIC as MARK_MAGIC
from zq.spool.mark import MARK
from zq.spool.reserve import Reserve
from zq.spool.segment import MAGIC as SEGMENT_MAGIC

SPOOL, LOCK, STREAM = "spool", "lock", "stream"
QUEUE, TOPIC = "q", "t"  # kinds of streams
_MAGIC = b"zqspol\x00\x01"  # the last byte is the format's version
HEADS = {STREAM: _MAGIC, MARK: MARK_MAGIC, "*.log": SEGMENT_MAGIC}  # how files begin that have a version
_SPOOL = struct.Struct(">8s16sQQQ")
_STREAM = struct.Struct(">8s16s1s")


class Identity(NamedTuple):
    """What a spool is called, and since when."""

    uuid: bytes
    epoch: int


class StreamName(NamedTuple):
    """One stream of a spool."""

    uuid: bytes
    kind: str  # QUEUE or TOPIC
    name: str


class Store:
    """An open spool directory. Made by `open_store`."""

    def __init__(self, directory: Path, disk: Disk, lock: int, identity: Identity, notes: list[str]) -> None:
        self.directory = directory
        self.identity = identity
        self.notes = notes  # what the operator should know, a line each
        self.reserve = Reserve(disk)
        self._disk = disk
        self._lock = lock
        self._streams: dict[tuple[str, str], StreamName] = {}

    def streams(self) -> list[StreamName]:
        return sorted(self._streams.values(), key=lambda stream: (stream.kind, stream.name))

    def _find_streams(self) -> None:
        streams, strange = find_streams(self.directory)
        self.notes += [f"{inner} is no stream that this version understands; left alone" for inner in strange]
        self._streams = {(stream.kind, stream.name): stream for stream in streams}

    def stream(
        self, kind: str, name: str, draw: Callable[[int], bytes] = os.urandom
    ) -> tuple[StreamName, DirectoryDisk]:
        """The stream of that name, made if there is none, and where it is. OSError."""
        stream = self._streams.get((kind, name))
        if stream is None:
            stream = StreamName(draw(16), kind, name)
            inner = self.directory / stream.uuid.hex()
            inner.mkdir(mode=0o700)
            inside = DirectoryDisk(inner)
            _write_whole(inside, STREAM, encode_stream(stream))
            self._disk.sync()
            self._streams[kind, name] = stream
            return stream, inside
        return stream, DirectoryDisk(self.directory / stream.uuid.hex())

    def free(self) -> int:
        """Bytes that the file system has left for us."""
        found = os.statvfs(self.directory)
        return found.f_bavail * found.f_frsize

    def total(self) -> int:
        """Bytes of the file system."""
        found = os.statvfs(self.directory)
        return found.f_blocks * found.f_frsize

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def open_store(directory: Path, *, draw: Callable[[int], bytes] = os.urandom) -> Store:
    """Makes or opens a spool's directory. Raises AccessDenied, SpoolLocked, SpoolDamaged, Refused."""
    _prepare(directory)
    lock = _acquire(directory)
    try:
        disk = DirectoryDisk(directory)
        notes: list[str] = []
        found = os.fstat(lock)
        here = found.st_dev, found.st_ino
        identity = _read_identity(disk, directory, here, notes, draw)
        check_formats(directory)
        try:
            data = encode_identity(identity, here)
            try:
                _write_whole(disk, SPOOL, data)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                Reserve(disk).let_go()
                _write_whole(disk, SPOOL, data)
        except OSError as error:
            raise AccessDenied(f"{directory} cannot be written: {error.strerror}; nothing was changed") from error
        with contextlib.suppress(OSError):  # the disk is full: whoever comes second is not told the number
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        store = Store(directory, disk, lock, identity, notes)
        store._find_streams()
    except BaseException:
        os.close(lock)
        raise
    return store


def find_streams(directory: Path) -> tuple[list[StreamName], list[Path]]:
    """The streams in a spool's directory, by kind and name, and what looks like one and is not understood."""
    streams: list[StreamName] = []
    strange: list[Path] = []
    for inner in sorted(directory.iterdir()):
        if len(inner.name) == 32 and inner.is_dir():
            stream = _read_stream(inner)
            if stream is None:
                strange.append(inner)
            else:
                streams.append(stream)
    return sorted(streams, key=lambda stream: (stream.kind, stream.name)), strange


def check_spool(directory: Path) -> None:
    """Raises what `open_store` would, but for a lock, and changes nothing; Refused if there is no spool."""
    if not directory.exists() and not directory.is_symlink():
        raise Refused(f"there is no spool directory {directory}")
    _check_directory(directory)
    if not (directory / SPOOL).exists():
        raise Refused(f"{directory} is no spool: it has no file {SPOOL}")
    disk = DirectoryDisk(directory)
    try:
        _read_identity(disk, directory, (0, 0), [], bytes)
        check_formats(directory)
    except OSError as error:
        raise AccessDenied(f"spool directory {directory} cannot be read: {error}") from error
    finally:
        disk.close()


def check_formats(directory: Path) -> None:
    """Raises Refused if there is a file of a newer version, before anything is changed."""
    for inner in sorted(directory.iterdir()):
        if len(inner.name) != 32 or not inner.is_dir():
            continue
        for path in sorted(inner.iterdir()):
            begins = HEADS.get("*.log" if path.suffix == ".log" else path.name)
            if begins is None or not path.is_file():
                continue
            with path.open("rb") as file:
                magic = file.read(len(begins))
            if magic[:-1] == begins[:-1] and magic[-1:] > begins[-1:]:
                raise Refused(f"{path} has the format of a newer version of zq; use that, nothing was changed")


def _prepare(directory: Path) -> None:
    try:
        _make(directory)
    except FileExistsError:
        pass  # what it is, the next lines tell
    except OSError as error:
        raise AccessDenied(f"spool directory {directory} cannot be made: {error.strerror}") from error
    _check_directory(directory)


def _check_directory(directory: Path) -> None:
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no directory"
        raise AccessDenied(f"spool directory {directory} is {what}; name a directory")
    if found.st_uid != os.geteuid():
        raise AccessDenied(f"spool directory {directory} belongs to user {found.st_uid}; use one of your own")
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise AccessDenied(f"spool directory {directory} is open to others (mode {mode:03o}); chmod 700 it")
    try:
        names = {path.name for path in directory.iterdir()}
    except OSError as error:
        raise AccessDenied(f"spool directory {directory} cannot be read: {error.strerror}") from error
    if names and LOCK not in names:
        raise Refused(f"{directory} holds other things and is no spool; name an empty or a new directory")


def _make(directory: Path) -> None:
    """With those above it, all on the medium: what is synced in a directory that a power cut takes is gone as well."""
    if not directory.parent.is_dir():
        _make(directory.parent)
    directory.mkdir(mode=0o700)
    above = DirectoryDisk(directory.parent)
    try:
        above.sync()
    finally:
        above.close()


def _acquire(directory: Path) -> int:
    try:
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    except OSError as error:
        raise AccessDenied(f"spool directory {directory} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip()
        os.close(lock)
        raise SpoolLocked(
            f"spool directory {directory} is open in process {holder or 'unknown'}; end that, or name another directory"
        ) from None
    except OSError as error:
        os.close(lock)
        raise AccessDenied(
            f"spool directory {directory} is on a file system without locks ({error.strerror}); use a local disk"
        ) from error
    return lock


def _read_identity(
    disk: Disk, directory: Path, here: tuple[int, int], notes: list[str], draw: Callable[[int], bytes]
) -> Identity:
    """The identity to go on with: the epoch after the last one, or a new spool's."""
    if SPOOL not in disk.names():
        return Identity(draw(16), 1)
    data = disk.read(SPOOL, 0, _SPOOL.size + 5)
    if data[:7] == _MAGIC[:7] and data[7:8] > _MAGIC[7:]:
        raise Refused(f"{directory / SPOOL} has the format of a newer version of zq; use that, nothing was changed")
    if len(data) != _SPOOL.size + 4 or crc32(data[:-4]).to_bytes(4, "big") != data[-4:] or data[:8] != _MAGIC:
        raise SpoolDamaged(f"{directory / SPOOL} does not verify; move it aside to let the spool have a new identity")
    _, uuid, epoch, *where = _SPOOL.unpack_from(data)
    if tuple(where) != here:
        notes.append(f"{directory} is a copy or was restored from a backup: it has a new identity from now on")
        return Identity(draw(16), 1)
    return Identity(uuid, epoch + 1)


def encode_identity(identity: Identity, here: tuple[int, int]) -> bytes:
    """The file `spool`; `here` are device and inode of the lock."""
    packed = _SPOOL.pack(_MAGIC, identity.uuid, identity.epoch, *here)
    return packed + crc32(packed).to_bytes(4, "big")


def encode_stream(stream: StreamName) -> bytes:
    """The file `stream`."""
    packed = _STREAM.pack(_MAGIC, stream.uuid, stream.kind.encode()) + stream.name.encode()
    return packed + crc32(packed).to_bytes(4, "big")


def _read_stream(inner: Path) -> StreamName | None:
    try:
        data = (inner / STREAM).read_bytes()
    except OSError:
        return None
    if len(data) < _STREAM.size + 4 or crc32(data[:-4]).to_bytes(4, "big") != data[-4:]:
        return None
    magic, uuid, kind = _STREAM.unpack_from(data)
    if magic != _MAGIC or uuid.hex() != inner.name:
        return None
    return StreamName(uuid, kind.decode(), data[_STREAM.size : -4].decode())


def _write_whole(disk: Disk, name: str, data: bytes) -> None:
    """The file is there with all of it, or as it was."""
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
