"""Handles that receive: a call waits for the next message, and `run` gives each to a handler."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from zq.blocking.closing import Closing
from zq.core.inbox import Slow
from zq.errors import Closed, Refused
from zq.handles.incoming import PullerCore, Receiver, SubscriberCore, pause_after
from zq.handles.replying import ReplierCore, Request
from zq.handles.since import Since
from zq.handles.steps import Timeout, finish
from zq.info import Gap
from zq.logs import Logger
from zq.message import Inherit, Message

if TYPE_CHECKING:
    from zq.blocking.peer import Peer

log = Logger("zq.blocking")


class _BlockingReceiver(Closing, Receiver):
    """The waiting of Subscriber and Puller."""

    _peer: Peer

    def receive(self, *, timeout: Timeout = None) -> Message:
        """The next message. Raises Timeout, Closed."""
        if timeout is None and not self._closed:
            try:
                message: Message = self._inbox.handing.ready.popleft()
            except IndexError:
                pass
            else:
                return message
        return finish(self._receive_steps(timeout))

    def receive_many(self, most: int, *, timeout: Timeout = None) -> list[Message]:
        """Up to `most` messages that are here; waits for the first only. Raises Timeout, Closed."""
        return finish(self._receive_many_steps(most, timeout))

    def __iter__(self) -> Iterator[Message]:
        """Every message as it comes; ends when this handle or its peer is closed here."""
        while True:
            ready = self._inbox.handing.ready
            try:
                while True:
                    yield ready.popleft()
            except IndexError:
                if self._more():
                    continue
            try:
                message = self.receive()
            except Closed:
                return
            yield message

    def run(self, handler: Callable[[Message], object], *, concurrency: int = 1) -> None:
        """Calls `handler` with each message, in `concurrency` threads, until closed.

        Returning acks; an exception of the handler is logged and nacks with a delay that grows with the attempt. In
        the main thread SIGTERM ends it after the messages at hand.
        """
        if concurrency < 1:
            raise Refused(f"concurrency is at least 1, not {concurrency}")
        threads = [
            self._engine.thread(lambda: self._work(handler), f"zq-{self.name}-{number}")
            for number in range(1, concurrency)
        ]
        with _DrainOnTerm(self):
            for thread in threads:
                thread.start()
            try:
                self._work(handler)
            finally:
                self._drain()
                for thread in threads:
                    thread.join()
                self._draining = False

    def _work(self, handler: Callable[[Message], object]) -> None:
        for message in self:
            try:
                handler(message)
            except Exception as error:
                log.exception("the handler of %s failed with %r", self.name, message)
                message._fail(error, pause_after(message))
            except BaseException as interrupt:
                message.__exit__(type(interrupt), interrupt, None)
                raise
            else:
                message._finish()
            if self._draining:
                return  # what else is here goes back when the handle is closed

    def close(self, *, timeout: Timeout = 5.0) -> None:
        """Ends this handle: what is not settled goes back, and iterating over it ends. Idempotent."""
        finish(self._peer._close_receiver_steps(self, timeout))


class Subscriber(_BlockingReceiver, SubscriberCore):
    """One subscription. Thread-safe: threads that share it share its messages."""

    def __init__(
        self,
        peer: Peer,
        filters: Sequence[str],
        slow: Slow,
        patience: float | Inherit | None,
        on_gap: Callable[[Gap], None] | None,
        durable: str | None,
        since: Since | None,
    ) -> None:
        super().__init__(peer._running(), " ".join(map(str, filters)))
        self._peer = peer
        peer._open_subscriber(self, filters, slow, patience, on_gap, durable, since)


class Puller(_BlockingReceiver, PullerCore):
    """One consumer of a queue. Thread-safe: threads that share it share its messages."""

    def __init__(
        self,
        peer: Peer,
        queue: str,
        prefetch: int | None,
        prefetch_bytes: int,
        work_timeout: Timeout,
        topics: Sequence[str],
    ) -> None:
        super().__init__(peer._running(), queue)
        self._peer = peer
        peer._open_puller(self, queue, prefetch, prefetch_bytes, work_timeout, topics)

    def unbind(self, *, timeout: Timeout = 5.0) -> None:
        """Closes this handle of a bound queue, and if nobody else binds that queue any more, has publishers forget it
        at once: what they still hold for it is dropped and counted as `unbound`. Without this they keep it for 60 s.

        Raises Refused if the puller names no topics, Timeout if some publisher has not confirmed: there it ends later.
        """
        finish(self._peer._unbind_steps(self, timeout))


class Replier(_BlockingReceiver, ReplierCore):
    """A replier of a service: iterating yields each Request. Thread-safe: threads that share it share its requests."""

    def __init__(self, peer: Peer, service: str) -> None:
        super().__init__(peer._running(), service)
        self._peer = peer
        peer._open_replier(self, service)

    def run(self, handler: Callable[[Any], object], *, concurrency: int = 1) -> None:
        """Calls `handler` with each request, in `concurrency` threads, until closed.

        What it returns is the reply, unless it has replied itself; an exception is logged here, and its type and
        message are what the requester gets. In the main thread SIGTERM ends it after the requests at hand.
        """
        super().run(handler, concurrency=concurrency)

    def _work(self, handler: Callable[[Any], object]) -> None:
        for request in self:
            assert isinstance(request, Request)
            try:
                result = handler(request)
            except Exception as error:
                log.exception("the handler of %s failed with %r", self.name, request)
                self._fail(request, error)
            except BaseException:
                request.give_back()
                raise
            else:
                self._reply(request, result)
            if self._draining:
                return


class _DrainOnTerm:
    """In the main thread, SIGTERM ends the iteration of a receiver instead of the process."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._before: Any = None
        self._set = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._on_term)
            self._set = True

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        self._receiver._drain()

    def __exit__(self, *_: object) -> None:
        if self._set:
            signal.signal(signal.SIGTERM, self._before)
