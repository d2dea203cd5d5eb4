"""The three doors of a peer, on every address: mailbox and work, which take frames, and feed, which publishes.

    made     shut: with a lock on them nobody is connected without the key
    bound    others may come, but the peer names them to nobody yet
    tried    `prove_closed` has come to each as a stranger does, and was not let in; who comes is counted from then on
    hidden   those that are files have another name while descriptors are scarce; whoever is in stays

Who comes without the key costs no more than there is to spare: see `zq.security.porch`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from zq.core.endpoints import TCP
from zq.core.port import Kind
from zq.discovery.place import SHUT
from zq.engine.factory import HANDSHAKE_HERE, Factory, Socket
from zq.engine.watch import Watch
from zq.security.guard import Guard
from zq.security.offenders import Offenders
from zq.security.overfill import EVERY, Overfill
from zq.security.porch import Porch
from zq.security.subscribers import Subscribers

if TYPE_CHECKING:  # loaded with the first key
    from zq.security.knocks import Knocks
    from zq.security.zap import Zap

KNOCKS = 0.02  # s from one look at the doors to the next, while somebody waits there
_CALLERS = (zmq.PUSH, zmq.SUB, zmq.PUSH)  # who connects to mailbox, feed and work


class Listeners:
    """Of one peer, and who comes there. Belongs to the engine's thread."""

    def __init__(self, factory: Factory, watch: Watch, descriptors: int) -> None:
        """`descriptors`: how many this process may have, 0 if nobody says."""
        self._context, self._lock = factory.context, factory.lock
        self._watch = watch
        self._descriptors = descriptors
        self.guard = Guard(quiet=True)  # of the trial, where we are the strangers ourselves
        self.overfill = Overfill()
        self.porch = Porch()
        self.subscribers = Subscribers()
        self.offenders = Offenders(self.porch)
        self._zap: Zap | None = None
        if self._lock is not None:
            from zq.security.zap import Zap

            self._zap = Zap(self._context, self._lock, self.guard)  # before any door is bound
        self._knocks: list[Knocks] = []
        self._knock_fds: list[int] = []
        self._crowded = False  # somebody waits at the doors, and who comes there is looked at once in a while
        self._next_knocks = 0.0
        self.mailbox, self.feed, self.work = map(factory.listener, (Kind.MAILBOX, Kind.FEED, Kind.WORK))
        self.bound: list[str] = []
        self._files: list[str] = []
        self.hidden = False

    def __iter__(self) -> Iterator[Socket]:
        """In the order in which their addresses stand in a row."""
        return iter((self.mailbox, self.feed, self.work))

    def bind(self, socket: Socket, endpoint: str) -> None:
        """Raises zmq.ZMQError when the endpoint cannot be had."""
        if not endpoint.startswith(TCP):
            socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_HERE)
            self._files.append(endpoint.removeprefix("ipc://"))
        if self._lock is None or self._knocks:  # these hear of it
            socket.bind(endpoint)
        else:
            from zq.security.knocks import listen

            self.porch.opened(listen(self._context, socket, endpoint), endpoint)
        self.bound.append(endpoint)

    def unbind(self, socket: Socket, endpoint: str) -> None:
        socket.unbind(endpoint)
        self.bound.remove(endpoint)
        self.porch.forget(endpoint)

    def prove_closed(self, rows: Sequence[Sequence[str]]) -> None:
        """Tries the doors (mailbox, feed, work; a row an address), then opens them to whoever has the key.

        Raises AccessDenied if a stranger gets in. Without a lock there is nothing to prove.
        """
        if self._lock is None or self._zap is None:
            return
        from zq.security.knocks import Knocks
        from zq.security.trial import stand_trial

        stand_trial([door for row in rows for door in zip(row, _CALLERS, strict=True)], self._lock, self._zap)
        self.guard = self._zap.guard = Guard()
        if self._descriptors:
            self.guard.share(self._descriptors)
        self._zap.porch = self.porch
        self._watch.add(self._zap.socket, self._zap.answer)
        for socket in self:
            knocks = Knocks(self._context, socket, self.guard, self.overfill, self.porch)
            self._knocks.append(knocks)
            self._knock_fds.append(self._watch.add(knocks.socket, knocks.read))
        self.porch.shut(self.guard)

    def hide(self, hidden: bool) -> None:
        """Nobody comes in by a file that has another name; unbinding it would end all who came in there before."""
        self.hidden = hidden
        for path in self._files:
            here, there = (path, path + SHUT) if hidden else (path + SHUT, path)
            try:
                Path(here).rename(there)
            except FileNotFoundError:
                pass  # somebody has removed it: nobody comes in there any more

    def look(self, timeout: float | None, now: float) -> float | None:
        """At who comes there. Returns how long to sleep, if `timeout` were the limit otherwise."""
        if self.overfill:
            self.overfill.look(now)
            timeout = EVERY if timeout is None else min(timeout, EVERY)
        if self.porch or self._crowded:
            timeout = self._attend(timeout)
        return timeout

    def _attend(self, timeout: float | None) -> float | None:
        """To those who wait at the doors. Returns how long to sleep, if `timeout` were the limit otherwise.

        While some wait, nobody is woken by whoever comes, but all who have come are looked at KNOCKS seconds later:
        being woken for each of them costs several times what they do themselves.
        """
        now = time.monotonic()
        turn = self.porch.look(now)
        if bool(self.porch) is not self._crowded:
            self._crowded = not self._crowded
            self._watch.heed(self._knock_fds, not self._crowded)
        elif now < self._next_knocks:
            return turn if timeout is None else min(timeout, turn)
        self._next_knocks = now + KNOCKS
        self._watch.mark(*self._knock_fds)
        return 0.0

    def turned_away(self) -> dict[str, int]:
        """How many the limits have cut off or refused, by what it was for (SECURITY.md, "Limits")."""
        return {
            "handshake": self.guard.failures,
            "failed too often": self.guard.cut_off,
            "too much before the key": self.overfill.cut_off,
            "too many waiting": self.porch.turned_away,
            "too many at once": self.porch.shut_out,
            "too many connections": self.guard.crowded_out,
            "subscriptions": self.subscribers.cut_off,
            "senseless frames": self.offenders.cut_off,
        }

    def close(self, linger: float) -> None:
        """What is still being published has `linger` seconds."""
        for knocks in self._knocks:
            knocks.close()
        if self._zap is not None:
            self._zap.stop()
        for socket in (self.mailbox, self.work):
            socket.close(0)
        self.feed.close(int(linger * 1000))
