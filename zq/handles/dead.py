"""Dead letters as a program asks for them: checked questions, and answers as values."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from zq.core.inquiry import IDS_MOST, Inquiry
from zq.engine.engine import Engine
from zq.errors import Refused
from zq.handles.steps import Steps, deadline_after, until
from zq.info import DeadLetter, DeadLetters, FailedAttempt
from zq.message import HEADERS, ID
from zq.wire import dead as wire
from zq.wire.data import Malformed, unpack
from zq.wire.frames import LIST
from zq.wire.names import check_queue


def inquire_steps(
    engine: Engine, action: int, queue: str | None, ids: Iterable[str], timeout: float | None
) -> Steps[DeadLetters]:
    """Asks everybody; who does not answer in time is named in the result."""
    deadline = deadline_after(timeout)
    wanted = _checked(queue, ids)
    node = engine.node
    inquiry = engine.call(lambda: node.inquire(action, queue or "", wanted, node.now))
    names = {peer: node.name_of(peer) or peer.hex()[:8] for peer in engine.call(lambda: list(inquiry.asked))}
    yield from until(engine, lambda: inquiry.complete, deadline)

    def gather() -> DeadLetters:
        node.inquiries.end(inquiry)
        return _result(names, action, inquiry)

    return engine.call(gather)


def _checked(queue: str | None, ids: Iterable[str]) -> list[str]:
    if isinstance(ids, str):
        raise Refused(f"ids are several strs, not one: [{ids!r}]")
    wanted = list(ids)
    if queue is not None:
        check_queue(queue)
    for id in wanted:
        if not isinstance(id, str):
            raise Refused(f"the id of a message is a str, not {id!r:.60}")
    if len(wanted) > IDS_MOST:
        raise Refused(f"{len(wanted):,} ids; ask for {IDS_MOST:,} at a time, or for the whole queue")
    return wanted


def _result(names: dict[bytes, str], action: int, inquiry: Inquiry) -> DeadLetters:
    letters = [_letter(holder, names[holder], row) for holder, row in inquiry.letters]
    known = sorted((letter for letter in letters if letter is not None), key=lambda letter: letter.holder)
    return DeadLetters(
        letters=tuple(known),
        count=len(known) if action == LIST else inquiry.count,
        unknown=tuple(sorted(names[peer] for peer in [*inquiry.pending, *inquiry.gone])),
        problems=tuple(f"{names[peer]}: {problem}" for peer, problem in inquiry.problems),
    )


def _letter(holder: bytes, name: str, row: list[Any]) -> DeadLetter | None:
    """None if what came is no message."""
    queue, _, origin, number, sent_at, size, complete, body = row
    try:
        [(data, extra)] = unpack(body, 1, extended=True)
    except Malformed:
        return None
    flat = extra[HEADERS] or []
    headers = dict(zip(flat[::2], flat[1::2], strict=True))
    return DeadLetter(
        queue=headers.get(wire.QUEUE, queue),
        id=f"{origin.hex()}-{number}" if extra[ID] is None else extra[ID],
        reason=headers.get(wire.REASON, ""),
        history=tuple(_attempt(failure) for failure in wire.history_of(headers)),
        died_at=_moment(headers.get(wire.AT, "")),
        sent_at=_moment(sent_at) or datetime.fromtimestamp(0, UTC),
        holder=name,
        holder_id=holder,
        size=size,
        complete=complete,
        data=data if complete else None,
        headers=MappingProxyType({name: text for name, text in headers.items() if name not in wire.OURS}),
    )


def _attempt(failure: wire.Failure) -> FailedAttempt:
    return FailedAttempt(
        attempt=failure.attempt,
        outcome=failure.outcome,
        puller=failure.name,
        puller_id=failure.puller,
        at=_moment(failure.at) or datetime.fromtimestamp(0, UTC),
        reason=failure.reason,
    )


def _moment(seconds: float | str) -> datetime | None:
    """None for what is no time."""
    try:
        return datetime.fromtimestamp(float(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return None
