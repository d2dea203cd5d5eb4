"""Handles that send: a call is awaited while there is no room."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, Self, Unpack

from zq.aio.closing import Closing, opened
from zq.aio.waiting import finish
from zq.core.outgoing import SMALL
from zq.handles.opening import Opening
from zq.handles.outgoing import PublisherCore, PusherCore, Sender, Stream
from zq.handles.steps import PublishOptions, Release, SendOptions, Timeout
from zq.wire.data import pack_plain

if TYPE_CHECKING:
    from zq.aio.peer import Peer

YIELD_EVERY = 1_024  # sends that find room until one lets the loop run: 1 ms at full speed; less is half a frame
_get_ident = threading.get_ident


class _AsyncSender(Closing, Sender):
    """The waiting of Publisher and Pusher."""

    def __init__(self, peer: Peer, stream: Stream | Opening[Stream], name: str) -> None:
        super().__init__(stream, name)
        self._peer = peer
        assert peer._loop is not None
        self._loop = peer._loop
        self._thread = peer._thread
        self._until_yield = YIELD_EVERY

    def _check_open(self) -> None:
        super()._check_open()
        self._peer._check_loop()

    async def close(self, *, timeout: Timeout = 5.0) -> None:
        """Waits until all that was sent is confirmed, if this is the last handle of its name. Raises Undelivered."""
        await finish(self._peer._close_sender_steps(self, timeout))


class Publisher(_AsyncSender, PublisherCore):
    """A handle to publish on one topic."""

    async def send(self, data: Any, **options: Unpack[PublishOptions]) -> None:
        """Takes the message: it is in the ring, and on its way to everybody who subscribes.

        The options, all of them by name: `headers` (str to str) and an `id` of its own travel with it, `copy=False`
        promises that writable buffers in `data` stay as they are, and so long, `timeout` seconds, it may wait.

        Waits while there is no room: a slow subscriber holds the topic back, or the window of a bound queue is full.
        Raises Timeout (then it was not taken), Refused for data that cannot be sent, Closed.
        """
        # While our loop runs in this thread no other does. CPython 3.11 asks the kernel to tell the running loop.
        if _get_ident() != self._thread or not self._loop.is_running():
            self._check_open()
        if not options:
            # What `_put` does, in place: a call more is a tenth of what a message costs. None of the options has a
            # parameter of its own, as each costs every message a look for its default.
            item = pack_plain(data)
            if item is not None:
                outgoing = self._outgoing
                items = outgoing.items
                if len(items) < outgoing.limit and len(item) <= SMALL:
                    items.append(item)
                    if not outgoing.marked:
                        self._mark(outgoing)
                    self._until_yield -= 1
                    if not self._until_yield:
                        self._until_yield = YIELD_EVERY
                        await asyncio.sleep(0)  # lets other tasks run; nothing is waited for
                    return
                await finish(self._put_steps(item, None, None))
                return
        steps = self._put(data, **options)
        if steps is not None:
            await finish(steps)

    async def send_many(self, data: Iterable[Any], *, timeout: Timeout = None) -> int:
        """Sends each item; returns how many. `timeout` is for all of them: Timeout.sent says how many were taken."""
        return await finish(self._put_many(data, timeout))

    async def flush(self, *, timeout: Timeout = 30.0) -> None:
        """Waits until all sent so far has arrived at all subscribers and every queue that is bound to the topic has
        settled it: then this peer need not live any longer for it. Raises Undelivered."""
        await finish(self._flush_steps(timeout))

    async def wait_for_subscribers(self, count: int = 1, *, timeout: Timeout = 30.0) -> None:
        """Waits until `count` subscriptions and bound queues match the topic. Raises Timeout."""
        await finish(self._wait_steps(count, timeout))


class Pusher(_AsyncSender, PusherCore):
    """A handle to push to one queue. One with an outbox can be awaited: then that is open."""

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await opened(self, self._opened_steps(None))
        return self

    async def send(self, data: Any, **options: Unpack[SendOptions]) -> None:
        """Takes the message: it is held here until a puller confirms that it was processed.

        The options, all of them by name: `headers`, `id`, `copy` and `timeout` are those of Publisher.send.
        `lane` is "high", "normal" (the default) or "low": when several wait, they go 8:4:1. Of a `key`, a str, one
        message at a time is on its way, in the order sent, a nacked one before those that follow; meanwhile others
        overtake it. `delay` seconds pass before it goes; until then it takes room in the window, keeps `flush` and
        `close` waiting, and holds up nobody. A message that nobody has got after `ttl` seconds is dropped here and
        counted as `expired`. Both are measured by a clock that nobody sets, from when the message is taken.

        Waits while the window is full. Raises Timeout (then it was not taken), Refused for data or options that
        cannot be, Closed. With an outbox it waits until the message is synced there; then it raises SpoolFull, which is
        a Timeout, if the disk has no room, and SpoolDamaged if it fails.
        """
        if _get_ident() != self._thread or not self._loop.is_running():
            self._check_open()
        if not options:
            # As in Publisher.send.
            item = pack_plain(data)
            if item is not None:
                outgoing = self._outgoing
                items = outgoing.items
                if len(items) < outgoing.limit and len(item) <= SMALL:
                    items.append(item)
                    if not outgoing.marked:
                        self._mark(outgoing)
                    self._until_yield -= 1
                    if not self._until_yield:
                        self._until_yield = YIELD_EVERY
                        await asyncio.sleep(0)  # lets other tasks run; nothing is waited for
                    return
                await finish(self._put_steps(item, None, None))
                return
        steps = self._put_job(data, **options)
        if steps is not None:
            await finish(steps)

    async def send_many(self, data: Iterable[Any], **options: Unpack[SendOptions]) -> int:
        """Sends each item with these options; returns how many. `timeout` is for all of them: Timeout.sent says how
        many were taken."""
        return await finish(self._put_jobs(data, **options) if options else self._put_many(data, None))

    async def flush(self, *, until: Release = "stored", timeout: Timeout = 30.0) -> None:
        """Waits until all sent so far is confirmed: until it is "stored" by a spool or in an outbox, or processed; or
        until it is "processed" by pullers. Raises Undelivered; Refused for "processed" if a spool has some of it."""
        await finish(self._flush_steps(timeout, until))

    async def wait_for_pullers(self, count: int = 1, *, timeout: Timeout = 30.0) -> None:
        """Waits until `count` pullers of the queue are connected. Raises Timeout."""
        await finish(self._wait_steps(count, timeout))
