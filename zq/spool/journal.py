"""What became of a stream's messages: settled numbers, charged attempts, named cursors. One file beside its segments.

    entry  size 1 | kind 1 | fields | CRC 4        kinds, with their fields:
        S  settled   first 8, last 8
        A  attempt   number 8, attempts so far 2
        C  cursor    number of the next message it wants 8, name
        F  forgotten name of a cursor
        B  begin     stream 16
        M  moved     as S, for one cursor: first 8, last 8, name
        X  charged   as A, for one cursor: number 8, attempts so far 2, name
        T  told      highest number that may have been delivered by a cursor 8, its name; all bits: not known

It is appended to without a sync, except before segments are removed: what a power cut takes from its end costs messages
that are delivered again, never one that is lost. Damage ends it where it is: what follows could say that something is
settled that a compaction had cleared. When most of it is out of date it is written anew: aside, synced, renamed. The
same is done when it is opened, and after a write or a sync of it has failed: what a write had torn would hide all that
follows it, and what a sync has lost the next one on that file would not bring back.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from zlib import crc32

from zq.core.ranges import Ranges
from zq.record import dataclass, field
from zq.spool.disk import Disk, File

JOURNAL, ASIDE = "journal", "journal.new"
COMPACT_FROM = 1 << 20  # bytes; a smaller journal is left as it is
_BEGIN, _SETTLED, _ATTEMPT, _CURSOR, _FORGOTTEN = b"B", b"S", b"A", b"C", b"F"
_MOVED, _CHARGED, _TOLD = b"M", b"X", b"T"
_UNKNOWN = (1 << 64) - 1
_RANGE = struct.Struct(">QQ")
_CHARGE = struct.Struct(">QH")
_NUMBER = struct.Struct(">Q")


def _entry(kind: bytes, fields: bytes) -> bytes:
    framed = bytes([len(fields)]) + kind + fields
    return framed + crc32(framed).to_bytes(4, "big")


def _entries(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """(end, kind, fields) of each entry, up to the first that does not verify."""
    at = 0
    while at + 6 <= len(data):
        end = at + 6 + data[at]
        framed = data[at : end - 4]
        if end > len(data) or crc32(framed).to_bytes(4, "big") != data[end - 4 : end]:
            return
        yield end, framed[1:2], framed[2:]
        at = end


@dataclass(slots=True)
class Place:
    """A cursor, beside where it began."""

    settled: Ranges = field(default_factory=Ranges)
    attempts: dict[int, int] = field(default_factory=dict)
    sent: int | None = None  # nothing above it was ever delivered; None: not known


class Journal:
    """What became of the messages of one stream. Not thread-safe. `open` before anything else."""

    def __init__(self, disk: Disk, stream: bytes) -> None:
        self._disk = disk
        self._stream = stream
        self._file: File | None = None
        self._unwritten: list[bytes] = []
        self._spoiled = False  # a write or a sync of its file has failed
        self._look_at = COMPACT_FROM  # bytes from which it may be worth being written anew
        self.settled = Ranges()
        self.attempts: dict[int, int] = {}
        self.cursors: dict[str, int] = {}
        self.places: dict[str, Place] = {}  # of cursors that move by ranges: those of topics
        self.damaged = False  # something at its end, or all of it, could not be read

    def open(self) -> None:
        data = b""
        if JOURNAL in self._disk.names():
            file = self._disk.open(JOURNAL)
            size = file.size
            file.close()
            data = self._disk.read(JOURNAL, 0, size)
        good = 0
        for number, (end, kind, fields) in enumerate(_entries(data)):
            if number == 0 and (kind != _BEGIN or fields != self._stream):
                break
            self._replay(kind, fields)
            good = end
        self.damaged = good < len(data)
        if self.damaged:
            taken = self._disk.names()
            bad = (f"{JOURNAL}{number}.bad" for number in ("", *(f".{at}" for at in range(1, len(taken) + 1))))
            self._copy(data, next(name for name in bad if name not in taken))
        try:
            self._write_anew()  # what it says may be in memory only, a sync having failed, and hide what is behind it
        except OSError:
            if self.damaged or not data:
                raise
            self._file = self._disk.open(JOURNAL)  # on a full disk; it is written anew before anything is added

    def _copy(self, data: bytes, name: str) -> None:
        """Before it is written anew without what could not be read; until then it stays where it was."""
        file = self._disk.open(name)
        try:
            file.write(data)
            file.sync()
        finally:
            file.close()

    def _replay(self, kind: bytes, fields: bytes) -> None:
        if kind == _SETTLED:
            self.settled.add(*_RANGE.unpack(fields))
        elif kind == _ATTEMPT:
            number, attempts = _CHARGE.unpack(fields)
            self.attempts[number] = attempts
        elif kind == _CURSOR:
            self.cursors[fields[8:].decode()] = _NUMBER.unpack_from(fields)[0]
        elif kind == _FORGOTTEN:
            self.cursors.pop(fields.decode(), None)
            self.places.pop(fields.decode(), None)
        elif kind == _MOVED:
            self._place(fields[16:].decode()).settled.add(*_RANGE.unpack_from(fields))
        elif kind == _CHARGED:
            number, attempts = _CHARGE.unpack_from(fields)
            self._place(fields[10:].decode()).attempts[number] = attempts
        elif kind == _TOLD:
            sent = _NUMBER.unpack_from(fields)[0]
            self._place(fields[8:].decode()).sent = None if sent == _UNKNOWN else sent

    def _place(self, cursor: str) -> Place:
        self.cursors.setdefault(cursor, 1)
        return self.places.setdefault(cursor, Place())

    # --- changes; on the disk after the next `write`

    def settle(self, first: int, last: int) -> None:
        self.settled.add(first, last)
        self._unwritten.append(_entry(_SETTLED, _RANGE.pack(first, last)))
        for number in [number for number in self.attempts if first <= number <= last]:
            del self.attempts[number]

    def charge(self, number: int, attempts: int) -> None:
        self.attempts[number] = attempts
        self._unwritten.append(_entry(_ATTEMPT, _CHARGE.pack(number, min(attempts, 0xFFFF))))

    def move(self, cursor: str, number: int) -> None:
        """The cursor wants `number` next."""
        self.cursors[cursor] = number
        self._unwritten.append(_entry(_CURSOR, _NUMBER.pack(number) + cursor.encode()))

    def position_of(self, cursor: str) -> int:
        """The oldest message that a cursor has not settled."""
        place = self.places.get(cursor)
        at = self.cursors[cursor]
        return at if place is None else place.settled.first_missing(at)

    def begin(self, cursor: str, number: int) -> None:
        """A cursor that moves by ranges wants `number` first."""
        self.move(cursor, number)
        self.end(cursor, None)

    def settle_at(self, cursor: str, first: int, last: int) -> None:
        place = self._place(cursor)
        place.settled.add(first, last)
        self._unwritten.append(_entry(_MOVED, _RANGE.pack(first, last) + cursor.encode()))
        for number in [number for number in place.attempts if first <= number <= last]:
            del place.attempts[number]

    def charge_at(self, cursor: str, number: int, attempts: int) -> None:
        self._place(cursor).attempts[number] = attempts
        self._unwritten.append(_entry(_CHARGED, _CHARGE.pack(number, min(attempts, 0xFFFF)) + cursor.encode()))

    def end(self, cursor: str, sent: int | None) -> None:
        """By that cursor nothing above `sent` was ever delivered; None: from now on nobody knows."""
        self._place(cursor).sent = sent
        packed = _NUMBER.pack(_UNKNOWN if sent is None else sent)
        self._unwritten.append(_entry(_TOLD, packed + cursor.encode()))

    def forget(self, cursor: str) -> None:
        self.places.pop(cursor, None)
        del self.cursors[cursor]
        self._unwritten.append(_entry(_FORGOTTEN, cursor.encode()))

    @property
    def highest(self) -> int:
        """The highest message that it tells of: it had been confirmed, whatever its log has of it now."""
        told = [*map(self._end_of, (self.settled, *(place.settled for place in self.places.values())))]
        return max([*told, *(at - 1 for at in self.cursors.values()), *self.attempts], default=0)

    @staticmethod
    def _end_of(ranges: Ranges) -> int:
        return max((last for _, last in ranges), default=0)

    @property
    def is_behind(self) -> bool:
        """Whether something is not in its file, or may not be."""
        return self._spoiled or bool(self._unwritten)

    def write(self) -> None:
        """Hands all changes to the operating system: a killed process loses none of them. OSError."""
        assert self._file is not None
        if self._spoiled:
            self._write_anew()
        elif self._unwritten:
            self._spoiled = True  # unless all goes well
            self._file.write(b"".join(self._unwritten))
            self._spoiled = False
            self._unwritten.clear()

    def sync(self) -> None:
        """All changes are on the medium. OSError."""
        assert self._file is not None
        self.write()
        self._spoiled = True
        self._file.sync()
        self._spoiled = False

    def compact(self, first: int) -> None:
        """Forgets what lies below `first`, the oldest message there is, once that is worth writing it anew. OSError."""
        assert self._file is not None
        if self._file.size < self._look_at:
            return
        self.settled.forget_below(first)
        for number in [number for number in self.attempts if number < first]:
            del self.attempts[number]
        for cursor, place in self.places.items():
            self.cursors[cursor] = self.position_of(cursor)  # where that is trimmed, its reader is to see a gap
            place.settled.forget_below(self.cursors[cursor])
        size = sum(map(len, self._snapshot()))
        if self._file.size > 2 * size:
            self._write_anew()
        self._look_at = max(2 * size, COMPACT_FROM)

    def _snapshot(self) -> list[bytes]:
        return [
            _entry(_BEGIN, self._stream),
            *[_entry(_SETTLED, _RANGE.pack(first, last)) for first, last in self.settled],
            *[_entry(_ATTEMPT, _CHARGE.pack(number, min(most, 0xFFFF))) for number, most in self.attempts.items()],
            *[_entry(_CURSOR, _NUMBER.pack(at) + name.encode()) for name, at in self.cursors.items()],
            *[entry for name, place in self.places.items() for entry in self._entries_of(name.encode(), place)],
        ]

    @staticmethod
    def _entries_of(name: bytes, place: Place) -> Iterator[bytes]:
        for first, last in place.settled:
            yield _entry(_MOVED, _RANGE.pack(first, last) + name)
        for number, most in place.attempts.items():
            yield _entry(_CHARGED, _CHARGE.pack(number, min(most, 0xFFFF)) + name)
        yield _entry(_TOLD, _NUMBER.pack(_UNKNOWN if place.sent is None else place.sent) + name)

    def _write_anew(self) -> None:
        self._spoiled = True  # unless all goes well
        if ASIDE in self._disk.names():
            self._disk.remove(ASIDE)
        file = self._disk.open(ASIDE)
        try:
            file.write(b"".join(self._snapshot()))
            file.sync()
            self._disk.rename(ASIDE, JOURNAL)
            self._disk.sync()
        except OSError:
            file.close()
            with contextlib.suppress(OSError):  # it takes room that others may need
                if ASIDE in self._disk.names():
                    self._disk.remove(ASIDE)
            raise
        if self._file is not None:
            self._file.close()
        self._file, self._spoiled = file, False
        self._unwritten.clear()

    def close(self) -> None:
        """OSError; it is closed all the same."""
        if self._file is None:
            return
        try:
            self.sync()
        finally:
            self._file.close()
            self._file = None
