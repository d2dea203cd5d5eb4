"""A spool's directory: who owns it, what it is called for ever, and which streams are in it.

    lock           flock of the one process that has it open; in text its pid, for whoever comes second, and the epoch,
                   inode and time of change of `spool`
    reserve        bytes that mean nothing, see `reserve`
    spool          magic 8 | uuid 16 | epoch 8 | device 8 | inode of `lock` 8 | CRC 4
    <stream>/      one directory a stream, called by the stream's uuid: names never become names of files
        stream     magic 8 | uuid 16 | kind 1 | name | CRC 4
        journal, mark, *.log, *.bad

The epoch goes up, synced, at every open, before anything else is done: a power cut never makes a spool use the numbers
of one epoch for other content. `spool` says where the directory was when it was written, and `lock` which file `spool`
was: a directory that is somewhere else, or has another `spool`, is a copy or a backup that was restored. It gets a new
uuid, because whoever knows the old one knows later things of it. A lock that a power cut has left empty tells nothing.
A directory that is not whole yet (a crash while it was made) is finished; one that is not understood is refused, and
nothing in it is touched.

It is longer than most: what the directory has in it is made, looked at and refused here, and nowhere else.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from zq.errors import AccessDenied, Refused, SpoolDamaged, SpoolLocked
from zq.spool.bound import BOUND
from zq.spool.bound import MAGIC as BOUND_MAGIC
from zq.spool.disk import FILE_MODE, FULL, DirectoryDisk, Disk
from zq.spool.heads import HEADS as HEADS_FILE
from zq.spool.heads import MAGIC as HEADS_MAGIC
from zq.spool.mark import MAGIC as MARK_MAGIC
from zq.spool.mark import MARK
from zq.spool.reserve import Reserve
from zq.spool.sealed import CRC_BYTES, seal, unseal, write_whole
from zq.spool.segment import MAGIC as SEGMENT_MAGIC

SPOOL, LOCK, STREAM = "spool", "lock", "stream"
QUEUE, TOPIC, OUTBOX = "q", "t", "o"  # kinds of streams; those of OUTBOX are alone
KINDS = {QUEUE: "queue", TOPIC: "topic", OUTBOX: "outbox"}
WHAT = {QUEUE: "spool directory", OUTBOX: "outbox directory"}
_MAGIC = b"zqspol\x00\x01"  # the last byte is the format's version
HEADS = {  # how files begin that have a version
    STREAM: _MAGIC,
    MARK: MARK_MAGIC,
    HEADS_FILE: HEADS_MAGIC,
    BOUND: BOUND_MAGIC,
    "*.log": SEGMENT_MAGIC,
}
PAUSES = (0.001, 0.005, 0.02, 0.05)  # s between looks at a lock that somebody has
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

    @property
    def title(self) -> str:
        """Where a queue and a topic may be of one name."""
        return f"{KINDS[self.kind]}:{self.name}"


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
        _open_stores.add(self)

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
            write_whole(inside, STREAM, encode_stream(stream))
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


_open_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """The directory is the parent's: a child that kept the lock would own it when that is dead."""
    for store in list(_open_stores):
        store.close()


os.register_at_fork(after_in_child=_after_fork_in_child)


def open_store(directory: Path, *, draw: Callable[[int], bytes] = os.urandom, what: str = WHAT[QUEUE]) -> Store:
    """Makes or opens a spool's directory, or that of outboxes. Raises AccessDenied, SpoolLocked, SpoolDamaged,
    Refused."""
    _prepare(directory, what)
    lock = _acquire(directory, what)
    try:
        disk = DirectoryDisk(directory)
        notes: list[str] = []
        found = os.fstat(lock)
        here = found.st_dev, found.st_ino
        _, seen = _read_lock(lock)
        identity = _read_identity(disk, directory, here, seen, notes, draw)
        check_formats(directory)
        try:
            data = encode_identity(identity, here)
            try:
                write_whole(disk, SPOOL, data)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                Reserve(disk).let_go()
                write_whole(disk, SPOOL, data)
        except OSError as error:
            raise AccessDenied(f"{directory} cannot be written: {error.strerror}; nothing was changed") from error
        _write_lock(lock, _Seen(identity.epoch, *_change_of(directory / SPOOL)))
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
        _read_identity(disk, directory, (0, 0), None, [], bytes)
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
            try:
                with path.open("rb") as file:
                    magic = file.read(len(begins))
            except FileNotFoundError:
                continue  # trimmed meanwhile, by the process that has it open
            if magic[:-1] == begins[:-1] and magic[-1:] > begins[-1:]:
                raise Refused(f"{path} has the format of a newer version of zq; use that, nothing was changed")


class _Seen(NamedTuple):
    """Which file `spool` was, when it had been written."""

    epoch: int
    inode: int
    changed: int  # ns; no program can set it


def _change_of(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_ino, found.st_ctime_ns


def _write_lock(lock: int, seen: _Seen) -> None:
    with contextlib.suppress(OSError):  # the disk is full: whoever comes second is not told the number
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{' '.join(map(str, (os.getpid(), *seen)))}\n".encode(), 0)


def _read_lock(lock: int) -> tuple[str, _Seen | None]:
    """The pid, and what else it knows."""
    pid, *words = os.pread(lock, 100, 0).decode("ascii", "replace").split() or [""]
    return pid, _Seen(*map(int, words)) if len(words) == 3 and all(word.isdigit() for word in words) else None


def _prepare(directory: Path, title: str) -> None:
    try:
        _make(directory)
    except FileExistsError:
        pass  # what it is, the next lines tell
    except OSError as error:
        raise AccessDenied(f"{title} {directory} cannot be made: {error.strerror}") from error
    _check_directory(directory, title)


def _check_directory(directory: Path, title: str = WHAT[QUEUE]) -> None:
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no directory"
        raise AccessDenied(f"{title} {directory} is {what}; name a directory")
    if found.st_uid != os.geteuid():
        raise AccessDenied(f"{title} {directory} belongs to user {found.st_uid}; use one of your own")
    try:
        names = {path.name for path in directory.iterdir()}
    except OSError as error:
        raise AccessDenied(f"{title} {directory} cannot be read: {error.strerror}") from error
    if names and LOCK not in names:
        raise Refused(f"{directory} holds other things and is no {title}; name an empty or a new directory")
    if found.st_mode & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise AccessDenied(f"{title} {directory} is open to others (mode {mode:03o}); chmod 700 it")


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


def _lock(lock: int) -> None:
    """BlockingIOError: somebody has it. Whoever wants to know that has it for a moment (`zq.spool.shelf.holder_of`)."""
    for pause in PAUSES:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(pause)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _acquire(directory: Path, title: str) -> int:
    try:
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    except OSError as error:
        raise AccessDenied(f"{title} {directory} cannot be written: {error.strerror}") from error
    try:
        _lock(lock)
    except BlockingIOError:
        holder, _ = _read_lock(lock)
        os.close(lock)
        raise SpoolLocked(
            f"{title} {directory} is open in process {holder or 'unknown'}; end that, or name another directory"
        ) from None
    except OSError as error:
        os.close(lock)
        raise AccessDenied(
            f"{title} {directory} is on a file system without locks ({error.strerror}); use a local disk"
        ) from error
    return lock


def _read_identity(
    disk: Disk,
    directory: Path,
    here: tuple[int, int],
    seen: _Seen | None,
    notes: list[str],
    draw: Callable[[int], bytes],
) -> Identity:
    """The identity to go on with: the epoch after the last one, or a new spool's."""
    if SPOOL not in disk.names():
        return Identity(draw(16), 1)
    data = disk.read(SPOOL, 0, _SPOOL.size + CRC_BYTES + 1)
    if data[:7] == _MAGIC[:7] and data[7:8] > _MAGIC[7:]:
        raise Refused(f"{directory / SPOOL} has the format of a newer version of zq; use that, nothing was changed")
    content = unseal(data)
    if content is None or len(content) != _SPOOL.size or content[:8] != _MAGIC:
        raise SpoolDamaged(f"{directory / SPOOL} does not verify; move it aside to let it have a new identity")
    _, uuid, epoch, *where = _SPOOL.unpack(content)
    written_by_others = seen is not None and seen.epoch == epoch and seen[1:] != _change_of(directory / SPOOL)
    if tuple(where) != here or written_by_others:
        notes.append(f"{directory} is a copy or was restored from a backup: it has a new identity from now on")
        return Identity(draw(16), 1)
    return Identity(uuid, epoch + 1)


def encode_identity(identity: Identity, here: tuple[int, int]) -> bytes:
    """The file `spool`; `here` are device and inode of the lock."""
    packed = _SPOOL.pack(_MAGIC, identity.uuid, identity.epoch, *here)
    return seal(packed)


def encode_stream(stream: StreamName) -> bytes:
    """The file `stream`."""
    packed = _STREAM.pack(_MAGIC, stream.uuid, stream.kind.encode()) + stream.name.encode()
    return seal(packed)


def _read_stream(inner: Path) -> StreamName | None:
    try:
        content = unseal((inner / STREAM).read_bytes())
    except OSError:
        return None
    if content is None or len(content) < _STREAM.size:
        return None
    magic, uuid, kind = _STREAM.unpack_from(content)
    if magic != _MAGIC or uuid.hex() != inner.name:
        return None
    return StreamName(uuid, kind.decode(), content[_STREAM.size :].decode())
