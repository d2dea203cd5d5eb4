"""Who has the key and sends what makes no sense: a mistake costs nothing, who sends much of it is cut off and waits.

Bytes of refused frames are counted for the connection that they came on:

    pardoned --more than PARDONED bytes within a WHILE--> cut off; and each further turn that his address gets at the
                                                          doors (`porch`) is as much later as what he sent was large

So bombs cost what one of them costs every few seconds, however many are sent: to take a frame off the network and
to decrypt it is most of it, and cannot be refused. Whoever is connected from that address already notices nothing, and
newcomers from there wait. What had come before the connection ended is counted as well, since it has cost as much.

libzmq says with each frame the descriptor that it came on, and from which address. The descriptor may be another's by
now: it counts only if it still leads to that address. A feed we have dialled ourselves; its peer is gone for good then,
which its owner sees to.
"""

from __future__ import annotations

import os
import socket
import time
from collections import OrderedDict

import zmq

from zq.logs import Logger
from zq.security.porch import Porch
from zq.security.taken import UNKNOWN, address_of, cut_off, duplicate, plain

log = Logger("zq.security")

PARDONED = 512 << 10  # bytes of refused frames of one connection in a while; a peer of another version says some
LEAST = 256  # bytes that a refused frame counts as, however short it is
WHILE = 10.0  # s
TURN = 64 << 10  # bytes that cost a turn: a frame of 1 MiB keeps both threads busy for some 4 ms, and costs 3.2 s
CONNECTIONS = 1_024  # remembered; the oldest are forgotten
SAID = 10.0  # s between two lines of the log


class Offenders:
    """All connections on which something was refused. Belongs to the engine's thread."""

    def __init__(self, porch: Porch) -> None:
        self._porch = porch
        self._counted: OrderedDict[object, tuple[float, int]] = OrderedDict()  # since when, and how many bytes
        self._said_at = -SAID
        self.cut_off = 0

    def refused(self, frame: zmq.Frame, size: int, feed: int | None = None) -> bool:
        """It made no sense, with its parts of that many bytes. Whether it was one too many; on one of our `feed`s its
        owner is to hang up then."""
        now, address = time.monotonic(), plain(_told(frame, "Peer-Address"))
        if feed is not None:
            is_over = self._count(("feed", feed), size, now)
            self.cut_off += is_over
        elif (connection := _connection_of(frame, address)) is None:
            is_over = True  # it was cut off, or has hung up
        else:
            with connection:
                if is_over := self._count(os.fstat(connection.fileno()).st_ino, size, now):
                    self.cut_off += 1
                    cut_off(connection)
        if is_over:
            self._porch.fined(address, size // TURN, now)
            if now - self._said_at >= SAID:
                self._said_at = now
                log.warning("%.64r sends what makes no sense and is cut off: %d so far", address, self.cut_off)
        return is_over

    def _count(self, key: object, size: int, now: float) -> bool:
        since, before = self._counted.pop(key, (now, 0))
        if now - since >= WHILE:
            since, before = now, 0
        if (count := before + max(size, LEAST)) > PARDONED:
            return True
        self._counted[key] = since, count
        if len(self._counted) > CONNECTIONS:
            self._counted.popitem(last=False)
        return False


def _told(frame: zmq.Frame, what: str) -> str:
    try:
        return str(frame.get(what))
    except zmq.ZMQError:
        return ""  # it has come by a file


def _connection_of(frame: zmq.Frame, address: str) -> socket.socket | None:
    """A duplicate, if it is still that one."""
    descriptor = _told(frame, "__fd")
    connection = duplicate(int(descriptor)) if descriptor.isdecimal() else None
    if connection is not None and address_of(connection) not in (address, UNKNOWN):
        connection.close()
        return None
    return connection
