"""Handles that receive: the next message is awaited, and `run` gives each to a handler."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from zq.aio.closing import Closing
from zq.aio.waiting import finish
from zq.core.inbox import Slow
from zq.errors import Closed, Refused
from zq.handles.incoming import PullerCore, Receiver, SubscriberCore, pause_after
from zq.handles.replying import ReplierCore, Request
from zq.handles.since import Since
from zq.handles.steps import Timeout
from zq.info import Gap
from zq.logs import Logger
from zq.message import Inherit, Message

if TYPE_CHECKING:
    from zq.aio.peer import Peer

log = Logger("zq.aio")


class _AsyncReceiver(Closing, Receiver):
    """The waiting of Subscriber and Puller."""

    _peer: Peer

    def _check_open(self) -> None:
        super()._check_open()
        self._peer._check_loop()

    async def receive(self, *, timeout: Timeout = None) -> Message:
        """The next message. Raises Timeout, Closed. Cancelling it never loses one."""
        if timeout is None and not self._closed:
            try:
                message: Message = self._inbox.handing.ready.popleft()
            except IndexError:
                pass
            else:
                return message
        return await finish(self._receive_steps(timeout))

    async def receive_many(self, most: int, *, timeout: Timeout = None) -> list[Message]:
        """Up to `most` messages that are here; waits for the first only. Raises Timeout, Closed."""
        return await finish(self._receive_many_steps(most, timeout))

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Every message as it comes; ends when this handle or its peer is closed here."""
        while True:
            ready = self._inbox.handing.ready
            try:
                while True:
                    yield ready.popleft()
            except IndexError:
                if self._more():
                    continue
                await asyncio.sleep(0)  # this batch is handed out; lets other tasks run, nothing is waited for
            try:
                message = await self.receive()
            except Closed:
                return
            yield message

    async def run(self, handler: Callable[[Message], object], *, concurrency: int = 1) -> None:
        """Calls `handler` (a function or a coroutine function) with each message, in `concurrency` tasks, until closed.

        Returning acks; an exception of the handler is logged and nacks with a delay that grows with the attempt.
        Cancelled, the messages at hand are given back.
        """
        if concurrency < 1:
            raise Refused(f"concurrency is at least 1, not {concurrency}")
        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(self._work(handler))

    async def _work(self, handler: Callable[[Message], object]) -> None:
        async for message in self:
            try:
                result = handler(message)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                log.exception("the handler of %s failed with %r", self.name, message)
                message._fail(error, pause_after(message))
            except BaseException as interrupt:
                message.__exit__(type(interrupt), interrupt, None)
                raise
            else:
                message._finish()

    async def close(self, *, timeout: Timeout = 5.0) -> None:
        """Ends this handle: what is not settled goes back, and iterating over it ends. Idempotent."""
        await finish(self._peer._close_receiver_steps(self, timeout))


class Subscriber(_AsyncReceiver, SubscriberCore):
    """One subscription. Tasks that share it share its messages."""

    def __init__(
        self,
        peer: Peer,
        filters: Sequence[str],
        slow: Slow,
        patience: Timeout | Inherit,
        on_gap: Callable[[Gap], None] | None,
        durable: str | None,
        since: Since | None,
    ) -> None:
        super().__init__(peer._running(), " ".join(map(str, filters)))
        self._peer = peer
        peer._open_subscriber(self, filters, slow, patience, on_gap, durable, since)


class Puller(_AsyncReceiver, PullerCore):
    """One consumer of a queue. Tasks that share it share its messages."""

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

    async def unbind(self, *, timeout: Timeout = 5.0) -> None:
        """Closes this handle of a bound queue, and if nobody else binds that queue any more, has publishers forget it
        at once: what they still hold for it is dropped and counted as `unbound`. Without this they keep it for 60 s.

        Raises Refused if the puller names no topics, Timeout if some publisher has not confirmed: there it ends later.
        """
        await finish(self._peer._unbind_steps(self, timeout))


class Replier(_AsyncReceiver, ReplierCore):
    """A replier of a service: iterating yields each Request. Tasks that share it share its requests."""

    def __init__(self, peer: Peer, service: str) -> None:
        super().__init__(peer._running(), service)
        self._peer = peer
        peer._open_replier(self, service)

    async def run(self, handler: Callable[[Any], object], *, concurrency: int = 1) -> None:
        """Calls `handler` (a function or a coroutine function) with each request, in `concurrency` tasks, until closed.

        What it returns is the reply, unless it has replied itself; an exception is logged here, and its type and
        message are what the requester gets. Cancelled, the requests at hand fail.
        """
        await super().run(handler, concurrency=concurrency)

    async def _work(self, handler: Callable[[Any], object]) -> None:
        async for request in self:
            assert isinstance(request, Request)
            try:
                result = handler(request)
                if inspect.isawaitable(result):
                    result = await result
            except Exception as error:
                log.exception("the handler of %s failed with %r", self.name, request)
                self._fail(request, error)
            except BaseException:
                request.give_back()
                raise
            else:
                self._reply(request, result)
