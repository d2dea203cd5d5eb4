"""The answer to libzmq's question who may come in (ZAP, RFC 27): only CURVE, and only with a key of the realm.

It is bound before the first door is, and belongs to the engine's thread like every other socket. When it does not
answer, nobody comes in: see `lock`. pyzmq's own authenticator is not used, because it lets NULL pass by default.
"""

from __future__ import annotations

import time

import zmq

from zq.security.guard import Guard
from zq.security.lock import DOMAIN, Lock
from zq.security.porch import Porch
from zq.security.taken import plain

ENDPOINT = "inproc://zeromq.zap.01"  # fixed by RFC 27
MOST = 4  # questions answered before the other sockets get their turn


class Zap:
    """Answers for the domain of one context, from `start` to `stop`."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], lock: Lock, guard: Guard) -> None:
        self._context = context
        self._lock = lock
        self.guard = guard
        self.porch: Porch | None = None  # where they wait for their turn, when the trial is over
        self.socket: zmq.Socket[bytes]
        self.start()

    def start(self) -> None:
        self.socket = self._context.socket(zmq.ROUTER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.bind(ENDPOINT)

    def stop(self) -> None:
        self.socket.unbind(ENDPOINT)  # first: a closed socket may be asked for a while yet, and would never answer
        self.socket.close(0)

    def answer(self) -> bool:
        """What has been asked; True if there may be more."""
        for _ in range(MOST):
            try:
                question = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            *route, version, request, domain, address, _, mechanism = question[:8]
            where, now = plain(address.decode("ascii", "replace")), time.monotonic()
            if version == b"1.0" and domain == DOMAIN and self._is_ours(mechanism, question[8:]):
                self.guard.admitted(where)
                if self.porch is not None:
                    self.porch.admitted(where, now)
                reply = [b"200", b"", b"", b""]
            else:
                self.guard.refused(where, now)
                reply = [b"400", b"", b"", b""]  # no reason is given, and libzmq does not try again
            self.socket.send_multipart([*route, b"1.0", request, *reply])
        return True

    def _is_ours(self, mechanism: bytes, credentials: list[bytes]) -> bool:
        return mechanism == b"CURVE" and len(credentials) == 1 and self._lock.admits(credentials[0])
