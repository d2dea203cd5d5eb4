"""Which sockets have something to read.

ZeroMQ's file descriptors are edge-triggered, and using a socket may eat the signal: so EVENTS is read of every socket
that was signalled or just used, and again after each use, before anybody sleeps.

    quiet    nothing was signalled; what is signalled while we sleep is marked
    marked   may have something, or more; read until it has not
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable

import zmq

from zq.engine.wake import Bell

Socket = zmq.Socket[bytes]

AWAKE = 150e-6  # s that who expects an answer stays awake for it: what a peer on this machine takes, measured
MILLISECOND = 0.001  # s; what epoll counts in
SELECTABLE = 1_024  # FD_SETSIZE: descriptors from here on cannot be given to select

# As plain numbers: every operation on zmq's enumerations costs a microsecond.
_STATE, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)


def is_readable(socket: Socket) -> bool:
    return bool(socket.getsockopt(_STATE) & _POLLIN)  # type: ignore[operator]


class Watch:
    """Over the sockets of one thread, and the bell that others wake it with."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._poll = select.epoll() if hasattr(select, "epoll") else select.poll()
        # epoll counts in milliseconds; for less its own descriptor is waited for, if select can have it.
        self._select: list[int] = []
        if hasattr(self._poll, "fileno") and self._poll.fileno() < SELECTABLE:
            self._select.append(self._poll.fileno())
        self._second = 1 if hasattr(select, "epoll") else 1_000  # in the unit of the poller's timeout
        self._readers: dict[int, tuple[Socket, Callable[[], bool]]] = {}
        self._marked: set[int] = set()
        self._poll.register(bell.fd, select.POLLIN)

    def add(self, socket: Socket, read: Callable[[], bool]) -> int:
        """`read` returns whether there may be more. Returns its descriptor."""
        descriptor = int(socket.FD)
        self._readers[descriptor] = (socket, read)
        self._poll.register(descriptor, select.POLLIN)
        self._marked.add(descriptor)  # something may have come before it was watched
        return descriptor

    def remove(self, socket: Socket) -> None:
        descriptor = int(socket.FD)
        self._poll.unregister(descriptor)
        del self._readers[descriptor]
        self._marked.discard(descriptor)

    def mark(self, *descriptors: int) -> None:
        """They may have something although nothing was signalled."""
        self._marked.update(descriptors)

    def heed(self, descriptors: Iterable[int], wanted: bool) -> None:
        """Whether anybody who sleeps is woken by these."""
        for descriptor in descriptors:
            self._poll.modify(descriptor, select.POLLIN if wanted else 0)

    def sleep(self, timeout: float | None) -> None:
        """Until a socket or the bell is signalled, or for `timeout` seconds."""
        if timeout is not None and 0 < timeout < MILLISECOND and self._select:
            select.select(self._select, (), (), timeout)
            timeout = 0
        self._heard(self._poll.poll(None if timeout is None else timeout * self._second))

    def stay_awake(self) -> bool:
        """For AWAKE seconds, since a processor that sleeps takes long to come back. Whether something was signalled."""
        poll, until = self._poll.poll, time.monotonic() + AWAKE
        while not (ready := poll(0)) and time.monotonic() < until:
            os.sched_yield()
        self._heard(ready)
        return bool(ready)

    def _heard(self, ready: list[tuple[int, int]]) -> None:
        for descriptor, _ in ready:
            if descriptor in self._readers:
                self._marked.add(descriptor)
            else:
                self._bell.silence()

    def has_marked(self) -> bool:
        """Whether one of those that are marked has something indeed."""
        if self._marked:
            self._marked = {each for each in self._marked if is_readable(self._readers[each][0])}
        return bool(self._marked)

    def read(self, first: int) -> None:
        """Reads all that are marked, the `first` before the others."""
        marked, self._marked = self._marked, set()
        for descriptor in (first, *(marked - {first})) if first in marked else marked:
            reader = self._readers.get(descriptor)
            if reader is not None and reader[1]():
                self._marked.add(descriptor)

    def close(self) -> None:
        if hasattr(self._poll, "close"):
            self._poll.close()
