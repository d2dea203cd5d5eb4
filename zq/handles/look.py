"""A running spool as others look at it, and how a peer asks those of its realm.

What is on the disk is read from the files, in a thread of its own, beside the one that writes them (see
`zq.spool.shelf`): neither the engine nor the disk is held up. What changes something is done where it is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from zq.core.inspection import Found, Inspection
from zq.engine.engine import Engine
from zq.errors import Closed, Error, Refused
from zq.handles.shelf import PAGE, find_stream, verify_shelf
from zq.handles.steps import Steps, deadline_after, until
from zq.info import SpoolAnswer, SpoolCursor, SpooledStream, SpoolProblem
from zq.record import asdict, replace
from zq.spool.contents import from_wire, message_of, to_wire
from zq.spool.shelf import Shelf, View
from zq.wire.body import is_bytes, is_number, is_seconds, is_text, list_of
from zq.wire.data import Malformed
from zq.wire.frames import CURSORS, EMPTY, FORGET, MESSAGES, STREAMS, VERIFY, Inspect

ANSWER = 512 << 10  # bytes of rows in one answer; a mailbox frame has room for 1 MiB
ROWS = 2_000  # streams, cursors or problems in one answer: 250 bytes each


class SpoolLook:
    """`zq.core.inspection.Look` of one spool. `purge` and `forget` are called in the engine's thread."""

    def __init__(
        self,
        engine: Engine,
        directory: Path,
        purge: Callable[[str, Callable[[int], None]], bool],
        forget: Callable[[str, str], bool],
    ) -> None:
        """`purge` is given whom to tell how many messages that were; both return False for what is not here."""
        self._engine = engine
        self._directory = directory
        self._purge = purge
        self._forget = forget
        self._progress: dict[int, tuple[int, int]] = {}
        self._threads: set[threading.Thread] = set()
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
        try:
            if question.action == FORGET:
                done(Found(count=int(self._forget(question.stream, question.cursor))))
            elif not self._purge(question.stream, lambda count: done(Found(count=count, next=1))):
                done(Found())
        except Error as error:
            done(Found(problem=str(error), next=1))

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
            return Found([asdict(row) for row in shelf.each(View.info)][:ROWS])
        if question.action == CURSORS:
            return Found([asdict(row) for cursors in shelf.each(View.cursors) for row in cursors][:ROWS])
        if question.action == VERIFY:

            def note(done: int, total: int) -> None:
                self._progress[id(question)] = done, total
                if self._closed:
                    raise Closed("the spool was closed")

            report = verify_shelf(shelf, note)
            return Found([asdict(problem) for problem in report.problems][:ROWS], count=report.bytes)
        if question.action == MESSAGES:
            return self._page(shelf, question)
        raise Refused(f"{question.action} is nothing that a spool can be asked")

    def _page(self, shelf: Shelf, question: Inspect) -> Found:
        if question.stream not in [name for stream in shelf.streams() for name in (stream.name, stream.title)]:
            return Found()
        view = shelf.open(find_stream(shelf, question.stream))
        try:
            page = view.page(
                max(question.first, 1), min(question.most, PAGE), settled=question.settled, most_bytes=ANSWER
            )
        finally:
            view.close()
        damaged = [{"first": first, "last": last} for first, last in page.damaged]
        return Found([*[to_wire(row, ANSWER) for row in page.rows], *damaged], next=page.next)

    def close(self) -> None:
        """What is looking ends soon: then it `is_idle`."""
        self._closed = True

    def is_idle(self) -> bool:
        return not self._threads


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
    problems = [f"{names[peer]}: {findings.problem}" for peer, findings in inspection.found if findings.problem]
    for peer, findings in sorted(inspection.found, key=lambda found: names[found[0]]):
        for told in findings.rows:
            try:
                if action == MESSAGES and "item" not in told:
                    damaged.append(_damage(told))
                elif action == MESSAGES:
                    rows.append(message_of(from_wire(told)))
                else:
                    rows.append(replace(_row(_KINDS[action], told), holder=names[peer], holder_id=peer))
            except Malformed as error:
                problems.append(f"{names[peer]}: its answer makes no sense: {error}")
    return SpoolAnswer(
        rows=tuple(rows),
        count=sum(findings.count for _, findings in inspection.found),
        next=max((findings.next for _, findings in inspection.found), default=0),
        damaged=tuple(damaged),
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
