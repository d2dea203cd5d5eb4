"""A peer's own doors on trial, before anybody is told where they are.

Every door is tried as a stranger would: without any key, with a key of his own, with the right key while nobody
answers for the domain. Whoever gets in is the proof of a hole, and the peer does not start. At the end the right key
has to get in, or the others may have failed for another reason. All doors are tried at once: a few milliseconds.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence

import zmq

from zq.errors import AccessDenied
from zq.security.lock import Lock
from zq.security.zap import Zap

PATIENCE = 5.0  # s for all verdicts together; a machine under load needs 0.1

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_DISCONNECTED
)
_NUMBER = struct.Struct("=H")

Context = zmq.Context[zmq.Socket[bytes]]
Fit = Callable[[zmq.Socket[bytes]], None]
Door = tuple[str, int]  # its endpoint, and the type of socket that connects to it


def stand_trial(doors: Sequence[Door], lock: Lock, zap: Zap) -> None:
    """Raises AccessDenied if one of `doors` lets a stranger in, or the right key not. Leaves `zap` started."""
    deadline = time.monotonic() + PATIENCE
    context = zmq.Context()
    try:
        zap.stop()
        try:
            unanswered = [Knock(context, door, "the key, but nobody to check it", lock.fit_own) for door in doors]
            verdicts(unanswered, None, deadline)
        finally:
            zap.start()
        strangers = [Knock(context, door, "no key", lambda _: None) for door in doors]
        strangers += [Knock(context, door, "a key of his own", lock.fit_stranger) for door in doors]
        friends = [Knock(context, door, "the key", lock.fit_own) for door in doors]
        verdicts(strangers + friends, zap, deadline)
        for knock in unanswered + strangers:
            if knock.got_in:
                raise AccessDenied(
                    f"{knock.endpoint} lets in a stranger with {knock.how}: this peer does not start. "
                    "Report it as a security problem, see SECURITY.md"
                )
        for knock in friends:
            if not knock.got_in:
                raise AccessDenied(f"{knock.endpoint} does not let in who has the key: this peer does not start")
    finally:
        context.destroy(linger=0)


class Knock:
    """One try at one door. `got_in` is None until the door has answered."""

    def __init__(self, context: Context, door: Door, how: str, fit: Fit) -> None:
        self.endpoint, kind = door
        self.how = how
        self.got_in: bool | None = None
        self.socket = context.socket(kind)
        self.socket.set(zmq.IPV6, 1)
        self.socket.set(zmq.RECONNECT_IVL, -1)  # one try: a second might come in after the trial, and be let in
        fit(self.socket)
        name = f"inproc://knock-{id(self)}"
        self.socket.monitor(name, _EVENTS)
        self.monitor = context.socket(zmq.PAIR)
        self.monitor.connect(name)
        self.socket.connect(self.endpoint)

    def listen(self) -> None:
        event, _ = self.monitor.recv_multipart()
        if self.got_in is None:
            self.got_in = _NUMBER.unpack_from(event)[0] == zmq.EVENT_HANDSHAKE_SUCCEEDED


def verdicts(knocks: Sequence[Knock], zap: Zap | None, deadline: float) -> None:
    """Waits until every door has answered; `zap` answers meanwhile."""
    poller = zmq.Poller()
    waiting = {knock.monitor: knock for knock in knocks}
    for monitor in waiting:
        poller.register(monitor, zmq.POLLIN)
    if zap is not None:
        poller.register(zap.socket, zmq.POLLIN)
    while waiting:
        left = deadline - time.monotonic()
        if left <= 0:
            knock = next(iter(waiting.values()))
            raise AccessDenied(f"{knock.endpoint} did not answer within {PATIENCE:g} s whether it refuses {knock.how}")
        for socket, _ in poller.poll(max(int(left * 1_000), 1)):
            if zap is not None and socket is zap.socket:
                zap.answer()
            elif socket in waiting:
                waiting[socket].listen()
                poller.unregister(socket)
                del waiting[socket]
