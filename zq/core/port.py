"""The seam between the state machines and whatever carries their frames: ZeroMQ sockets or the simulated network."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from zq.wire.batch import Parts


class Kind(Enum):
    """What a connection is for; each has its own socket at the peer that accepts it."""

    MAILBOX = "mailbox"  # small frames: state
    FEED = "feed"  # topics, by subscription
    WORK = "work"  # batches of queues, refills


class Port(Protocol):
    """What the core asks of the outside. Calls never call back; what happens comes in as events of the node.

    A connection is named by a number that the caller draws and never uses twice.
    """

    def dial(self, connection: int, kind: Kind, endpoint: str) -> None: ...

    def send(self, connection: int, parts: Parts) -> bool:
        """Frames of one connection arrive in order or, after a break, not at all. False: no room, nothing was sent."""
        ...

    def hang_up(self, connection: int) -> None:
        """No event of this connection follows. What was not sent yet is dropped."""
        ...

    def subscribe(self, connection: int, prefix: bytes, wanted: bool) -> None: ...

    def publish(self, parts: Parts) -> None:
        """To every subscriber of a prefix of the first part."""
        ...
