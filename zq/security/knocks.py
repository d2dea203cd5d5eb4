"""What happens at a bound socket before anybody is in, as its monitor tells: who came, and who failed.

libzmq says of a failed handshake neither which connection it was nor where it came from, and of some that they are
closed and no more. But it says with each connection taken its descriptor, with each one closed the same, and a failure
always right before the closing: so the address is asked of the descriptor when it is taken. It may have been closed by
then; that one is of an unknown address.
"""

from __future__ import annotations

import socket
import struct
import time
from itertools import count

import zmq

from zq.security.guard import Guard
from zq.security.overfill import Overfill
from zq.security.porch import Porch
from zq.security.taken import UNKNOWN, address_of, cut_off, duplicate

MOST = 2  # events read before the other sockets get their turn: one takes some 0.03 ms
OPEN = 65_536  # descriptors whose address is remembered; as many as a process has

_listenings = count()

_EVENT = struct.Struct("=HI")  # number and value
_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_EVENTS = zmq.EVENT_LISTENING | zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | _FAILURES


class Knocks:
    """The monitor of one door, and what the guard says to it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        door: zmq.Socket[bytes],
        guard: Guard,
        overfill: Overfill,
        porch: Porch,
    ) -> None:
        self._door = door
        self._guard = guard
        self._overfill = overfill
        self._porch = porch
        self._addresses: dict[int, str] = {}
        self._too_many: set[int] = set()  # of those: closed, whatever they would have said
        self._failed = False  # the connection that is closed next
        address = f"inproc://knocks-{id(self)}"
        door.monitor(address, _EVENTS)
        self.socket = context.socket(zmq.PAIR)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.RCVHWM, 0)  # without a limit: at one, libzmq's I/O thread would wait for us
        self.socket.connect(address)

    def read(self) -> bool:
        """What has happened; True if there may be more."""
        for _ in range(MOST):
            try:
                event, endpoint = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            number, value = _EVENT.unpack_from(event)
            self._on_event(number, value, endpoint)
        return True

    def _on_event(self, event: int, value: int, endpoint: bytes) -> None:
        if event == zmq.EVENT_ACCEPTED:
            self._on_accepted(value, endpoint)
        elif event & _FAILURES:
            self._failed = True
        elif event == zmq.EVENT_DISCONNECTED:
            self._overfill.closed(value)
            self._porch.closed(value)
            address = self._forget(value)
            if value in self._too_many:
                self._too_many.remove(value)
            else:
                self._guard.closed(address, time.monotonic(), failed=self._failed)
            self._failed = False
        elif event == zmq.EVENT_LISTENING:
            self._porch.opened(value, endpoint.decode())

    def _on_accepted(self, descriptor: int, endpoint: bytes) -> None:
        now = time.monotonic()
        connection = duplicate(descriptor)
        if connection is None:
            self._miss(now)
            return
        with connection:
            if not _is_at(connection, endpoint):
                self._miss(now)  # the descriptor is another's by now, perhaps the program's own
                return
            address = address_of(connection)
            self._forget(descriptor)  # of another's end nobody may have heard
            self._too_many.discard(descriptor)
            if len(self._addresses) < OPEN:
                self._addresses[descriptor] = address
                if not self._guard.taken(address):
                    self._too_many.add(descriptor)
                    self._porch.missed(now, address)  # whoever goes on coming waits outside some time
                    cut_off(connection)
                    return
            self._overfill.taken(descriptor, connection, now)
            self._porch.taken(descriptor, connection, address, now)

    def _forget(self, descriptor: int) -> str:
        """It has ended. Returns where it came from."""
        address = self._addresses.pop(descriptor, None)
        if address is None:
            return UNKNOWN
        self._guard.ended(address)
        return address

    def _miss(self, now: float) -> None:
        self._guard.unseen += 1
        self._porch.missed(now)

    def close(self) -> None:
        self._door.disable_monitor()
        self.socket.close(0)


def listen(context: zmq.Context[zmq.Socket[bytes]], door: zmq.Socket[bytes], endpoint: str) -> int:
    """Binds it there, and returns the descriptor that listens. Raises zmq.ZMQError. Before its `Knocks`."""
    address = f"inproc://listening-{next(_listenings)}"  # never one of before: libzmq frees them in its own time
    door.monitor(address, zmq.EVENT_LISTENING)
    monitor = context.socket(zmq.PAIR)
    try:
        monitor.connect(address)
        door.bind(endpoint)
        event, _ = monitor.recv_multipart()  # it is there: binding has said it
    finally:
        door.disable_monitor()
        monitor.close(0)
    return int(_EVENT.unpack_from(event)[1])


def _is_at(connection: socket.socket, endpoint: bytes) -> bool:
    """Whether its end here is the port of that door."""
    try:
        name = connection.getsockname()
    except OSError:
        return False
    return not isinstance(name, tuple) or endpoint.endswith(b":%d" % name[1])
