"""How much each connection at the feed subscribes to: whoever has the key may still be mistaken, or worse.

libzmq keeps every prefix that a connection has subscribed, some 50 bytes of memory for each byte of it, for as long as
that connection lasts, and tries it with everything that is published. It has no limit. So each subscription is counted
for the connection that it came on, and who wants more than a peer can have a use for, or what no topic begins with, is
cut off: libzmq then forgets all that he has subscribed, and nobody else notices.

libzmq says with each subscription the descriptor that it came on. That may be another connection's a moment later, so
it goes with the inode of its socket, which is never the same again. What an ended connection takes back has no
descriptor: then those that have ended are looked for.
"""

from __future__ import annotations

import os
import time

import zmq

from zq.logs import Logger
from zq.record import dataclass, field
from zq.security.taken import address_of, cut_off, duplicate
from zq.wire.limits import NAME, SUBSCRIPTIONS

log = Logger("zq.security")

PREFIXES = 2 * SUBSCRIPTIONS + 16  # of one connection: a filter has two at most, and there are old and new fences
LONGEST = 1 + 1 + NAME + 1  # bytes of a subscription: what it is, T, a name and what ends it; a fence is shorter
SAID = 10.0  # s between two lines of the log


@dataclass(eq=False, slots=True)
class Wishes:
    """Of one connection."""

    inode: int
    prefixes: set[bytes] = field(default_factory=set)
    cut_off: bool = False


class Subscribers:
    """All connections at a feed, by descriptor. Belongs to the engine's thread."""

    def __init__(self) -> None:
        self._wishes: dict[int, Wishes] = {}
        self._ended = False  # some connection has, since the last look
        self._said_at = -SAID
        self.cut_off = 0

    def count(self, frame: zmq.Frame) -> bool:
        """A frame that has come at the feed. False if it is of somebody who is cut off."""
        try:
            descriptor = int(str(frame.get("__fd")))
            inode = os.fstat(descriptor).st_ino
        except (zmq.ZMQError, OSError, ValueError):
            self._ended = True
            return True  # nobody's any more: what libzmq has taken back itself
        if not inode:
            return True  # this system does not tell sockets apart
        wishes = self._wishes.get(descriptor)
        if wishes is None or wishes.inode != inode:
            wishes = self._wishes[descriptor] = Wishes(inode)
        if wishes.cut_off:
            return False
        prefix = frame.bytes[1:]
        if frame.bytes[:1] == b"\1":
            wishes.prefixes.add(prefix)
        else:
            wishes.prefixes.discard(prefix)
        if len(wishes.prefixes) <= PREFIXES and len(frame) <= LONGEST:
            return True
        self._cut_off(descriptor, wishes)
        return False

    def look(self) -> None:
        """Forgets those that have ended."""
        if self._ended:
            self._ended = False
            self._wishes = {each: wishes for each, wishes in self._wishes.items() if _inode(each) == wishes.inode}

    def _cut_off(self, descriptor: int, wishes: Wishes) -> None:
        wishes.cut_off = True
        wishes.prefixes.clear()
        self.cut_off += 1
        connection = duplicate(descriptor)
        if connection is None:
            return
        with connection:
            if _inode(connection.fileno()) != wishes.inode:
                return
            now = time.monotonic()
            if now - self._said_at >= SAID:
                self._said_at = now
                log.warning(
                    "%.64r subscribes to more than %d prefixes, or to what is none, and is cut off: %d so far",
                    address_of(connection), PREFIXES, self.cut_off,
                )  # fmt: skip
            cut_off(connection)


def _inode(descriptor: int) -> int:
    try:
        return os.fstat(descriptor).st_ino
    except OSError:
        return 0  # closed
