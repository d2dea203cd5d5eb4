"""Waking without lost wake-ups, in both directions.

Callers wait for the engine with one token each, never with a flag that all share: `Waiters.wake` hands the wake to
one token, and whoever was woken and leaves something behind, or leaves without it, wakes the next. A waiter adds its
token, then looks once more, then sleeps; the engine acts, then wakes; so one of the two always sees the other.

The engine waits in its poller with the `Bell` among what it polls. A caller writes the bell before it clears the
idle flag: an interrupt between the two rings twice, which is harmless.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio  # a program without coroutines does not pay for it: 40 ms


class Token(Protocol):
    """One waiter's own. `wake` is False when there is nobody any more: then the next gets the wake."""

    def wake(self) -> bool: ...


class ThreadToken:
    """For a blocked thread: a lock that the waker releases."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> bool:
        try:
            self._lock.release()
        except RuntimeError:
            pass  # woken twice: once is enough
        return True

    def wait(self, timeout: float | None) -> bool:
        """False when the time ran out. A signal's exception passes through."""
        if timeout is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))


class LoopToken:
    """For a coroutine: a future of its event loop. A closed loop is that waiter's end, not the engine's."""

    __slots__ = ("_loop", "future")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._done)
        except RuntimeError:
            return False  # the loop is closed
        return True

    def _done(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Waiters:
    """The tokens of those who wait for one thing, longest first."""

    __slots__ = ("tokens",)

    def __init__(self) -> None:
        self.tokens: deque[Token] = deque()

    def __bool__(self) -> bool:
        return bool(self.tokens)

    def add(self, token: Token) -> None:
        self.tokens.append(token)

    def leave(self, token: Token) -> bool:
        """The waiter goes; False if it had been woken. If it then does not look for itself it must wake the next."""
        try:
            self.tokens.remove(token)
        except ValueError:
            return False
        return True

    def wake(self) -> None:
        """Wakes one waiter, if there is one."""
        while self.tokens:
            try:
                token = self.tokens.popleft()
            except IndexError:
                return  # another thread was faster
            if token.wake():
                return

    def wake_all(self) -> None:
        while self.tokens:
            self.wake()


class Bell:
    """Wakes the engine out of its poller: an eventfd, or a pair of sockets where there is none."""

    def __init__(self) -> None:
        self.ring: Callable[[], object]
        if hasattr(os, "eventfd"):
            self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self.fd = self._eventfd
            self.ring = self._ring_eventfd
            self._pair: tuple[socket.socket, socket.socket] | None = None
        else:
            self._pair = socket.socketpair()
            for end in self._pair:
                end.setblocking(False)
            self.fd = self._pair[0].fileno()
            self.ring = self._ring_pair

    def _ring_eventfd(self) -> None:
        try:
            os.eventfd_write(self._eventfd, 1)
        except (OSError, ValueError):
            pass  # closed meanwhile: the engine has ended and needs no waking

    def _ring_pair(self) -> None:
        assert self._pair is not None
        try:
            self._pair[1].send(b"\0")
        except OSError:
            pass  # full, so it rings already; or closed, and the engine has ended

    def silence(self) -> None:
        """Called by the engine when it is awake."""
        try:
            if self._pair is None:
                os.eventfd_read(self._eventfd)
            else:
                self._pair[0].recv(4096)
        except BlockingIOError:
            pass  # nobody rang: the poller had something else

    def close(self) -> None:
        if self._pair is None:
            # First: whoever rings late must not write to what the system gives this number to next. libzmq has such
            # descriptors, and aborts the process when somebody else writes to one.
            closed, self._eventfd = self._eventfd, -1
            os.close(closed)
        else:
            for end in self._pair:
                end.close()
