"""What a disk thread is asked for, and whom it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from zq.core.spooled import Item, Recovered, Room
from zq.spool.opened import Opened
from zq.wire.batch import Run


class Append(NamedTuple):
    stream: bytes
    length: int
    runs: Sequence[Run]
    body: bytes
    flags: int


class Read(NamedTuple):
    stream: bytes
    first: int


class Settle(NamedTuple):
    stream: bytes
    first: int
    last: int


class Charge(NamedTuple):
    stream: bytes
    number: int
    attempts: int


class Look(NamedTuple):
    stream: bytes


class Close(NamedTuple):
    stream: bytes
    sent: int | None


class Open(NamedTuple):
    stream: bytes  # none yet
    name: str
    found: Future[Recovered]


class Call(NamedTuple):
    stream: bytes
    act: Callable[[Opened], bool]


class Sync(NamedTuple):
    stream: bytes
    done: Callable[[str], object]


Request = Append | Read | Settle | Charge | Look | Close | Open | Call | Sync


class Answers(Protocol):
    """Where answers go; called in the thread of the disk."""

    def stored(self, stream: bytes, firsts: Sequence[int], room: Room) -> None: ...

    def failed(self, stream: bytes, count: int, reason: str, full: bool, room: Room) -> None: ...

    def records(self, stream: bytes, items: Sequence[Item]) -> None: ...

    def room(self, stream: bytes, room: Room) -> None: ...

    def ended(self) -> None:
        """The thread is over."""
