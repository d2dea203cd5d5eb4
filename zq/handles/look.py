"""A running spool as others look at it, and how a peer asks those of its realm.

What is on the disk is read from the files, in a thread of its own, beside the one that writes them (see
`zq.spool.shelf`): neither the engine nor the disk is held up. What changes something is done where it is kept.

It is longer than most: each question stands beside its answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from zq.core.inspection import Found, Inspection
from zq.engine.engine import Engine
from zq.errors import Closed, Error, Refused
from zq.handles.shelf import PAGE, find_stream, verify_shelf
from zq.handles.steps import Steps, deadline_after, until
from zq.info import Gap, SpoolAnswer, SpoolCursor, SpooledStream, SpoolProblem
from zq.record import asdict, replace
from zq.spool.contents import from_wire, gap_from_wire, gap_to_wire, message_of, to_wire
from zq.spool.shelf import Shelf, View
from zq.wire.body import is_bytes, is_number, is_seconds, is_text, list_of
from zq.wire.data import Malformed
from zq.wire.frames import CURSORS, EMPTY, FORGET, MESSAGES, STREAMS, VERIFY, Inspect

ANSWER = 512 << 10  # bytes of messages in one answer, or one message; also of a piece of one
KEEP = 5.0  # s that a stream which was read up to some message stays open for whoever goes on there
ROWS = 20_000  # streams, cursors or problems of one spool that are told; 250 bytes each
LOSSES, LINES = 2_000, 200  # damaged ranges and problems in the row of a stream, which has to fit into a frame


class SpoolLook:
    """`zq.core.inspection.Look` of one spool. `purge` and `forget` are called in the engine's thread."""

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        purge: Callable[[str, Callable[[int, str], None]], bool],
        forget: Callable[[str, str, Callable[[str], None]], bool],
    ) -> None:
        """Both are given whom to tell, once it is synced: how many messages that were, and what went wrong, if anything
        has; both return False for what is not here."""
        self._engine = engine
        self._directory = directory
        self._purge = purge
        self._forget = forget
        self._progress: dict[int, tuple[int, int]] = {}
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._kept: tuple[tuple[str, int, bool], View] | None = None  # for whoever goes on there
        self._closed = False

    def progress(self, question: Inspect) -> tuple[int, int]:
        return self._progress.get(id(question), (0, 0))

    def begin(self, question: Inspect, done: Callable[[Found], None]) -> None:
        if question.action in (EMPTY, FORGET):
            self._act(question, done)
            return
        thread = threading.Thread(target=self._read, args=(question, done), name="zq-shelf", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _act(self, question: Inspect, done: Callable[[Found], None]) -> None:
        def forgotten(problem: str) -> None:
            done(Found(count=1, problem=problem))

        def purged(count: int, problem: str) -> None:
            done(Found(count=count, problem=problem, next=1))

        try:
            if question.action == FORGET:
                here = self._forget(question.stream, question.cursor, forgotten)
            else:
                here = self._purge(question.stream, purged)
        except Error as error:
            done(Found(problem=str(error), next=1))
            return
        if not here:
            done(Found())

    def _read(self, question: Inspect, done: Callable[[Found], None]) -> None:
        try:
            found = self._look(question)
        except (Error, OSError) as error:
            found = Found(problem=str(error))
        finally:
            self._progress.pop(id(question), None)
            self._threads.discard(threading.current_thread())
        if not self._engine.closed:
            self._engine.later(partial(done, found))

    def _look(self, question: Inspect) -> Found:
        shelf = Shelf(self._directory)
        if question.action == STREAMS:
            return self._told("queues and topics", map(_shortened, shelf.each(View.info)))
        if question.action == CURSORS:
            return self._told("cursors", [row for cursors in shelf.each(View.cursors) for row in cursors])
        if question.action == VERIFY:

            def note(done: int, total: int) -> None:
                self._progress[id(question)] = done, total
                if self._closed:
                    raise Closed("the spool was closed")

            report = verify_shelf(shelf, note)
            return self._told("problems", report.problems, count=report.bytes)
        if question.action == MESSAGES:
            return self._page(shelf, question)
        raise Refused(f"{question.action} is nothing that a spool can be asked")

    def _told(self, what: str, rows: Iterable[Any], *, count: int = 0) -> Found:
        told = list(rows)
        more = f"{len(told) - ROWS:,} more {what} are not told here; --dir {self._directory} tells all"
        return Found(list(map(asdict, told[:ROWS])), count=count, problem=more if len(told) > ROWS else "")

    def _page(self, shelf: Shelf, question: Inspect) -> Found:
        if question.stream not in [name for stream in shelf.streams() for name in (stream.name, stream.title)]:
            return Found()
        first, settled = max(question.first, 1), question.settled
        view = self._take((question.stream, first, settled)) or shelf.open(find_stream(shelf, question.stream))
        page = None
        try:
            while page is None:
                try:
                    page = view.page(first, min(question.most, PAGE), settled=settled, most_bytes=ANSWER)
                except FileNotFoundError:  # trimmed or written anew meanwhile
                    view.close()
                    view = shelf.open(find_stream(shelf, question.stream))
        except BaseException:
            view.close()
            raise
        if page.next:
            self._keep((question.stream, page.next, settled), view)
        else:
            view.close()
        rows = [told for row in page.rows for told in to_wire(row, ANSWER)]
        rows += [{"first": first, "last": last} for first, last in page.damaged]
        rows += [gap_to_wire(number, gap) for number, gap in page.gaps]
        return Found(rows, next=page.next)

    def _take(self, key: tuple[str, int, bool]) -> View | None:
        """What somebody has read up to there, if it is kept; who takes it closes it or keeps it again."""
        with self._lock:
            if self._kept is None or self._kept[0] != key:
                return None
            (_, view), self._kept = self._kept, None
            return view

    def _keep(self, key: tuple[str, int, bool], view: View) -> None:
        """For whoever goes on there soon: opening it for each page would read the end of the log each time."""
        with self._lock:
            before, self._kept = self._kept, (key, view)
        if before is not None:
            before[1].close()
        timers, engine = self._engine.node.timers, self._engine
        engine.later(lambda: timers.set((self, "kept"), engine.node.now + KEEP, lambda now: self._let_go()))
        if self._closed:
            self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            kept, self._kept = self._kept, None
        if kept is not None:
            kept[1].close()

    def close(self) -> None:
        """What is looking ends soon: then it `is_idle`."""
        self._closed = True
        self._let_go()

    def is_idle(self) -> bool:
        return not self._threads


def _shortened(row: SpooledStream) -> SpooledStream:
    """As it fits into a frame."""
    lines = list(row.problems[:LINES])
    if len(row.problems) > LINES or len(row.damaged) > LOSSES:
        lines.append(
            f"{max(len(row.damaged) - LOSSES, 0):,} more damaged ranges and {max(len(row.problems) - LINES, 0):,} more "
            "problems are not told here; zq spool verify tells all"
        )
    return replace(row, damaged=row.damaged[:LOSSES], problems=tuple(lines))


# --- asking


def _is_number_or_none(value: Any) -> bool:
    return value is None or is_number(value)


_CHECKS: dict[type[Any], dict[str, Callable[[Any], bool]]] = {
    SpooledStream: {
        "kind": is_text,
        "name": is_text,
        "stream": is_bytes,
        "depth": is_number,
        "bytes": is_number,
        "oldest": lambda value: value is None or is_seconds(value),
        "lag": is_number,
        "first": is_number,
        "last": is_number,
        "damaged": list_of(is_number, is_number),
        "problems": list_of(is_text),
        "cursors": is_number,
        "open_in": _is_number_or_none,
    },
    SpoolCursor: {
        "kind": is_text,
        "stream": is_text,
        "cursor": is_text,
        "position": is_number,
        "lag": is_number,
        "missed": is_number,
    },
    SpoolProblem: {
        "kind": is_text,
        "stream": is_text,
        "file": is_text,
        "offset": is_number,
        "end": is_number,
        "first": is_number,
        "last": is_number,
        "what": is_text,
    },
}
_KINDS: dict[int, type[Any]] = {STREAMS: SpooledStream, CURSORS: SpoolCursor, VERIFY: SpoolProblem}


def inspect_steps(
    engine: Engine,
    action: int,
    timeout: float | None,
    *,
    stream: str = "",
    cursor: str = "",
    first: int = 1,
    most: int = PAGE,
    settled: bool = False,
    holder: bytes | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Steps[SpoolAnswer]:
    """Asks everybody, or only `holder`; who does not answer in time is named in the result."""
    deadline = deadline_after(timeout)
    node = engine.node
    question = partial(_question, action, stream, cursor, first, most, settled)
    inspection = engine.call(lambda: node.inspect(question, [] if holder is None else [holder], node.now))
    names = {peer: node.name_of(peer) or peer.hex()[:8] for peer in inspection.asked}
    try:
        while not inspection.complete and (yield from until(engine, _changes(inspection), deadline)):
            if progress is not None and inspection.progress:
                progress(*_sum(inspection))
    finally:
        if not (engine.closed or engine.failed or engine.forked):
            engine.call(lambda: node.inspections.end(inspection))
    return _answer(action, names, inspection)


def purge_steps(engine: Engine, queue: str, timeout: float | None) -> Steps[SpoolAnswer]:
    answer = yield from inspect_steps(engine, EMPTY, timeout, stream=queue)
    if not (answer.next or answer.unknown or answer.problems):
        raise Refused(f"no spool of this realm has a queue {queue!r}; zq spool ls lists what there is")
    return answer


def forget_steps(engine: Engine, stream: str, cursor: str, timeout: float | None) -> Steps[SpoolAnswer]:
    answer = yield from inspect_steps(engine, FORGET, timeout, stream=stream, cursor=cursor)
    if not (answer.count or answer.unknown or answer.problems):
        raise Refused(f"no spool of this realm has a cursor {cursor!r} of {stream!r}; zq spool cursors lists them")
    return answer


def _question(action: int, stream: str, cursor: str, first: int, most: int, settled: bool, request: int) -> Inspect:
    return Inspect(request, action, stream, cursor, first, most, settled)


def _changes(inspection: Inspection) -> Callable[[], bool]:
    before = dict(inspection.progress)
    return lambda: inspection.complete or inspection.progress != before


def _sum(inspection: Inspection) -> tuple[int, int]:
    done, total = zip(*inspection.progress.values(), strict=True)
    return sum(done), sum(total)


def _answer(action: int, names: dict[bytes, str], inspection: Inspection) -> SpoolAnswer:
    rows: list[Any] = []
    damaged: list[tuple[int, int]] = []
    gaps: list[Gap] = []
    problems = [f"{names[peer]}: {findings.problem}" for peer, findings in inspection.found if findings.problem]
    for peer in sorted(inspection.asked, key=names.__getitem__):
        told = chain.from_iterable(findings.rows for answered, findings in inspection.found if answered == peer)
        for row in told:
            try:
                if action != MESSAGES:
                    rows.append(replace(_row(_KINDS[action], row), holder=names[peer], holder_id=peer))
                elif "piece" in row:
                    continue  # of one that was refused already
                elif "publisher" in row:
                    gaps.append(gap_from_wire(row))
                elif "item" in row:
                    rows.append(message_of(from_wire(row, told)))
                else:
                    damaged.append(_damage(row))
            except Malformed as error:
                problems.append(f"{names[peer]}: its answer makes no sense: {error}")
    return SpoolAnswer(
        rows=tuple(rows),
        count=sum(findings.count for _, findings in inspection.found),
        next=max((findings.next for _, findings in inspection.found), default=0),
        damaged=tuple(damaged),
        gaps=tuple(gaps),
        unknown=tuple(sorted(names[peer] for peer in [*inspection.pending, *inspection.gone])),
        problems=tuple(problems),
    )


def _damage(told: dict[str, Any]) -> tuple[int, int]:
    first, last = told.get("first"), told.get("last")
    if not (is_number(first) and is_number(last)):
        raise Malformed("neither a message nor numbers of some")
    return first, last  # type: ignore[return-value]


def _row(kind: type[Any], told: dict[str, Any]) -> Any:
    checks = _CHECKS[kind]
    if not all(name in told and check(told[name]) for name, check in checks.items()):
        raise Malformed(f"a {kind.__name__} that lacks something")
    fields = {name: told[name] for name in checks}
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = tuple(tuple(part) if isinstance(part, list) else part for part in value)
    return kind(**fields)
