"""One request of one caller, the replier that it is sent to, and what became of all of a service: see `requesting`."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from zq.core.outgoing import Item, size_of
from zq.errors import Error
from zq.wire.requests import ReplyFrame

MOST_REQUESTS = 1_024  # sent to one replier and not answered; the others wait here
MOST_BYTES = 64 << 20  # bytes of them; one request above it goes alone

BY_MAILBOX = -1  # instead of the number of a work connection

Key = tuple[bytes, bytes]  # peer and replier


class Stage(Enum):
    WAITING = "waiting"
    SENT = "sent"
    ENDED = "ended"


NEXT = {
    Stage.WAITING: (Stage.SENT, Stage.ENDED),
    Stage.SENT: (Stage.WAITING, Stage.ENDED),
    Stage.ENDED: (),
}


class Call:
    """One request of one caller. `wake` is called when it has ended: then it has a `reply` or an `error`.

    `deadline` is when its caller gives up, by the owner's clock; `target` is the one replier that it is for.
    """

    __slots__ = (
        "deadline",
        "error",
        "generation",
        "item",
        "number",
        "reply",
        "seat",
        "service",
        "size",
        "stage",
        "target",
        "tried",
        "wake",
        "wall",
    )

    def __init__(
        self,
        service: str,
        item: Item,
        deadline: float | None,
        wake: Callable[[], object],
        target: Key | None = None,
    ) -> None:
        self.service = service
        self.item = item
        self.size = size_of(item)
        self.deadline = deadline
        self.wake = wake
        self.target = target
        self.stage = Stage.WAITING
        self.wall = 0.0  # s since 1970, when it was taken
        self.number = 0
        self.generation = BY_MAILBOX  # the work connection that it went over
        self.seat: Seat | None = None
        self.tried: set[Key] = set()  # that have turned it away
        self.reply: ReplyFrame | None = None
        self.error: Error | None = None

    @property
    def ended(self) -> bool:
        return self.stage is Stage.ENDED

    def step(self, stage: Stage) -> None:
        if stage not in NEXT[self.stage]:
            raise ValueError(f"a request that is {self.stage.value} cannot be {stage.value}")
        self.stage = stage


class Seat:
    """A replier as seen from here."""

    __slots__ = ("bytes", "key", "missed", "sent", "turn")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.sent = 0  # requests it has not answered
        self.bytes = 0
        self.missed = 0  # answers that came too late, or not yet
        self.turn = 0  # when it was last chosen

    def has_room(self, size: int) -> bool:
        return self.sent < MOST_REQUESTS and (self.sent == 0 or self.bytes + size <= MOST_BYTES)


class Tally:
    """What became of the requests to one service. asked = waiting + sent + replied + failed + lost + nobody +
    abandoned."""

    __slots__ = ("abandoned", "asked", "failed", "late", "lost", "nobody", "replied")

    def __init__(self) -> None:
        self.asked = self.replied = self.failed = self.lost = self.nobody = self.abandoned = self.late = 0
