"""Looking at peers and processes: what happened and when, what is open, what a process takes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zq
from zq.core.node import Node
from zq.handles.steps import finish, until

PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """An event and when it was seen, in monotonic seconds."""

    kind: str
    peer: zq.PeerInfo
    at: float


class Watcher:
    """Everything that `peer.watch` yields, from now until the peer is closed."""

    def __init__(self, peer: zq.Peer) -> None:
        self.sights: list[Sight] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._watch, args=(peer,), daemon=True)
        self._thread.start()

    def _watch(self, peer: zq.Peer) -> None:
        for event in peer.watch():
            with self._news:
                self.sights.append(Sight(kind=event.kind, peer=event.peer, at=time.monotonic()))
                self._news.notify_all()

    def of(self, id: str) -> list[str]:
        """The kinds of what happened to peer `id`, in order."""
        with self._news:
            return [sight.kind for sight in self.sights if sight.peer.id.hex() == id]

    def wait_for(self, kind: str, id: str, *, timeout: float = 10.0, after: float = 0.0) -> Sight:
        """The first event of that kind and peer seen `after` that time."""

        def found() -> Sight | None:
            for sight in self.sights:
                if sight.kind == kind and sight.peer.id.hex() == id and sight.at >= after:
                    return sight
            return None

        with self._news:
            sight = self._news.wait_for(found, timeout)
            seen = [(sight.kind, sight.peer.name) for sight in self.sights]
        assert sight is not None, f"no {kind!r} of {id[:8]} within {timeout} s; seen: {seen}"
        return sight


def wait_until(peer: zq.Peer, test: Callable[[Node], object], timeout: float = 10.0) -> None:
    """Waits for something that only the peer's engine knows; `test` looks at its node after each turn."""
    engine = peer._engine
    assert engine is not None
    held = finish(until(engine, lambda: test(engine.node), time.monotonic() + timeout))
    assert held, f"that did not come to be within {timeout} s"


def endpoints(peer: zq.Peer) -> list[str]:
    """Where the peer listens on its first address: mailbox, feed and work."""
    engine = peer._engine
    assert engine is not None
    return engine.node.card.endpoints[0]


def footprint() -> dict[str, int]:
    """What this process has open and takes: descriptors, threads, bytes of memory."""
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208, names are enough
        "threads": threading.active_count(),
        "bytes": int(Path("/proc/self/statm").read_text().split()[1]) * PAGE,
    }
