"""The disk of a running spool, or of outboxes: one thread that owns the log and the journal of each of the queues.

Whoever asks leaves requests and goes on; the thread takes all there are, appends what is to be appended, and commits
each stream once: one fdatasync for everything that has come meanwhile, and at once when it was idle. Answers go out in
the order of the requests of a stream, after what they say is true. A sync of 30 s holds up answers, and nothing else.

What else is to be done with its streams, journals, marks and trimming, is `upkeep`.

What was delivered is not written down message by message: a queue that was closed in order notes how far it had got
(the cursor `SENT`), which is taken back when it is opened, before anything leaves; without that note everything found
may have been delivered.

It is longer than most: its thread and its engine meet in the same few tables, and each step says whose turn it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

from zq.core.spooled import Item, Recovered, Room
from zq.errors import Error, Refused, SpoolDamaged, Timeout
from zq.logs import Logger
from zq.spool import clock
from zq.spool.bound import read_bound, write_bound
from zq.spool.disk import FULL
from zq.spool.log import SEGMENT
from zq.spool.opened import Opened, open_stream, settled_in
from zq.spool.requests import (
    Answers,
    Append,
    Call,
    Charge,
    Close,
    Look,
    Open,
    Read,
    Request,
    Settle,
    Sync,
)
from zq.spool.store import OUTBOX, QUEUE, WHAT, Store, open_store
from zq.spool.survey import Missing
from zq.spool.upkeep import MARK_EVERY, SENT, Upkeep
from zq.wire.batch import Run
from zq.wire.stored import Stamp, Stored, encode

log = Logger("zq.spool")

OPENING = 30.0  # s that a disk which is busy has to open one more stream
SEGMENTS = 16  # that a limit, or a whole small disk, is to have room for: room comes back a segment at a time
SEGMENT_LEAST = 64 << 10  # bytes
PIECE = 256 << 10  # bytes of a backlog that are read at once


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
            other = f"a {WHAT[QUEUE]}" if kind == OUTBOX else f"an {WHAT[OUTBOX]}"
            raise Refused(f"{directory} is {other}, and no {WHAT[kind]}; name an empty or a new directory")
        most = min(self.store.total(), self.store.total() if max_bytes is None else max_bytes)
        self._segment_bytes = min(max(most // SEGMENTS, SEGMENT_LEAST), SEGMENT)
        self._streams: dict[bytes, Opened] = {}
        self._requests: queue.SimpleQueue[Request | list[Request] | None] = queue.SimpleQueue()
        self._syncs: list[Sync] = []  # that were not answered yet
        self._over = False
        self._upkeep = Upkeep(self.store, answers, self._label)
        self._thread = threading.Thread(target=self._run, name=f"zq-disk-{directory.name}", daemon=True)
        for note in self.store.notes:
            log.warning("%s", note)

    def open(self, name: str) -> Recovered:
        """Opens the stream of a queue. Raises SpoolDamaged if the disk cannot be read or written, Timeout."""
        if self._thread.ident is None:
            return self._open(name)
        found: Future[Recovered] = Future()
        self._requests.put(Open(b"", name, found))
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
                if isinstance(request, Open):
                    request.found.set_exception(SpoolDamaged(reason))
        with contextlib.suppress(IndexError):  # two may do this at once
            while True:
                self._syncs.pop().done(reason)

    def _open(self, name: str) -> Recovered:
        stream = open_stream(self.store, self._kind, name, self._label(name), self._segment_bytes)
        opened, journal = stream.log, stream.journal
        doubtful = opened.safe
        if SENT in journal.cursors:
            doubtful = min(journal.cursors[SENT] - 1, opened.safe)
            try:
                journal.forget(SENT)
                journal.sync()
            except OSError as error:
                where = f"{self._label(name)} in {self.store.directory}"
                raise SpoolDamaged(f"{where} cannot be opened: {error}") from error
        attempts = {
            number: count for number, count in journal.attempts.items() if opened.first <= number <= opened.safe
        }
        self._streams[stream.uuid] = stream
        return Recovered(
            queue=name,
            stream=stream.uuid,
            first=opened.first,
            safe=opened.safe,
            doubtful=doubtful,
            settled=settled_in(opened, journal),
            attempts=attempts,
            room=self.room_of(stream),
            known=opened.known,
        )

    def _label(self, name: str) -> str:
        return f"the {'outbox' if self._kind == OUTBOX else 'spool'} of {name}"

    def open_strictly(self, kind: str, name: str, *, segment_bytes: int) -> Opened:
        """Opens a stream whose owner asks by `call`; before `start`. What cannot be stored is followed by nothing
        until he sets `refusing` to nothing. SpoolDamaged."""
        stream = open_stream(self.store, kind, name, f"the spool of {name}", segment_bytes)
        stream.strict = True
        self._streams[stream.uuid] = stream
        return stream

    def bound_to(self, stream: bytes) -> tuple[str, ...]:
        """The topics that a queue was bound to; before `start`."""
        return read_bound(self._streams[stream].disk, stream)

    def bind(self, stream: bytes, filters: Sequence[str]) -> None:
        """It is bound to these from now on."""

        def act(opened: Opened) -> bool:
            write_bound(opened.disk, stream, filters)
            return False

        self.call(stream, act)

    def call(self, stream: bytes, act: Callable[[Opened], bool]) -> None:
        """Does it in the thread, in order; True: the journal has something new. OSError is logged."""
        self._requests.put(Call(stream, act))

    def sync(self, stream: bytes, done: Callable[[str], object]) -> None:
        """Has all that was settled and noted before on the medium, then tells `done`, in the thread: an empty text, or
        why it is not there. In any case once."""
        request = Sync(stream, done)
        self._syncs.append(request)
        self._requests.put(request)
        if self._over:
            self._answer_no_more()

    def start(self) -> None:
        self.store.reserve.take()
        self._thread.start()

    # --- zq.core.spooled.Disk

    def append(self, stream: bytes, length: int, runs: Sequence[Run], body: bytes, flags: int) -> None:
        self._requests.put(Append(stream, length, runs, body, flags))

    def append_all(self, stream: bytes, batches: Sequence[Stored]) -> None:
        self._requests.put(
            [Append(stream, len(batch.items), batch.runs, encode(batch), batch.flags) for batch in batches]
        )

    def read(self, stream: bytes, first: int) -> None:
        self._requests.put(Read(stream, first))

    def settle(self, stream: bytes, first: int, last: int) -> None:
        self._requests.put(Settle(stream, first, last))

    def charge(self, stream: bytes, number: int, attempts: int) -> None:
        self._requests.put(Charge(stream, number, attempts))

    def look(self, stream: bytes) -> None:
        self._requests.put(Look(stream))

    @staticmethod
    def stamp() -> Stamp:
        return clock.stamp()

    # --- the end

    def end(self, stream: bytes, sent: int | None) -> None:
        """Everything of it was asked for; no message above `sent` was ever delivered; None: somebody else knows."""
        self._requests.put(Close(stream, sent))

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
                self._upkeep.close(stream, None)
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
                self._upkeep.close(stream, None)
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
            self._upkeep.write_marks(self._streams.values())
            self._upkeep.tidy(self._streams.values())
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
            if isinstance(request, Open):
                self._open_for(request)
        self._append_all([request for request in requests if isinstance(request, Append)])
        settled: set[bytes] = set()
        for request in requests:
            stream = self._streams.get(request.stream)
            if stream is None:
                continue
            if isinstance(request, Settle):
                stream.journal.settle(request.first, request.last)
                stream.settled.add(request.first, request.last)
                settled.add(request.stream)
            elif isinstance(request, Charge):
                stream.journal.charge(request.number, request.attempts)
                settled.add(request.stream)
            elif isinstance(request, Call) and self._act(stream, request.act):
                settled.add(request.stream)
        for id in settled:
            self._upkeep.write_journal(self._streams[id])
        for request in requests:
            stream = self._streams.get(request.stream)
            if stream is None:
                continue
            if isinstance(request, Sync):
                self._syncs.remove(request)
                request.done(self._upkeep.sync(stream))
            elif isinstance(request, Read):
                self._answers.records(request.stream, self.items_of(stream, request.first))
            elif isinstance(request, Look):
                self._answers.room(request.stream, self.room_of(stream))
            elif isinstance(request, Close):
                self._upkeep.close(self._streams.pop(request.stream), request.sent)
        self._upkeep.write_marks(self._streams.values())
        self._upkeep.tidy(self._streams.values())
        return go_on

    def _open_for(self, request: Open) -> None:
        if not request.found.set_running_or_notify_cancel():
            return
        try:
            request.found.set_result(self._open(request.name))
        except (Error, OSError) as error:
            request.found.set_exception(error)

    def _act(self, stream: Opened, act: Callable[[Opened], bool]) -> bool:
        try:
            return act(stream)
        except OSError as error:
            self._upkeep.complain(stream, f"its disk fails: {error}")
            return False

    def _append_all(self, appends: list[Append]) -> None:
        touched: dict[bytes, Opened] = {}
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

    def _refuse(self, appends: list[Append]) -> None:
        """What is left of the disk is for what frees it."""
        reason = f"{self.store.directory}: {os.strerror(errno.ENOSPC)}"
        for stream_id in dict.fromkeys(append.stream for append in appends):
            stream = self._streams[stream_id]
            stream.refusing = reason if stream.strict else ""
            count = sum(append.stream == stream_id for append in appends)
            self._answers.failed(stream_id, count, reason, True, self.room_of(stream))

    def room_of(self, stream: Opened) -> Room:
        return self._upkeep.room_of(stream)

    def items_of(self, stream: Opened, first: int) -> list[Item]:
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
