"""What happens at a bound socket before anybody is in, as its monitor tells: who came, and who failed.

libzmq says of a failed handshake neither which connection it was nor where it came from, and of some that they are
closed and no more. But it says with each connection taken its descriptor, with each one closed the same, and a failure
always right before the closing: so the address is asked of the descriptor when it is taken. It may have been closed by
then; that one is of an unknown address.
"""

from __future__ import annotations

import os
import socket
import struct
import time

import zmq

from zq.security.guard import UNKNOWN, Guard
from zq.security.overfill import Overfill

MOST = 64  # events read before the other sockets get their turn
OPEN = 65_536  # descriptors whose address is remembered; as many as a process has

_EVENT = struct.Struct("=HI")  # number and value
_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | _FAILURES


class Knocks:
    """The monitor of one door, and what the guard says to it."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], door: zmq.Socket[bytes], guard: Guard, overfill: Overfill
    ) -> None:
        self._door = door
        self._guard = guard
        self._overfill = overfill
        self._addresses: dict[int, str] = {}
        self._failed = False  # the connection that is closed next
        address = f"inproc://knocks-{id(self)}"
        door.monitor(address, _EVENTS)
        self.socket = context.socket(zmq.PAIR)
        self.socket.set(zmq.LINGER, 0)
        self.socket.connect(address)

    def read(self) -> bool:
        """What has happened; True if there may be more."""
        for _ in range(MOST):
            try:
                event, _ = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            self._on_event(*_EVENT.unpack_from(event))
        return True

    def _on_event(self, event: int, value: int) -> None:
        if event == zmq.EVENT_ACCEPTED:
            self._on_accepted(value)
        elif event & _FAILURES:
            self._failed = True
        elif event == zmq.EVENT_DISCONNECTED:
            self._overfill.closed(value)
            address = self._addresses.pop(value, UNKNOWN)
            self._guard.closed(address, time.monotonic(), failed=self._failed)
            self._failed = False

    def _on_accepted(self, descriptor: int) -> None:
        connection = _duplicate(descriptor)
        if connection is None:
            return
        with connection:
            address = _address(connection)
            if len(self._addresses) < OPEN:
                self._addresses[descriptor] = address
            now = time.monotonic()
            self._overfill.taken(descriptor, connection, now)
            if self._guard.cuts_off(address, now):
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it is gone already

    def close(self) -> None:
        self._door.disable_monitor()
        self.socket.close(0)


def _duplicate(descriptor: int) -> socket.socket | None:
    try:
        return socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return None  # closed meanwhile


def _address(connection: socket.socket) -> str:
    try:
        name = connection.getpeername()
    except OSError:
        return UNKNOWN
    return str(name[0]).removeprefix("::ffff:") if isinstance(name, tuple) else UNKNOWN
