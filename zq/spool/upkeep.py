"""What a disk thread does with its streams beside storing and reading: journals, marks, trimming, and their end.

A full disk refuses what is new. What has been settled is written down all the same, in the room of the directory's
reserve if there is no other, so that segments go and room comes back. One message that nobody settles does not keep
the segment that it is in: once consumers have gone past that, it is written anew without what is settled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from zq.core.spooled import Room
from zq.logs import Logger
from zq.spool.disk import FULL
from zq.spool.opened import Opened
from zq.spool.record import Record
from zq.spool.requests import Answers
from zq.spool.store import Store
from zq.wire.batch import PARTS, Run
from zq.wire.data import Malformed
from zq.wire.stored import decode, encode, part_of

log = Logger("zq.spool")

SENT = ""  # the cursor of a stream that was closed: all from there on was never delivered
MARK_EVERY = 1.0  # s between marks while something new is stored
MARK_BYTES = 16 << 20  # and sooner than that when so much is new: recovery writes it again
TIDY_EVERY = 1.0  # s between looks at what stragglers hold, while something is settled


def _part(record: Record, start: int, stop: int) -> tuple[Sequence[Run], bytes] | None:
    if record.flags & PARTS:
        return None
    try:
        stored = decode(record.body, record.length, record.flags, record.runs)
        part = part_of(stored, [(start, stop)])
    except Malformed:
        return None
    return part.runs, encode(part)


class Upkeep:
    """Of all streams of one directory. Called in the thread of its disk."""

    def __init__(self, store: Store, answers: Answers, label: Callable[[str], str]) -> None:
        self._store = store
        self._answers = answers
        self._label = label

    def room_of(self, stream: Opened) -> Room:
        try:
            free = self._store.free()
        except OSError:
            free = 0
        return Room(stream.log.size, free)

    def write_journal(self, stream: Opened) -> None:
        """Hands it to the operating system, and removes what nobody needs any more."""
        stream.untidied = True
        try:
            self._with_reserve(lambda: self._write_and_trim(stream))
        except OSError as error:
            self.complain(stream, f"its journal cannot be written: {error}; what is settled may be delivered again")

    def _with_reserve(self, write: Callable[[], None]) -> None:
        """In the room of the reserve if there is no other. OSError."""
        try:
            write()
        except OSError as error:
            if error.errno not in FULL or not self._store.reserve.held:
                raise
            self._store.reserve.let_go()
            write()

    def sync(self, stream: Opened) -> str:
        try:
            self._with_reserve(stream.journal.sync)
        except OSError as error:
            stream.untidied = True
            return f"its journal in {stream.disk.directory} cannot be written: {error.strerror or error}"
        return ""

    def _write_and_trim(self, stream: Opened) -> None:
        stream.journal.write()
        below = stream.settled.first_missing(stream.log.first)
        if stream.log.holds_nothing_from(below):
            stream.journal.sync()
            stream.log.drop_below(below)
            stream.settled.forget_below(stream.log.first)
            self._answers.room(stream.uuid, self.room_of(stream))
        stream.journal.compact(stream.log.first)

    def tidy(self, streams: Iterable[Opened]) -> None:
        """Writes what of a journal could not be written, and anew, one at a time, the segments that are kept for
        stragglers alone."""
        now = time.monotonic()
        for stream in streams:
            if not stream.untidied or now - stream.tidied_at < TIDY_EVERY:
                continue
            stream.tidied_at, stream.untidied = now, False
            if stream.journal.is_behind:
                self.write_journal(stream)
                continue
            if stream.strict:
                continue  # of topics nothing is settled but the oldest
            try:
                if stream.log.is_worth_shrinking(stream.settled):
                    stream.journal.sync()
                    stream.untidied = stream.log.shrink(stream.settled, _part)
                    self._answers.room(stream.uuid, self.room_of(stream))
            except OSError as error:
                self.complain(stream, f"what is settled there keeps its room: {error}")

    def write_marks(self, streams: Iterable[Opened]) -> None:
        now = time.monotonic()
        for stream in streams:
            if stream.unmarked and (now - stream.marked_at >= MARK_EVERY or stream.log.unmarked >= MARK_BYTES):
                stream.marked_at, stream.unmarked = now, False
                try:
                    stream.log.write_mark(clean=False)
                except OSError as error:  # on a full disk the one before it stays
                    self.complain(stream, f"its mark cannot be written: {error}")

    def complain(self, stream: Opened, what: str) -> None:
        if what not in stream.complained:
            stream.complained.add(what)
            log.error("%s: %s", self._label(stream.name), what)

    def close(self, stream: Opened, sent: int | None) -> None:
        """Ends it in order; `sent` None: what had been delivered is not known."""
        try:
            if self._store.free() < self._store.reserve.size:
                self._store.reserve.let_go()  # for the mark and the last of the journal
            if sent is not None and not stream.log.may_return:  # what was given back has been delivered by others
                stream.journal.move(SENT, sent + 1)
            try:
                stream.journal.close()
            finally:
                stream.log.close()
        except OSError as error:
            log.error("%s was not closed in order: %s", self._label(stream.name), error)
        stream.disk.close()
