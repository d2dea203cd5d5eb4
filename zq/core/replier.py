"""One handle that answers: the requests in its inbox, those that programs have, and the answers they leave.

See `replying` for what happens to them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from zq.core.inbox import Handing
from zq.core.outgoing import Item
from zq.core.seen import Seen
from zq.record import dataclass
from zq.wire.requests import FAILED, UNANSWERED, RequestFrame, encode_failure

MOST_HELD = 4_096  # requests at one replier, those with the program included; more are turned away
MOST_BYTES = 256 << 20  # bytes of them; one above it is taken when there is no other


def _nobody() -> None:
    """No engine to tell."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program says to a request. `item` is a message, or a failure as `encode_failure` makes it."""

    asked: Asked
    outcome: int
    item: Item | None  # None: its requester has given up, nobody waits for anything


class Asked:
    """A request with its replier: what a program gets. Answering it twice is harmless."""

    __slots__ = ("_seen", "answered", "expires", "frame", "replier")

    def __init__(self, frame: RequestFrame, replier: Replier, expires: float, seen: Seen) -> None:
        self.frame = frame
        self.replier = replier
        self.expires = expires  # when its requester has given up, by the owner's clock, which knows only its arrival
        self._seen = seen
        self.answered = False

    def is_over(self, now: float) -> bool:
        """Nobody waits for it any more, as far as is known here; from any thread."""
        return self.expires <= now or self.frame.number < self._seen.ended

    def answer(self, outcome: int, item: Item | None) -> None:
        """Leaves the answer for the owner; from any thread."""
        if self.answered:
            self.replier.twice += 1
            return
        self.answered = True
        self.replier.answers.append(Answer(self, outcome, item))
        self.replier.inbox.note()

    def fail(self, kind: str, text: str) -> None:
        self.answer(FAILED, encode_failure(kind, text))

    def drop(self) -> None:
        """Nobody waits for an answer any more."""
        self.answer(FAILED, None)

    def __del__(self) -> None:
        if not self.answered:  # nobody can answer it any more, not even an interrupted caller
            self.fail(UNANSWERED, f"the replier of {self.replier.service} has let go of the request")


class RequestInbox:
    """Requests between the owner, who appends, and callers, who take; each a single step of the interpreter."""

    __slots__ = ("arrived", "handing", "note", "refused", "stalled", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.arrived: deque[Asked] = deque()
        self.handing = Handing(None, ())
        self.refused = False
        self.stalled = False  # nobody asks: a handler that hangs is waited for by whoever asked it
        self.wake = wake
        self.note: Callable[[], object] = _nobody  # called when an answer was left

    @property
    def queued(self) -> int:
        return len(self.arrived) + len(self.handing.ready)


class Replier:
    """One handle's requests."""

    def __init__(self, id: bytes, service: str, inbox: RequestInbox) -> None:
        self.id = id
        self.service = service
        self.inbox = inbox
        self.answers: deque[Answer] = deque()
        self.closed = False
        self.held = 0  # arrived and not answered
        self.held_bytes = 0
        self.received = self.replied = self.failed = self.turned_away = self.dropped = 0
        self.late = 0  # answers to requests that had ended
        self.twice = 0  # answers beyond the first

    def has_room(self, size: int) -> bool:
        return self.held < MOST_HELD and (self.held == 0 or self.held_bytes + size <= MOST_BYTES)
