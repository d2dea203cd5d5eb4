"""Asking: a call is left for the engine, and its caller waits until it has ended, or for as long as it likes."""

from __future__ import annotations

from typing import Any

from zq.core.call import Call
from zq.engine.engine import Engine
from zq.engine.wake import Waiters
from zq.errors import NoPeer, PeerLost, RemoteError, Timeout
from zq.handles.outgoing import extra_of
from zq.handles.steps import Steps, Wait, deadline_after, until
from zq.message import Headers, Message
from zq.wire.data import Malformed, pack, unpack
from zq.wire.names import check_name
from zq.wire.requests import Single


def message_of(frame: Single, kind: type[Message] = Message) -> Message:
    """What a frame says. Raises Malformed."""
    rows = unpack(frame.body, 1, frame.parts, extended=frame.extended)
    if not frame.extended:
        return kind(rows[0], frame, 0)
    data, extra = rows[0]
    message = kind(data, frame, 0)
    message._extra = extra
    return message


def _on_clock(engine: Engine, deadline: float | None) -> float | None:
    return None if deadline is None else engine.clock_at(deadline)


def _outcome(call: Call) -> Message:
    if call.error is not None:
        raise call.error
    assert call.reply is not None
    try:
        return message_of(call.reply)
    except Malformed as error:
        raise RemoteError("Malformed", f"the reply does not decode: {error}") from error


def request_steps(
    engine: Engine, service: str, data: Any, headers: Headers | None, timeout: float | None
) -> Steps[Message]:
    """One request to one replier of `service`."""
    check_name(service, "service")
    deadline = deadline_after(timeout)
    item = pack(data, extra_of(headers, None))
    requesting = engine.node.requesting
    waiters = Waiters()
    call = Call(service, item, _on_clock(engine, deadline), waiters.wake)

    def abandon() -> bool:
        return requesting.abandon(call, engine.node.now)

    def forget() -> None:
        abandon()

    engine.everyone.add(waiters)
    try:
        requesting.pile.append(call)
        engine.mark(requesting)
        while True:
            woken = yield Wait(waiters, lambda: call.ended or engine.closed, deadline, engine)
            if call.ended:
                return _outcome(call)
            engine.check()
            if not woken and not engine.call(abandon):
                raise Timeout(f"no reply from {service} within {timeout} s; it may have been done")
    finally:
        engine.everyone.discard(waiters)
        if not (call.ended or engine.closed):
            engine.later(forget)  # interrupted or cancelled


class Survey:
    """One request to every replier of `service` that is known when it begins."""

    def __init__(self, engine: Engine, service: str, data: Any, timeout: float | None) -> None:
        check_name(service, "service")
        self._engine = engine
        self._service = service
        self._deadline = deadline_after(timeout)
        self._item = pack(data)
        self._waiters = Waiters()
        self._calls: list[Call] = []

    def begin_steps(self) -> Steps[None]:
        """Waits until everybody who can be found is known. Raises NoPeer."""
        engine, service = self._engine, self._service
        requesting = engine.node.requesting
        yield from until(engine, engine.node.is_settled, self._deadline)
        targets = engine.call(lambda: requesting.repliers(service))
        if not targets:
            raise engine.call(lambda: requesting.nobody(service))
        engine.everyone.add(self._waiters)
        patience = _on_clock(engine, self._deadline)
        self._calls = [Call(service, self._item, patience, self._waiters.wake, target) for target in targets]
        requesting.pile.extend(self._calls)
        engine.mark(requesting)

    def next_steps(self) -> Steps[Message | None]:
        """The next reply; None when all have answered or are gone, or the time is up. Failures are passed over."""
        engine, calls = self._engine, self._calls
        while calls:
            for call in [call for call in calls if call.ended]:
                calls.remove(call)
                try:
                    return _outcome(call)
                except (NoPeer, PeerLost, RemoteError, Timeout):
                    continue
            if not calls:
                break
            engine.check()
            woken = yield Wait(
                self._waiters, lambda: engine.closed or any(call.ended for call in calls), self._deadline, engine
            )
            if not woken and not any(call.ended for call in calls):
                break
        return None

    def close(self) -> None:
        """Nobody waits any more."""
        engine, calls = self._engine, self._calls
        engine.everyone.discard(self._waiters)

        def abandon() -> None:
            for call in calls:
                engine.node.requesting.abandon(call, engine.node.now)

        if calls and not engine.closed:
            engine.later(abandon)
