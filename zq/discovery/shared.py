"""The shared directory: how peers of different hosts find each other through a file system, where multicast is blocked.

Theory of operation. Each peer keeps one entry in the directory, `<id in hex>.peer`, the JSON of a host directory's
entry with TCP endpoints. It is written aside and renamed into place, so whoever reads one reads it whole; there are no
locks, which network file systems have in name only. It is touched every 10 s for as long as its peer lives.

Which entries are of the living nobody can tell from a clock: those of two hosts and of the server may differ by years.
So a peer watches: an entry that has not changed for 60 s by its own monotonic clock is stale, is not dialled any more,
and is removed. One that it sees for the first time may be of the living, however old it looks, and is dialled; that
costs a few refused connections. A peer whose entry was removed, because it stood still, writes it again.

All of it happens in a thread of its own, for a file system whose server is away blocks whoever asks. What fails is
logged once and tried again: a peer that cannot write (read-only, full, over quota) still reads, and dials; one that
can do neither goes on with its other rungs. An entry is a hint and makes its reader dial, nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

from zq.discovery.host import ENTRY_BYTES, Entry
from zq.logs import Logger
from zq.options import DIRECTORY_RUNG

LOOK = 2.0  # s between looks; network file systems cache a listing for 3 s and more anyway
TOUCH = 10.0  # s between touches of our entry
STALE = 60.0  # s without a change, by our own clock, after which an entry is of nobody
ENTRIES = 4_096  # most that are read in one look

_ENTRY_NAME = re.compile(r"([0-9a-f]{32})\.(peer|new)")

logger = Logger(__name__)


class SharedDirectory:
    """Our entry in `path`, and those of others, from `start` to `close`.

    `found` is called in the thread for every entry that may be of a living peer, at every look; `looked` once, after
    the first look, whatever came of it.
    """

    def __init__(
        self,
        path: Path,
        *,
        found: Callable[[Entry], None],
        looked: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        look: float = LOOK,
    ) -> None:
        self.path = path
        self.error: str | None = None  # what does not work at the moment
        self._found = found
        self._looked: Callable[[], None] | None = looked
        self._clock = clock
        self._look = look
        self._entry: Entry | None = None
        self._written: bytes | None = None
        self._touched = 0.0
        self._changed: dict[str, tuple[tuple[int, int, int], float]] = {}  # name: its state, when we first saw that
        self._unreadable: set[str] = set()
        self._news = threading.Condition()
        self._closing = False
        self._hurry = False
        self._thread = threading.Thread(target=self._run, name=f"zq-dir-{path.name}", daemon=True)

    # --- for the owner

    def start(self, entry: Entry) -> None:
        self._entry = entry
        self._thread.start()

    def announce(self, entry: Entry) -> None:
        """Our entry has changed."""
        with self._news:
            self._entry = entry
            self._hurry = True
            self._news.notify()

    def close(self, timeout: float = 1.0) -> None:
        """Removes our entry; waits for `timeout` seconds at most, for the server may be away."""
        with self._news:
            self._closing = True
            self._news.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                logger.warning("%s does not answer: our entry is left there", self.path)

    # --- the thread

    def _run(self) -> None:
        while True:
            self.tend()
            if (looked := self._looked) is not None:
                self._looked = None
                looked()
            with self._news:
                self._news.wait_for(lambda: self._closing or self._hurry, self._look)
                self._hurry = False
                if self._closing:
                    break
        self._withdraw()

    def tend(self) -> None:
        """One look: our entry first, so that of two who start at once at least one sees the other."""
        try:
            wrong = self._write()
            for entry in self._read():
                self._found(entry)
        except OSError as error:
            wrong = f"cannot be read: {error.strerror}"
        if wrong != self.error:
            if wrong is None:
                logger.info("shared directory %s works again", self.path)
            else:
                logger.warning("shared directory %s %s; it is tried again, other rungs go on", self.path, wrong)
        self.error = wrong

    def _write(self) -> str | None:
        """Our entry is there and fresh. Returns what is wrong."""
        entry = self._entry
        assert entry is not None
        text, now = entry.encode(), self._clock()
        path = self.path / f"{entry.id.hex()}.peer"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if text != self._written or not path.exists():
                aside = path.with_suffix(".new")
                try:
                    aside.write_bytes(text)
                    aside.replace(path)
                except OSError:
                    with contextlib.suppress(OSError):
                        aside.unlink()
                    raise
                self._written, self._touched = text, now
            elif now - self._touched >= TOUCH:
                os.utime(path)
                self._touched = now
        except OSError as error:
            return f"cannot be written, so that we find others there but they do not find us: {error.strerror}"
        return None

    def _read(self) -> list[Entry]:
        """The entries of others that may live; stale ones are removed. Raises OSError if nothing can be read."""
        assert self._entry is not None
        now, own = self._clock(), self._entry.id.hex()
        names = sorted(path.name for path in self.path.iterdir() if _ENTRY_NAME.fullmatch(path.name))
        entries: list[Entry] = []
        for name in names[:ENTRIES]:
            path = self.path / name
            if name.startswith(own):
                continue
            try:
                found = path.lstat()
                state = found.st_mtime_ns, found.st_size, found.st_ino
                known, since = self._changed.get(name, (None, 0.0))
                if known != state:
                    self._changed[name] = state, now
                elif now - since >= STALE:
                    path.unlink()
                    continue
                if name.endswith(".peer"):
                    entries.append(self._decode(path))
            except FileNotFoundError:
                continue  # left since the listing
            except (OSError, ValueError, RecursionError) as error:
                if name not in self._unreadable:
                    self._unreadable.add(name)
                    logger.warning("%s: %s", path, error)
        there = set(names)
        self._unreadable &= there
        self._changed = {name: state for name, state in self._changed.items() if name in there}
        return entries

    @staticmethod
    def _decode(path: Path) -> Entry:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(file, "rb") as stream:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise ValueError("not a regular file")
            raw = stream.read(ENTRY_BYTES + 1)
        if len(raw) > ENTRY_BYTES:
            raise ValueError("longer than 64 KiB")
        entry = Entry.decode(raw)
        if entry.id.hex() != path.stem:
            raise ValueError("it is of another peer than its name says")
        return entry

    def _withdraw(self) -> None:
        assert self._entry is not None
        try:
            (self.path / f"{self._entry.id.hex()}.peer").unlink(missing_ok=True)
        except OSError as error:
            logger.debug("our entry stays in %s: %s", self.path, error)


def shared_directories(rungs: tuple[str, ...]) -> list[Path]:
    """The paths of the `dir:` rungs among those of the settings."""
    chosen = [rung.removeprefix(DIRECTORY_RUNG) for rung in rungs if rung.startswith(DIRECTORY_RUNG)]
    return [Path(path).expanduser() for path in chosen]
