"""Where those wait for their handshake who come from an address at which others have just failed it.

A handshake takes libzmq's I/O thread some 0.4 ms, and that thread carries the messages of friends as well: with fifty
strangers at once it is deaf to them for 5 ms and more, and nothing in libzmq limits how many it takes at a time. So
their connections are held: the kernel says of one that there is something to read only when HELD bytes have come
(SO_RCVLOWAT), which is more than a stranger may send. They are released one after the other, PACE seconds apart;
addresses take turns, so that one that many come from holds up none but its own.

    alarm      the doors are shut: what the kernel takes there is held from the first, before libzmq has read a byte
    taken      held on, if its address is suspected or somebody from there waits; else released at once
    held ->    released: its turn has come, and libzmq reads what it has said
         ->    closed: the stranger has left, or the 3 s of a handshake are over

Without an alarm nothing is held, and a connection costs what it did. Of one address the youngest goes first: where
more come than have a turn, the older ones run into the limit of 3 s anyway, and a friend among them has the best
chance while he is new. Descriptors are those of libzmq; one may be another's by now, and a release means nothing to it.

On Linux only (since 4.18 a release is signalled at once; before, who is held fails after 3 s and tries again).
"""

from __future__ import annotations

import os
import socket
import sys
from collections import OrderedDict

from zq.security.overfill import ENOUGH

HELD = ENOUGH  # bytes; who has sent more is cut off
PACE = 0.01  # s from one to the next: 100 handshakes a second take the I/O thread less than a tenth of its time
CAN_HOLD = sys.platform == "linux"


class Porch:
    """Of all doors of a peer. Belongs to the engine's thread."""

    def __init__(self) -> None:
        self.waiting: OrderedDict[str, dict[int, None]] = OrderedDict()  # by address, in the order of their turns
        self.held = 0  # in all
        self.doors: dict[int, str] = {}  # the descriptors that listen, and where
        self.is_shut = False
        self._was_shut = False
        self._addresses: dict[int, str] = {}
        self._next = 0.0

    def opened(self, descriptor: int, endpoint: str) -> None:
        """Of a door: people come in there from now on."""
        self.doors[descriptor] = endpoint
        if self.is_shut:
            _hold_duplicate(descriptor, HELD)

    def forget(self, endpoint: str) -> None:
        """Nobody listens there any more."""
        self.doors = {descriptor: each for descriptor, each in self.doors.items() if each != endpoint}

    def shut(self, wanted: bool) -> None:
        """Whether everybody who comes from now on is held until he is `taken`."""
        if wanted is self.is_shut or not CAN_HOLD:
            return
        self.is_shut = wanted
        self._was_shut = True
        for descriptor in self.doors:
            _hold_duplicate(descriptor, HELD if wanted else 1)

    def taken(self, descriptor: int, connection: socket.socket, address: str, *, suspected: bool) -> None:
        """Holds it, if there is a reason to. `connection` is a duplicate of `descriptor`."""
        self.closed(descriptor)  # its end may not have been heard yet
        if not CAN_HOLD:
            return
        if not (suspected or address in self.waiting):
            if self._was_shut:
                _hold(connection, 1)
        elif _hold(connection, HELD):
            self.held += 1
            self._addresses[descriptor] = address
            self.waiting.setdefault(address, {})[descriptor] = None

    def closed(self, descriptor: int) -> None:
        """It has ended. If that was said of another door's, and the number is in use again, that one is let go."""
        address = self._addresses.pop(descriptor, None)
        if address is None:
            return
        line = self.waiting[address]
        del line[descriptor]
        if not line:
            del self.waiting[address]
        _hold_duplicate(descriptor, 1)

    def look(self, now: float) -> float:
        """Releases one of those who wait, if it is time. Returns for how many seconds to sleep at most."""
        if now < self._next:
            return self._next - now
        self._next = now + PACE
        address, line = next(iter(self.waiting.items()))
        self.waiting.move_to_end(address)
        self.closed(next(reversed(line)))
        return PACE


def _hold(connection: socket.socket, size: int) -> bool:
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
    except OSError:
        return False  # it is gone
    return True


def _hold_duplicate(descriptor: int, size: int) -> None:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            _hold(connection, size)
    except OSError:
        pass  # it is gone
