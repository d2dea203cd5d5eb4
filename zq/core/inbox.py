"""What has arrived for one handle and was not yet handed to the program.

The engine appends batches, callers take them from the front; both ends of a deque are single steps of the
interpreter. A caller moves a batch to `taken` and then makes it the one that is being handed out, each in one step,
so that an interrupt between the two loses nothing: the next caller finds it at the end of `taken`. The engine counts
from the front of `taken`.

Inboxes are bounded in bytes and batches: a subscription that cannot take more either waits (the batch is refused and
repaired later) or gives up what its policy says. One that waits is bounded in messages for each publisher's topic,
since each publisher may be a window ahead: what eight of them send at full speed would otherwise be refused, and sent
again, most of the time. The other policies are bounded in messages of all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal

from zq.info import Gap
from zq.wire.batch import Batch

Slow = Literal["wait", "drop-oldest", "latest"]

INBOX_MESSAGES = 32_768  # two windows: a publisher may be one ahead while the program works on the one before
INBOX_BYTES = 64 << 20  # bytes; one batch above it passes alone
INBOX_BATCHES = 32_768  # each takes half a kilobyte beside its bytes


def _nobody() -> None:
    """No engine to tell."""


class Handing:
    """The batch that callers are handing out: its messages that are ready for them, and how many behind those are not
    decoded yet. Replaced as a whole, so that who looks at it finds a state that was."""

    __slots__ = ("batch", "left", "ready", "source")

    def __init__(self, batch: Batch | Gap | None, ready: Iterable[Any], left: int = 0, source: Any = None) -> None:
        self.batch = batch
        self.ready: deque[Any] = deque(ready)
        self.left = left
        self.source = source  # of those left, the callers' own; None if somebody has to begin anew

    @property
    def waiting(self) -> int:
        """Messages still to be handed out."""
        return self.left + len(self.ready)

    @property
    def handed(self) -> int:
        """The number handed out last."""
        assert isinstance(self.batch, Batch)
        return self.batch.first + self.batch.stop - 1 - self.waiting

    def drop(self) -> None:
        """Nothing more of it is handed out."""
        self.left = 0
        self.ready.clear()


class Inbox:
    """The queue between engine and callers of one handle. `wake` is called after something was put in."""

    __slots__ = ("arrived", "bytes", "handing", "messages", "note", "refused", "stalled", "taken", "wake")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.arrived: deque[Batch | Gap] = deque()
        self.taken: deque[Batch | Gap] = deque()
        self.messages = 0
        self.bytes = 0
        self.refused = False  # something is waiting for room here
        self.stalled = False  # the engine wants to know whether anybody waits for something: who does makes it False
        self.handing = Handing(None, ())
        self.wake = wake
        self.note: Callable[[], object] = _nobody  # called by messages that were settled

    @property
    def queued(self) -> int:
        """Messages that the program has not been handed yet, as of the last `settle_taken`."""
        return self.messages + self.handing.waiting

    @property
    def claimed(self) -> Batch | Gap | None:
        """What a caller has taken and nobody hands out: he is at it, or was interrupted."""
        try:
            last = self.taken[-1]
        except IndexError:
            return None
        return None if last is self.handing.batch else last

    def put(self, batch: Batch) -> None:
        self.messages += batch.stop - batch.skip
        self.bytes += batch.size
        self.arrived.append(batch)
        self.wake()

    def put_at(self, place: int, batch: Batch) -> None:
        """As `put`, with `place` others before it, or fewer when callers take them just now."""
        self.messages += batch.live
        self.bytes += batch.size
        self.arrived.insert(place, batch)
        self.wake()

    def settle_taken(self) -> list[Batch | Gap]:
        """What callers have taken since the last call."""
        taken = self.taken
        ready = len(taken)
        if ready and taken[-1] is not self.handing.batch:
            ready -= 1  # a caller is at it
        done = [taken.popleft() for _ in range(ready)]
        for item in done:
            if isinstance(item, Batch):
                self.messages -= item.stop - item.skip
                self.bytes -= item.size
        return done


class SubscriptionInbox(Inbox):
    """An inbox with a policy for a program that is slower than what it subscribes to."""

    __slots__ = ("_newest", "dropped", "policy")
    keeps = False  # what has arrived is not told to its publisher before it is taken

    def __init__(self, policy: Slow, wake: Callable[[], None]) -> None:
        super().__init__(wake)
        self.policy = policy
        self.dropped: list[tuple[bytes, str | None, int]] = []  # publisher, topic, messages given up since last looked
        self._newest: dict[tuple[bytes, str | None], Batch] = {}

    def settle_taken(self) -> list[Batch | Gap]:
        done = super().settle_taken()
        for item in done if self._newest else ():
            if isinstance(item, Batch) and self._newest.get((item.sender, item.topic)) is item:
                del self._newest[item.sender, item.topic]
        return done

    def offer(self, batch: Batch, queued: int = 0) -> bool:
        """Takes the batch, making room as the policy says; False when a waiting subscription has no room. `queued` is
        how many messages of that publisher's topic are here."""
        if self.policy == "latest":
            self._replace(batch)
            return True
        full = self.bytes + batch.size > INBOX_BYTES or len(self.arrived) >= INBOX_BATCHES
        if self.policy == "wait":
            if (full and self.messages) or (queued and queued + batch.live > INBOX_MESSAGES):
                self.refused = True
                return False
        else:
            while self.messages and (full or self.messages + batch.live > INBOX_MESSAGES):
                if not self._drop_oldest():
                    break
                full = self.bytes + batch.size > INBOX_BYTES
        self.put(batch)
        return True

    def clear(self, publisher: bytes, topic: str, number: int) -> None:
        """Nothing up to that number is retained any more."""

    def tell(self, gap: Gap) -> None:
        self.arrived.append(gap)
        self.wake()

    def has_room(self, queued: int = 0) -> bool:
        """Half empty again, so that a repair of a publisher's topic of which so much is here is worth asking for."""
        half_empty = self.bytes <= INBOX_BYTES // 2 and len(self.arrived) <= INBOX_BATCHES // 2
        return half_empty and queued <= INBOX_MESSAGES // 2

    def _replace(self, batch: Batch) -> None:
        """Only the newest message of each publisher's topic is kept."""
        key = (batch.sender, batch.topic)
        older = self._newest.get(key)
        if older is not None:
            try:
                self.arrived.remove(older)
            except ValueError:
                pass  # a caller was faster: it has it
            else:
                self._drop(older)
        newest = batch.after(batch.last)
        if newest.skip > batch.skip:
            self.dropped.append((batch.sender, batch.topic, newest.skip - batch.skip))
        self._newest[key] = newest
        self.put(newest)

    def _drop_oldest(self) -> bool:
        gaps: list[Batch | Gap] = []
        oldest: Batch | Gap | None = None
        while not isinstance(oldest, Batch):
            try:
                oldest = self.arrived.popleft()
            except IndexError:
                break  # callers have taken everything meanwhile
            if isinstance(oldest, Gap):
                gaps.append(oldest)
        self.arrived.extendleft(reversed(gaps))  # what was lost is told all the same
        if isinstance(oldest, Batch):
            self._drop(oldest)
            return True
        return False

    def _drop(self, batch: Batch) -> None:
        self.messages -= batch.live
        self.bytes -= batch.size
        self.dropped.append((batch.sender, batch.topic, batch.live))
