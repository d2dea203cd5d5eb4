"""Connections that fill a door's memory before they have shown the key: cut off after much less than a frame may have.

libzmq keeps what comes until a frame is whole, up to the door's limit, and the work door's is 257 MiB: it does not tell
a stranger's first frames from a friend's later ones. TCP does. Until somebody has shown the key a door sends him its
greeting and its answer to his HELLO, 234 bytes, and needs some 550 of his; to a friend it sends more before he may say
anything else. So who has sent us more than ENOUGH and got no more than that is no friend, whatever he is about to say.

The kernel is asked (Linux; elsewhere nothing is watched) of connections that were taken lately, some at a time. They
are known by their descriptor, which may be another's by then: only if both addresses are still the same it is that one.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections import OrderedDict
from typing import Any

from zq.record import dataclass
from zq.security.taken import cut_off, duplicate

ENOUGH = 64 << 10  # bytes; a handshake needs less than 1,000
# Bytes that a door sends before: its greeting (RFC 23), WELCOME (RFC 26), and slack, as TCP counts a SYN.
UNPROVEN = 64 + 170 + 6
YOUNG = 4.0  # s that a connection is watched; the handshake has to be over after 3
EVERY = 0.05  # s between two looks: 6 MB on a gigabit network
MOST = 32  # connections looked at at once, some 3 us each
CONNECTIONS = 4_096  # watched; the oldest are let go

_LINUX_TCP_INFO = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_COUNTERS = struct.Struct("=120xQQ")  # of struct tcp_info: tcpi_bytes_acked, tcpi_bytes_received (Linux 4.1)


@dataclass(frozen=True, slots=True)
class Young:
    """A connection that was taken lately."""

    since: float
    here: Any  # both ends, as the kernel names them
    there: Any


class Overfill:
    """All doors' young connections, by descriptor. Belongs to the engine's thread."""

    def __init__(self) -> None:
        self._young: OrderedDict[int, Young] = OrderedDict()
        self._next = 0.0
        self.cut_off = 0

    def __bool__(self) -> bool:
        """Whether there is anything to look at, every EVERY seconds."""
        return bool(self._young)

    def taken(self, descriptor: int, connection: socket.socket, now: float) -> None:
        if _LINUX_TCP_INFO is None:
            return
        if (ends := _ends(connection)) is None:
            return
        self._young[descriptor] = Young(now, *ends)
        self._young.move_to_end(descriptor)
        while len(self._young) > CONNECTIONS:
            self._young.popitem(last=False)

    def closed(self, descriptor: int) -> None:
        self._young.pop(descriptor, None)

    def look(self, now: float) -> None:
        """At some of them, if it is time."""
        if now < self._next:
            return
        self._next = now + EVERY
        for _ in range(min(MOST, len(self._young))):
            descriptor, young = self._young.popitem(last=False)
            if now - young.since < YOUNG and self._is_undecided(descriptor, young):
                self._young[descriptor] = young

    def _is_undecided(self, descriptor: int, young: Young) -> bool:
        """Whether it has to be looked at again. Cuts it off if it is full."""
        if not (counted := _counters(descriptor)):
            return False
        sent, received = counted
        if sent > UNPROVEN:
            return False  # he has shown the key
        if received <= ENOUGH:
            return True
        connection = duplicate(descriptor)
        if connection is not None:
            with connection:
                if _ends(connection) == (young.here, young.there):
                    self.cut_off += 1
                    cut_off(connection)
        return False


def _counters(descriptor: int) -> tuple[int, int] | None:
    """Bytes that the other end has acknowledged, and that have come from there. None if the kernel does not say.

    Asked of the descriptor itself, whosever it is by now: looking at many of them has to be quick.
    """
    try:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, descriptor)  # all given: it need not be asked
    except OSError:
        return None  # it is closed, or another's and no socket
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, _LINUX_TCP_INFO or 0, 256)
    except OSError:
        return None  # it is no TCP
    finally:
        connection.detach()
    return _COUNTERS.unpack_from(info) if len(info) >= _COUNTERS.size else None  # else an old kernel


def _ends(connection: socket.socket) -> tuple[Any, Any] | None:
    try:
        return connection.getsockname(), connection.getpeername()
    except OSError:
        return None  # it is gone
