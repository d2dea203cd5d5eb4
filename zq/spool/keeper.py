"""The disk of a running spool, or of outboxes: one thread that owns the log and the journal of each of the queues.

Whoever asks leaves requests and goes on; the thread takes all there are, appends what is to be appended, and commits
each stream once: one fdatasync for everything that has come meanwhile, and at once when it was idle. Answers go out in
the order of the requests of a stream, after what they say is true. A sync of 30 s holds up answers, and nothing else.

A full disk refuses what is new. What has been settled is written down all the same, in the room of the directory's
reserve if there is no other, so that segments go and room comes back. One message that nobody settles does not keep
the segment that it is in: once consumers have gone past that, it is written anew without what is settled.

What was delivered is not written down message by message: a queue that was closed in order notes how far it had got
(the cursor `SENT`), which is taken back when it is opened, before anything leaves; without that note everything found
may have been delivered.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple, Protocol

from zq.core.ranges import Ranges
from zq.core.spooling import Item, Recovered, Room
from zq.errors import Error, Refused, SpoolDamaged, Timeout
from zq.logs import Logger
from zq.record import dataclass, field
from zq.spool import clock
from zq.spool.bound import read_bound, write_bound
from zq.spool.disk import FULL, DirectoryDisk
from zq.spool.journal import Journal
from zq.spool.log import SEGMENT, Log, Missing
from zq.spool.record import Record
from zq.spool.store import OUTBOX, QUEUE, STREAM, WHAT, Store, open_store
from zq.wire.batch import PARTS, Run
from zq.wire.data import Malformed
from zq.wire.stored import Stamp, Stored, decode, encode, part_of

log = Logger("zq.spool")

SENT = ""  # the cursor of a stream that was closed: all from there on was never delivered
MARK_EVERY = 1.0  # s between marks while something new is stored
MARK_BYTES = 16 << 20  # and sooner than that when so much is new: recovery writes it again
OPENING = 30.0  # s that a disk which is busy has to open one more stream
TIDY_EVERY = 1.0  # s between looks at what stragglers hold, while something is settled
SEGMENTS = 16  # that a limit, or a whole small disk, is to have room for: room comes back a segment at a time
SEGMENT_LEAST = 64 << 10  # bytes
PIECE = 256 << 10  # bytes of a backlog that are read at once


class _Append(NamedTuple):
    stream: bytes
    length: int
    runs: Sequence[Run]
    body: bytes
    flags: int


class _Read(NamedTuple):
    stream: bytes
    first: int


class _Settle(NamedTuple):
    stream: bytes
    first: int
    last: int


class _Charge(NamedTuple):
    stream: bytes
    number: int
    attempts: int


class _Look(NamedTuple):
    stream: bytes


class _Close(NamedTuple):
    stream: bytes
    sent: int | None


class _Open(NamedTuple):
    stream: bytes  # none yet
    name: str
    found: Future[Recovered]


class _Call(NamedTuple):
    stream: bytes
    act: Callable[[_Stream], bool]


class _Sync(NamedTuple):
    stream: bytes
    done: Callable[[str], object]


Request = _Append | _Read | _Settle | _Charge | _Look | _Close | _Open | _Call | _Sync


class Answers(Protocol):
    """Where answers go; called in the thread of the disk."""

    def stored(self, stream: bytes, firsts: Sequence[int], room: Room) -> None: ...

    def failed(self, stream: bytes, count: int, reason: str, full: bool, room: Room) -> None: ...

    def records(self, stream: bytes, items: Sequence[Item]) -> None: ...

    def room(self, stream: bytes, room: Room) -> None: ...

    def ended(self) -> None:
        """The thread is over."""


@dataclass(eq=False, slots=True)
class _Stream:
    name: str
    log: Log
    journal: Journal
    disk: DirectoryDisk
    settled: Ranges  # a copy of the journal's, for the thread alone
    marked_at: float = 0.0
    unmarked: bool = False
    firsts: list[int] = field(default_factory=list)
    tidied_at: float = 0.0
    untidied: bool = False  # something was settled since
    complained: set[str] = field(default_factory=set)
    made: float = 0.0  # wall clock
    strict: bool = False  # what comes behind something that could not be stored is not stored either
    refusing: str = ""  # why, until somebody has looked


OpenStream = _Stream  # as `Keeper.call` gives it


def _part(record: Record, start: int, stop: int) -> tuple[Sequence[Run], bytes] | None:
    if record.flags & PARTS:
        return None
    try:
        stored = decode(record.body, record.length, record.flags, record.runs)
        part = part_of(stored, [(start, stop)])
    except Malformed:
        return None
    return part.runs, encode(part)


class Keeper:
    """The open directory of a spool and its thread. All methods but `close` return at once."""

    def __init__(self, directory: Path, answers: Answers, max_bytes: int | None = None, *, kind: str = QUEUE) -> None:
        """`kind`: that of the streams that it keeps, QUEUE or OUTBOX; Refused if those there are of the other.
        `max_bytes`: what each stream may take."""
        self._answers = answers
        self._kind = kind
        self.store: Store = open_store(directory, what=WHAT[kind])
        others = [stream.name for stream in self.store.streams() if (stream.kind == OUTBOX) != (kind == OUTBOX)]
        if others:
            self.store.close()
            other = WHAT[QUEUE if kind == OUTBOX else OUTBOX]
            raise Refused(f"{directory} is an {other}" if kind == QUEUE else f"{directory} is a {other}")
        most = min(self.store.total(), self.store.total() if max_bytes is None else max_bytes)
        self._segment_bytes = min(max(most // SEGMENTS, SEGMENT_LEAST), SEGMENT)
        self._streams: dict[bytes, _Stream] = {}
        self._requests: queue.SimpleQueue[Request | list[Request] | None] = queue.SimpleQueue()
        self._syncs: list[_Sync] = []  # that were not answered yet
        self._over = False
        self._thread = threading.Thread(target=self._run, name=f"zq-disk-{directory.name}", daemon=True)
        for note in self.store.notes:
            log.warning("%s", note)

    def open(self, name: str) -> Recovered:
        """Opens the stream of a queue. Raises SpoolDamaged if the disk cannot be read or written, Timeout."""
        if self._thread.ident is None:
            return self._open(name)
        found: Future[Recovered] = Future()
        self._requests.put(_Open(b"", name, found))
        if self._over:
            self._answer_no_more()
        try:
            return found.result(OPENING)
        except TimeoutError:
            found.cancel()
            raise Timeout(f"the disk of {self.store.directory} has not answered within {OPENING} s") from None

    def _answer_no_more(self) -> None:
        """Nobody else answers those who ask now."""
        reason = f"the disk thread of {self.store.directory} has ended"
        with contextlib.suppress(queue.Empty):
            while True:
                request = self._requests.get_nowait()
                if isinstance(request, _Open):
                    request.found.set_exception(SpoolDamaged(reason))
        while self._syncs:
            self._syncs.pop().done(reason)

    def _open(self, name: str) -> Recovered:
        try:
            stream, disk = self.store.stream(self._kind, name)
            opened = Log(disk, stream.uuid, wall=time.time, segment_bytes=self._segment_bytes)
            opened.open()
            journal = Journal(disk, stream.uuid)
            journal.open()
            opened.expect(journal.highest)
            doubtful = opened.safe
            if SENT in journal.cursors:
                doubtful = min(journal.cursors[SENT] - 1, opened.safe)
                journal.forget(SENT)
                journal.sync()
        except OSError as error:
            where = f"{self._label(name)} in {self.store.directory}"
            raise SpoolDamaged(f"{where} cannot be opened: {error}") from error
        for found in opened.found:
            log.warning("%s: %s from %d to %d: %s", self._label(name), *found)
        for lost in opened.lost:
            log.error("%s has lost messages %d to %d", self._label(name), lost.first, lost.last)
        settled, copy = Ranges(), Ranges()
        for first, last in journal.settled:
            if first <= opened.safe:
                settled.add(first, min(last, opened.safe))
                copy.add(first, min(last, opened.safe))
        attempts = {
            number: count for number, count in journal.attempts.items() if opened.first <= number <= opened.safe
        }
        self._streams[stream.uuid] = _Stream(name, opened, journal, disk, copy)
        return Recovered(
            queue=name,
            stream=stream.uuid,
            first=opened.first,
            safe=opened.safe,
            doubtful=doubtful,
            settled=settled,
            attempts=attempts,
            room=self.room_of(self._streams[stream.uuid]),
            known=opened.known,
        )

    def _label(self, name: str) -> str:
        return f"the {'outbox' if self._kind == OUTBOX else 'spool'} of {name}"

    def open_stream(self, kind: str, name: str, *, segment_bytes: int) -> tuple[bytes, OpenStream]:
        """Opens a stream whose owner asks by `call`; before `start`. What cannot be stored is followed by nothing
        until he sets `refusing` to nothing. SpoolDamaged."""
        try:
            stream, disk = self.store.stream(kind, name)
            opened = Log(disk, stream.uuid, wall=time.time, segment_bytes=segment_bytes)
            opened.open()
            journal = Journal(disk, stream.uuid)
            journal.open()
            opened.expect(journal.highest)
            made = (disk.directory / STREAM).stat().st_mtime
        except OSError as error:
            raise SpoolDamaged(f"the spool of {name} in {self.store.directory} cannot be opened: {error}") from error
        for found in opened.found:
            log.warning("the spool of %s: %s from %d to %d: %s", name, found.file, found.offset, found.end, found.what)
        for lost in opened.lost:
            log.error("the spool of %s has lost messages %d to %d", name, lost.first, lost.last)
        settled = Ranges()
        for first, last in journal.settled:
            if first <= opened.safe:
                settled.add(first, min(last, opened.safe))
        row = self._streams[stream.uuid] = _Stream(name, opened, journal, disk, settled, made=made, strict=True)
        return stream.uuid, row

    def bound_to(self, stream: bytes) -> tuple[str, ...]:
        """The topics that a queue was bound to; before `start`."""
        return read_bound(self._streams[stream].disk, stream)

    def bind(self, stream: bytes, filters: Sequence[str]) -> None:
        """It is bound to these from now on."""

        def act(opened: OpenStream) -> bool:
            write_bound(opened.disk, stream, filters)
            return False

        self.call(stream, act)

    def call(self, stream: bytes, act: Callable[[OpenStream], bool]) -> None:
        """Does it in the thread, in order; True: the journal has something new. OSError is logged."""
        self._requests.put(_Call(stream, act))

    def sync(self, stream: bytes, done: Callable[[str], object]) -> None:
        """Has all that was settled and noted before on the medium, then tells `done`, in the thread: an empty text, or
        why it is not there. In any case once."""
        request = _Sync(stream, done)
        self._syncs.append(request)
        self._requests.put(request)
        if self._over:
            self._answer_no_more()

    def start(self) -> None:
        self.store.reserve.take()
        self._thread.start()

    # --- zq.core.spooling.Disk

    def append(self, stream: bytes, length: int, runs: Sequence[Run], body: bytes, flags: int) -> None:
        self._requests.put(_Append(stream, length, runs, body, flags))

    def append_all(self, stream: bytes, batches: Sequence[Stored]) -> None:
        self._requests.put(
            [_Append(stream, len(batch.items), batch.runs, encode(batch), batch.flags) for batch in batches]
        )

    def read(self, stream: bytes, first: int) -> None:
        self._requests.put(_Read(stream, first))

    def settle(self, stream: bytes, first: int, last: int) -> None:
        self._requests.put(_Settle(stream, first, last))

    def charge(self, stream: bytes, number: int, attempts: int) -> None:
        self._requests.put(_Charge(stream, number, attempts))

    def look(self, stream: bytes) -> None:
        self._requests.put(_Look(stream))

    @staticmethod
    def stamp() -> Stamp:
        return clock.stamp()

    # --- the end

    def end(self, stream: bytes, sent: int | None) -> None:
        """Everything of it was asked for; no message above `sent` was ever delivered; None: somebody else knows."""
        self._requests.put(_Close(stream, sent))

    def finish(self) -> None:
        """Does what was asked for, then ends; `Answers.ended` says so."""
        self._requests.put(None)

    @property
    def is_running(self) -> bool:
        return not self._over

    def close(self, timeout: float | None = None) -> bool:
        """Waits until all that was asked for is done, and lets go of the directory. False if that takes longer: it is
        done some time later."""
        self._requests.put(None)
        if self._thread.ident is None:
            for stream in self._streams.values():
                self._close(stream, None)
            self.store.close()
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # --- the thread

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception:
            log.exception("the disk thread of %s has ended", self.store.directory)
        try:
            for stream in self._streams.values():
                self._close(stream, None)
        except Exception:  # that which has ended it, most likely: those who wait are told all the same
            log.exception("%s was not closed in order", self.store.directory)
        finally:
            self.store.close()
            self._over = True
            self._answer_no_more()
            self._answers.ended()

    def _turn(self) -> bool:
        """Does all that has been asked for meanwhile; False when that is over."""
        unfinished = any(stream.unmarked or stream.untidied for stream in self._streams.values())
        try:
            request = self._requests.get(timeout=MARK_EVERY if unfinished else None)
        except queue.Empty:
            self._write_marks()
            self._tidy()
            return True
        requests: list[Request] = []
        go_on = True
        while True:
            if request is None:
                go_on = False
            elif isinstance(request, list):
                requests += request
            else:
                requests.append(request)
            try:
                request = self._requests.get_nowait()
            except queue.Empty:
                break
        for request in requests:
            if isinstance(request, _Open):
                self._open_for(request)
        self._append_all([request for request in requests if isinstance(request, _Append)])
        settled: set[bytes] = set()
        for request in requests:
            stream = self._streams.get(request.stream)
            if stream is None:
                continue
            if isinstance(request, _Settle):
                stream.journal.settle(request.first, request.last)
                stream.settled.add(request.first, request.last)
                settled.add(request.stream)
            elif isinstance(request, _Charge):
                stream.journal.charge(request.number, request.attempts)
                settled.add(request.stream)
            elif isinstance(request, _Call) and self._act(stream, request.act):
                settled.add(request.stream)
        for id in settled:
            self._write_journal(id, self._streams[id])
        for request in requests:
            stream = self._streams.get(request.stream)
            if stream is None:
                continue
            if isinstance(request, _Sync):
                self._syncs.remove(request)
                request.done(self._sync(stream))
            elif isinstance(request, _Read):
                self._answers.records(request.stream, self.items_of(stream, request.first))
            elif isinstance(request, _Look):
                self._answers.room(request.stream, self.room_of(stream))
            elif isinstance(request, _Close):
                self._close(self._streams.pop(request.stream), request.sent)
        self._write_marks()
        self._tidy()
        return go_on

    def _open_for(self, request: _Open) -> None:
        if not request.found.set_running_or_notify_cancel():
            return
        try:
            request.found.set_result(self._open(request.name))
        except (Error, OSError) as error:
            request.found.set_exception(error)

    def _act(self, stream: _Stream, act: Callable[[OpenStream], bool]) -> bool:
        try:
            return act(stream)
        except OSError as error:
            self._complain(stream, f"its disk fails: {error}")
            return False

    def _append_all(self, appends: list[_Append]) -> None:
        touched: dict[bytes, _Stream] = {}
        if appends and not self.store.reserve.take():
            self._refuse(appends)
            return
        for stream_id, length, runs, body, flags in appends:
            stream = self._streams[stream_id]
            if stream.refusing:
                self._answers.failed(stream_id, 1, stream.refusing, True, self.room_of(stream))
                continue
            touched[stream_id] = stream
            stream.firsts.append(stream.log.append(length, runs, body, flags))
        for stream_id, stream in touched.items():
            firsts, stream.firsts = stream.firsts, []
            before = stream.log.safe
            try:
                stream.log.commit()
            except OSError as error:
                # A segment may have been full on the way: what went into it is safe, and was taken.
                done = [first for first in firsts if first <= stream.log.safe and first > before]
                if done:
                    self._answers.stored(stream_id, done, self.room_of(stream))
                reason = f"{self.store.directory}: {error.strerror or error}"
                full = error.errno in FULL
                stream.refusing = reason if stream.strict else ""
                self._answers.failed(stream_id, len(firsts) - len(done), reason, full, self.room_of(stream))
            else:
                self._answers.stored(stream_id, firsts, self.room_of(stream))
            stream.unmarked = True

    def _refuse(self, appends: list[_Append]) -> None:
        """What is left of the disk is for what frees it."""
        reason = f"{self.store.directory}: {os.strerror(errno.ENOSPC)}"
        for stream_id in dict.fromkeys(append.stream for append in appends):
            stream = self._streams[stream_id]
            stream.refusing = reason if stream.strict else ""
            count = sum(append.stream == stream_id for append in appends)
            self._answers.failed(stream_id, count, reason, True, self.room_of(stream))

    def room_of(self, stream: _Stream) -> Room:
        try:
            free = self.store.free()
        except OSError:
            free = 0
        return Room(stream.log.size, free)

    def items_of(self, stream: _Stream, first: int) -> list[Item]:
        """A piece of it, from there on; none if it cannot be read."""
        try:
            items = stream.log.read(first, PIECE)
        except OSError as error:
            log.error("%s cannot be read from message %d on: %s", self._label(stream.name), first, error)
            return []
        return [
            Item(item.first, item.last, 0, (), None)
            if isinstance(item, Missing)
            else Item(item.first, item.last, item.flags, item.runs, item.body)
            for item in items
        ]

    def _write_journal(self, id: bytes, stream: _Stream) -> None:
        """Hands it to the operating system, and removes what nobody needs any more."""
        stream.untidied = True
        try:
            self._with_reserve(lambda: self._write_and_trim(id, stream))
        except OSError as error:
            self._complain(stream, f"its journal cannot be written: {error}; what is settled may be delivered again")

    def _with_reserve(self, write: Callable[[], None]) -> None:
        """In the room of the reserve if there is no other. OSError."""
        try:
            write()
        except OSError as error:
            if error.errno not in FULL or not self.store.reserve.held:
                raise
            self.store.reserve.let_go()
            write()

    def _sync(self, stream: _Stream) -> str:
        try:
            self._with_reserve(stream.journal.sync)
        except OSError as error:
            stream.untidied = True
            return f"its journal in {stream.disk.directory} cannot be written: {error.strerror or error}"
        return ""

    def _write_and_trim(self, id: bytes, stream: _Stream) -> None:
        stream.journal.write()
        below = stream.settled.first_missing(stream.log.first)
        if stream.log.holds_nothing_from(below):
            stream.journal.sync()
            stream.log.drop_below(below)
            stream.settled.forget_below(stream.log.first)
            self._answers.room(id, self.room_of(stream))
        stream.journal.compact(stream.log.first)

    def _tidy(self) -> None:
        """Writes what of a journal could not be written, and anew, one at a time, the segments that are kept for
        stragglers alone."""
        now = time.monotonic()
        for id, stream in self._streams.items():
            if not stream.untidied or now - stream.tidied_at < TIDY_EVERY:
                continue
            stream.tidied_at, stream.untidied = now, False
            if stream.journal.is_behind:
                self._write_journal(id, stream)
                continue
            if stream.strict:
                continue  # of topics nothing is settled but the oldest
            try:
                if stream.log.is_worth_shrinking(stream.settled):
                    stream.journal.sync()
                    stream.untidied = stream.log.shrink(stream.settled, _part)
                    self._answers.room(id, self.room_of(stream))
            except OSError as error:
                self._complain(stream, f"what is settled there keeps its room: {error}")

    def _write_marks(self) -> None:
        now = time.monotonic()
        for stream in self._streams.values():
            if stream.unmarked and (now - stream.marked_at >= MARK_EVERY or stream.log.unmarked >= MARK_BYTES):
                stream.marked_at, stream.unmarked = now, False
                try:
                    stream.log.write_mark(clean=False)
                except OSError as error:  # on a full disk the one before it stays
                    self._complain(stream, f"its mark cannot be written: {error}")

    def _complain(self, stream: _Stream, what: str) -> None:
        if what not in stream.complained:
            stream.complained.add(what)
            log.error("%s: %s", self._label(stream.name), what)

    def _close(self, stream: _Stream, sent: int | None) -> None:
        """Ends it in order; `sent` None: what had been delivered is not known."""
        try:
            if self.store.free() < self.store.reserve.size:
                self.store.reserve.let_go()  # for the mark and the last of the journal
            if sent is not None and not stream.log.may_return:  # what was given back has been delivered by others
                stream.journal.move(SENT, sent + 1)
            try:
                stream.journal.close()
            finally:
                stream.log.close()
        except OSError as error:
            log.error("%s was not closed in order: %s", self._label(stream.name), error)
        stream.disk.close()
