"""Repliers: requests as messages that want an answer."""

from __future__ import annotations

import warnings
from typing import Any

from zq.core.replier import Asked, Replier, RequestInbox
from zq.errors import Refused
from zq.handles.incoming import Receiver, log
from zq.handles.outgoing import extra_of
from zq.handles.requests import message_of
from zq.handles.steps import Steps, deadline_after, until, waiting
from zq.message import Headers, Message
from zq.wire.data import Malformed, pack
from zq.wire.requests import REPLIED


class Request(Message):
    """One request. It is answered once, by `reply` or `fail`; answering never waits, and twice is harmless.

    As a context manager it replies None at the end if nothing was replied, and fails with the exception that leaves
    the block, which is raised again. One that is collected unanswered warns, and its requester gets RemoteError.
    """

    __slots__ = ("_asked",)

    _asked: Asked

    @property
    def answered(self) -> bool:
        return self._asked.answered

    def reply(self, data: Any = None, *, headers: Headers | None = None) -> None:
        """Sends `data` to whoever asked. Raises Refused for data that cannot be sent; then it is still unanswered."""
        self._asked.answer(REPLIED, pack(data, extra_of(headers, None)))

    def fail(self, text: str, *, type: str = "Error") -> None:
        """The requester gets RemoteError with this type and text, each cut to 1,024 characters."""
        self._asked.fail(str(type), str(text))

    def fail_with(self, error: BaseException) -> None:
        """The same with the name and the message of an exception, and nothing else of it."""
        self._asked.fail(error.__class__.__name__, str(error))

    def ack(self) -> None:
        """Replies None, if nothing was replied."""
        if not self.answered:
            self.reply()

    def nack(self, *, delay: float = 0.0) -> None:
        """Fails: a request is never given to anybody else."""
        self.give_back()

    def reject(self, reason: str) -> None:
        """Fails with `reason`."""
        if not self.answered:
            self.fail(reason)

    def give_back(self) -> None:
        """Fails: a request is never given to anybody else."""
        if not self.answered:
            self.fail("the replier has given the request up", type="Unanswered")

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self.answered:
            return
        if error is None:
            self.reply()
        else:
            self.fail_with(error)

    def __del__(self) -> None:
        asked: Asked | None = getattr(self, "_asked", None)
        if asked is None or asked.answered or asked.replier.closed:
            return
        self.give_back()
        warnings.warn(f"{self!r} was collected without an answer; it has failed", ResourceWarning, stacklevel=1)


def request_of(asked: Asked) -> Request:
    """Raises Malformed."""
    message = message_of(asked.frame, Request)
    assert isinstance(message, Request)
    message._asked = asked
    return message


class ReplierCore(Receiver):
    """A replier without its waiting. Thread-safe: threads that share it share its requests."""

    _core: Replier
    _inbox: RequestInbox  # type: ignore[assignment]

    def attach(self, core: Replier) -> None:
        self._core = core

    def _note(self) -> None:
        """A request was answered."""
        self._engine.mark(self._core)

    def _refill(self) -> bool:
        """Makes the next request that somebody waits for ready; False when there is none."""
        inbox = self._inbox
        while not inbox.handing.ready:
            try:
                asked = inbox.arrived.popleft()
            except IndexError:
                return False
            if asked.is_over(self._engine.clock_at(waiting.now())):
                asked.drop()
                continue
            try:
                inbox.handing.ready.append(request_of(asked))
            except Malformed as error:
                log.warning("refused a request to %s that does not decode: %.200r", self.name, str(error))
                asked.fail("Malformed", f"the request does not decode: {error}")
        return True

    def _reply(self, request: Request, result: object) -> None:
        """What a handler has returned, unless it has replied itself."""
        if request.answered:
            return
        try:
            request.reply(result)
        except Refused as error:
            log.exception("what the handler of %s has returned cannot be sent", self.name)
            request.fail_with(error)

    @staticmethod
    def _fail(request: Request, error: Exception) -> None:
        if not request.answered:
            request.fail_with(error)

    def _close_steps(self, timeout: float | None) -> Steps[None]:
        """Fails what is not answered, and waits until that is on its way."""
        deadline = deadline_after(timeout)
        engine, replier = self._engine, self._core
        if self._closed or engine.closed or engine.forked or engine.failed:
            self._closed = True
            return
        self._shut()
        engine.call(lambda: engine.node.stop_replying(replier, engine.node.now))
        yield from until(engine, engine.node.replying.is_flushed, deadline)
