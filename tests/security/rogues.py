"""Strangers at the doors of a peer, and friends that go on talking meanwhile."""

from __future__ import annotations

import itertools
import secrets
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq
from zmq.utils import z85

import zq
from tests.waiting import eventually
from zq.engine.listeners import Listeners
from zq.engine.lookout import Lookout
from zq.engine.sockets import Sockets
from zq.security.keys import new_key_file, today
from zq.security.lock import Lock, Pair, fit

DEADLINE = 20.0  # s for anything here
PATIENCE = 5_000  # ms until a stranger gives up who hears nothing: longer than any door has for him
MESSAGES = 5  # that each stranger tries to send
_numbers = itertools.count()
_NUMBER = struct.Struct("=H")

Fit = Callable[[zmq.Socket[bytes]], None]


def write_key(path: Path) -> Path:
    """A key file with a new key."""
    path.touch(0o600)
    path.write_text(new_key_file(today()))
    return path


def sockets_of(peer: zq.Peer) -> Sockets:
    engine = peer._engine
    assert engine is not None
    assert engine._sockets is not None
    return engine._sockets


def listeners_of(peer: zq.Peer) -> Listeners:
    return sockets_of(peer).listeners


def lookout_of(peer: zq.Peer) -> Lookout:
    engine = peer._engine
    assert engine is not None
    assert engine._lookout is not None
    return engine._lookout


def lock_of(peer: zq.Peer) -> Lock:
    lock = sockets_of(peer)._lock
    assert lock is not None
    return lock


def doors_of(peer: zq.Peer) -> list[str]:
    """Its mailbox, feed and work on its first address."""
    engine = peer._engine
    assert engine is not None
    return engine.node.card.endpoints[0]


def no_key(_: zmq.Socket[bytes]) -> None:
    """NULL."""


def plain(socket: zmq.Socket[bytes]) -> None:
    socket.set(zmq.PLAIN_USERNAME, b"admin")
    socket.set(zmq.PLAIN_PASSWORD, b"admin")


def random_pair() -> Pair:
    public, secret = zmq.curve_keypair()
    return Pair(z85.decode(public), z85.decode(secret))


def random_keys(socket: zmq.Socket[bytes]) -> None:
    """Of the stranger, and for the door."""
    fit(socket, random_pair().public, random_pair())


class Rogue:
    """One socket that tries one door. `verdict` is None until the door has answered; then whether it is in."""

    def __init__(self, context: zmq.Context[Any], kind: int, endpoint: str, fit: Fit) -> None:
        self.what = f"{zmq.SocketType(kind).name} at {endpoint}"
        self.kind = kind
        self.verdict: bool | None = None
        self.socket = context.socket(kind)
        self.socket.set(zmq.RECONNECT_IVL, 60_000)  # ms: one try
        self.socket.set(zmq.HANDSHAKE_IVL, PATIENCE)
        self.socket.set(zmq.IPV6, 1)
        fit(self.socket)
        if kind == zmq.SUB:
            self.socket.set(zmq.SUBSCRIBE, b"")
        name = f"inproc://rogue-{next(_numbers)}"
        self.socket.monitor(name, zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | HANDSHAKE_FAILED)
        self.monitor = context.socket(zmq.PAIR)
        self.monitor.connect(name)
        self.socket.connect(endpoint)
        for number in range(MESSAGES):
            self.say(b"M" + b"\0" * 32 + bytes([number]) * 40)

    def say(self, frame: bytes) -> None:
        if self.kind in (zmq.PUSH, zmq.PUB, zmq.DEALER, zmq.XSUB):
            try:
                self.socket.send(frame, zmq.NOBLOCK)
            except zmq.Again:
                pass  # nobody to send it to: so it should be
        elif self.kind == zmq.ROUTER:
            self.socket.send_multipart([b"anybody", frame], zmq.NOBLOCK)

    def listen(self) -> None:
        event, _ = self.monitor.recv_multipart()
        number = _NUMBER.unpack_from(event)[0]
        if number == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.verdict = True
        elif self.verdict is None:
            self.verdict = False

    def heard(self) -> list[bytes]:
        """What it has received."""
        if self.kind in (zmq.PUSH, zmq.PUB):
            return []
        try:
            return self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return []

    def close(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)


HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)


class Rogues:
    """Many of them. Leaving ends them all."""

    def __init__(self) -> None:
        self.context: zmq.Context[Any] = zmq.Context()
        self.all: list[Rogue] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.context.destroy(linger=0)

    def knock(self, kind: int, endpoint: str, fit: Fit) -> None:
        self.all.append(Rogue(self.context, kind, endpoint, fit))

    def wait_for_verdicts(self) -> None:
        """Until every door has answered, or somebody is in."""
        waiting = self.listen(time.monotonic() + DEADLINE)
        assert not waiting, f"no answer: {[rogue.what for rogue in waiting]}"

    def listen(self, deadline: float) -> list[Rogue]:
        """The same, but no longer. Returns those who have no answer, if nobody is in."""
        poller, waiting = zmq.Poller(), {rogue.monitor: rogue for rogue in self.all if rogue.verdict is None}
        for monitor in waiting:
            poller.register(monitor, zmq.POLLIN)
        while waiting and (left := deadline - time.monotonic()) > 0:
            for monitor, _ in poller.poll(int(left * 1_000)):
                waiting[monitor].listen()
                if waiting[monitor].verdict:
                    return []
                poller.unregister(monitor)
                del waiting[monitor]
        return list(waiting.values())

    def who_is_in(self) -> list[str]:
        return [rogue.what for rogue in self.all if rogue.verdict]

    def who_heard(self) -> list[str]:
        return [rogue.what for rogue in self.all if rogue.heard()]

    def close(self) -> None:
        """Ends those that there are; others may follow."""
        for rogue in self.all:
            rogue.close()
        self.all.clear()


def try_random_keys(lock: Lock, doors: Sequence[str], count: int, *, at_once: int = 50) -> list[str]:
    """`count` strangers, each with keys of his own, half of whom know whom they connect to. Returns who got in."""
    callers = (zmq.PUSH, zmq.SUB, zmq.PUSH)
    got_in: list[str] = []
    with Rogues() as rogues:
        for number in range(count):
            door = number % 3
            rogues.knock(callers[door], doors[door], lock.fit_stranger if number % 2 else random_keys)
            if len(rogues.all) == at_once or number == count - 1:
                rogues.wait_for_verdicts()
                got_in += rogues.who_is_in() + rogues.who_heard()
                rogues.close()
    return got_in


class Friends:
    """Two peers of the realm, one publishing to the other at a steady rate, with the time each message took."""

    def __init__(self, options: dict[str, Any], *, rate: float = 1_000.0) -> None:
        self.sender, self.receiver = zq.Peer("sender", **options), zq.Peer("receiver", **options)
        self.took: list[float] = []
        self.sent = 0
        self._pause = 1.0 / rate
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self.sender.open()
        self.receiver.open()
        self._subscriber = self.receiver.subscriber("friends")
        self._publisher = self.sender.publisher("friends")
        self._publisher.wait_for_subscribers(timeout=DEADLINE)
        for work in (self._send, self._receive):
            self._threads.append(threading.Thread(target=work, daemon=True))
            self._threads[-1].start()
        return self

    def _send(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(due - time.monotonic(), 0.0)):
            self._publisher.send(time.monotonic())
            self.sent += 1
            due += self._pause

    def _receive(self) -> None:
        for message in self._subscriber:
            self.took.append(time.monotonic() - message.data)

    def rest(self) -> None:
        """Stops sending; returns when all has been received, and fails if it is not."""
        self._stop.set()
        self._threads[0].join(DEADLINE)
        self._publisher.flush(timeout=DEADLINE)
        eventually(lambda: len(self.took) >= self.sent, DEADLINE)  # what has arrived is still to be taken
        self._subscriber.close()
        self._threads[1].join(DEADLINE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for peer in (self.sender, self.receiver):
            peer.close(timeout=DEADLINE)


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def new_id() -> bytes:
    return secrets.token_bytes(16)
