"""The host directory: how the peers of one user on one machine find each other, without any network.

Theory of operation. Each peer keeps one file, its entry, in a directory that only its user can enter::

    <first 16 hex digits of the id>.peer     JSON, flocked by the peer for as long as it lives
    <the same 16 digits>.<m|f|w>             its ipc sockets: mailbox, feed, work

An entry is written aside, flocked and then renamed into place, so whoever finds one finds it whole and locked. The
kernel drops the lock when the last descriptor goes, however the process ended: who gets the lock of an entry has
found a dead peer, and removes its sockets, then its entry. Locks belong to open files, not to names; a name may come
to stand for another file between opening and locking, so after locking the two are compared, and nothing is removed
when they differ. A scanner that finds an entry locked by another scanner takes a dead peer for a living one, until
its next scan; dialling it fails, which is harmless. The reverse, taking a living peer for a dead one, cannot happen.

Announce, then scan: of two peers that start at once, at least one then sees the other, and its HELLO does the rest.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Container, Sequence
from pathlib import Path

from zq.discovery.place import SHUT, SocketKind, default_directory, directories, fault, prepare, socket_path
from zq.errors import AccessDenied
from zq.logs import Logger
from zq.record import dataclass

__all__ = ["Entry", "HostDirectory", "SocketKind", "default_directory", "directories", "prepare", "socket_path"]

ENTRY_BYTES = 64 * 1024  # longest entry that is read; a real one has some 500
TEXT_BYTES = 1_024  # longest name, tag or endpoint in an entry
ENDPOINTS = 64  # most endpoints in an entry
TOUCH = 3_600.0  # s; systemd-tmpfiles removes what was not touched for 10 days
ASIDE = 60.0  # s a file written aside may wait for its rename, which takes well under one

_ENTRY_NAME = re.compile(r"([0-9a-f]{16})\.(peer|new)")

logger = Logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one peer tells the others on this machine. Raises ValueError for what cannot be one."""

    id: bytes  # 16 bytes
    tag: str  # of the realm, opaque here
    endpoints: tuple[str, ...]  # of the mailbox
    version: int  # of the protocol
    name: str

    def __post_init__(self) -> None:
        texts = (self.tag, self.name, *self.endpoints)
        if len(self.id) != 16 or len(self.endpoints) > ENDPOINTS:
            raise ValueError("an entry has an id of 16 bytes and at most 64 endpoints")
        if not all(isinstance(text, str) and len(text) <= TEXT_BYTES for text in texts):
            raise ValueError("the texts of an entry have at most 1,024 characters")
        if not isinstance(self.version, int) or isinstance(self.version, bool):
            raise ValueError("the version of an entry is a whole number")

    def encode(self) -> bytes:
        fields = {
            "id": self.id.hex(),
            "tag": self.tag,
            "endpoints": self.endpoints,
            "version": self.version,
            "name": self.name,
        }
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def decode(cls, raw: bytes) -> Entry:
        """Raises ValueError for anything that `encode` does not write; unknown fields are left to later versions."""
        fields = json.loads(raw)
        if not isinstance(fields, dict) or not isinstance(fields.get("endpoints"), list):
            raise ValueError("not an entry")
        try:
            return cls(
                id=bytes.fromhex(fields["id"]),
                tag=fields["tag"],
                endpoints=tuple(fields["endpoints"]),
                version=fields["version"],
                name=fields["name"],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an entry: {error}") from error


class HostDirectory:
    """Our entry, and those of others. Belongs to one thread; every call is quick.

    `directories` are read; the first, which gets our entry, is created. Raises AccessDenied if that is not ours
    alone; another one that is not is left out with a warning.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self.directory = directories[0]
        prepare(self.directory)
        self.unreadable = 0  # entries met that made no sense, each counted once
        self._directories = [self.directory]
        for other in directories[1:]:
            if wrong := fault(other):
                logger.warning("host directory %s %s; it is not read", other, wrong)
            else:
                self._directories.append(other)
        self._entry: Entry | None = None
        self._file: int | None = None  # our entry, open and locked
        self._touched: float | None = None
        self._complained: set[Path] = set()

    def announce(self, entry: Entry) -> None:
        """Makes our entry visible, or replaces it. Raises AccessDenied if it cannot be written."""
        aside, path = self._path(entry, "new"), self._path(entry, "peer")
        try:
            file = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with open(file, "wb", closefd=False) as stream:
                    stream.write(entry.encode())
                aside.rename(path)
            except OSError:
                os.close(file)
                raise
        except OSError as error:
            raise AccessDenied(
                f"cannot write {path}: {error.strerror}; make room or permission there, or set ZQ_HOST_DIR"
            ) from error
        if self._file is not None:
            os.close(self._file)  # only now: an entry is never to be seen unlocked
        self._file, self._entry = file, entry

    def scan(self, known: Container[str] = ()) -> list[Entry]:
        """The entries of living peers other than ours. Removes what dead ones left.

        Those in `known`, the first 16 hex digits of ids, are not looked at: hundreds of peers would otherwise read each
        other all the time, above all while they meet and have more to do than time.
        """
        entries: list[Entry] = []
        seen: set[Path] = set()
        for directory in self._directories:
            try:
                names = [path.name for path in directory.iterdir()]
            except OSError as error:
                self._complain(directory, error)
                seen.add(directory)
                continue
            for match in filter(None, map(_ENTRY_NAME.fullmatch, names)):
                path = directory / match[0]
                if self._entry is not None and match[1] == self._entry.id.hex()[:16]:
                    continue
                seen.add(path)
                if match[1] in known and match[2] == "peer":
                    continue
                if match[2] == "new":
                    self._clear_aside(path)
                elif (entry := self._look(path)) is not None:
                    entries.append(entry)
        self._complained &= seen  # bounded by what is there
        return entries

    def tend(self, now: float) -> None:
        """Writes our entry again if somebody removed it, and touches it and the sockets every hour.

        `now` is monotonic seconds. To be called every few seconds. Logs what it cannot do, once, and goes on trying.
        """
        if self._entry is None or self._file is None:
            return
        path = self._path(self._entry, "peer")
        try:
            if not _same(self._file, path):
                logger.warning("%s has disappeared; writing it again", path)
                prepare(self.directory)
                self.announce(self._entry)
            if self._touched is None:
                self._touched = now
            elif now - self._touched >= TOUCH:
                self._touched = now
                os.utime(path)
                for socket in _sockets(path):
                    os.utime(socket)
            self._complained.discard(path)
        except (OSError, AccessDenied) as error:
            self._complain(path, error)

    def close(self) -> None:
        """Removes our entry and whatever sockets are left beside it."""
        if self._file is None or self._entry is None:
            return
        path = self._path(self._entry, "peer")
        try:
            _remove(path)
        except OSError as error:
            self._complain(path, error)
        self.abandon()

    def abandon(self) -> None:
        """In a forked child: lets go of the parent's entry without touching it.

        The lock belongs to the open file that both share; closing this descriptor leaves it to the parent.
        """
        if self._file is not None:
            os.close(self._file)
        self._file = self._entry = None

    def _path(self, entry: Entry, suffix: str) -> Path:
        return self.directory / f"{entry.id.hex()[:16]}.{suffix}"

    def _look(self, path: Path) -> Entry | None:
        """The entry at `path`, or None if its peer is dead (then it is removed) or it makes no sense."""
        file = None
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_size > ENTRY_BYTES:
                raise ValueError("not a regular file of ours of at most 64 KiB")
            if _locked(file):
                if _same(file, path):
                    logger.info("%s is of a dead peer; removing it and its sockets", path)
                    _remove(path)
                return None
            entry = Entry.decode(os.read(file, ENTRY_BYTES))
            if entry.id.hex()[:16] != path.stem:
                raise ValueError("it is of another peer than its name says")
            return entry
        except FileNotFoundError:
            return None  # left, or was cleared by another scanner, since the listing
        except (OSError, ValueError, RecursionError) as error:
            self._complain(path, error)
            return None
        finally:
            if file is not None:
                os.close(file)

    def _clear_aside(self, path: Path) -> None:
        """Removes a file whose writer died before it could rename it."""
        try:
            if time.time() - path.lstat().st_mtime > ASIDE:
                path.unlink()
        except FileNotFoundError:
            pass  # renamed since the listing, as it should be
        except OSError as error:
            self._complain(path, error)

    def _complain(self, path: Path, error: Exception) -> None:
        if path not in self._complained:
            self._complained.add(path)
            self.unreadable += 1
            logger.warning("%s: %s", path, error)


def _locked(file: int) -> bool:
    """Whether we got the lock: nobody who lives holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(file: int, path: Path) -> bool:
    """Whether the name still stands for the open file."""
    try:
        named = path.lstat()
    except FileNotFoundError:
        return False
    opened = os.fstat(file)
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _sockets(path: Path) -> list[Path]:
    """The sockets that exist beside an entry."""
    suffixes = [f".{kind}{shut}" for kind in ("m", "f", "w") for shut in ("", SHUT)]
    return [socket for suffix in suffixes if (socket := path.with_suffix(suffix)).is_socket()]


def _remove(path: Path) -> None:
    """Sockets first: while the entry is there, somebody else finishes what is interrupted here."""
    for socket in _sockets(path):
        socket.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
