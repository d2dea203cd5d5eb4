"""A publisher's memory of recent messages, from which subscribers fill their holes.

One byte budget for all topics of a peer. Frames leave in the order they came, but the newest frame of a topic
stays: it is what the topic's head names, and a retained value. A crash loses the ring with its publisher.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from typing import NamedTuple

from zq.wire.batch import Parts

RING_BYTES = 64 << 20  # what a peer spends on repairs; as much as a window
INDEX_MOST = 2_048  # remembered (clock, number) pairs of frames that have left, a topic; thinned by half beyond


class Published(NamedTuple):
    """One frame as it went out."""

    first: int
    length: int
    clock: float  # the publisher's own, seconds
    parts: Parts
    size: int


class Track:
    """One topic's frames in the ring, ascending."""

    __slots__ = ("frames", "left", "left_index")

    def __init__(self) -> None:
        self.frames: deque[Published] = deque()
        self.left = 0  # messages that have left the ring
        self.left_index: list[tuple[float, int]] = []  # (clock, first) of frames that have left, thinned

    @property
    def oldest(self) -> int:
        """The lowest number still here; 1 more than the highest that left."""
        return self.left + 1

    @property
    def held(self) -> int:
        return sum(frame.length for frame in self.frames)

    def drop_oldest(self) -> Published:
        frame = self.frames.popleft()
        self.left += frame.length
        self.left_index.append((frame.clock, frame.first))
        if len(self.left_index) > INDEX_MOST:
            del self.left_index[1::2]
        return frame

    def at(self, number: int) -> int:
        """Index of the frame that holds `number`, or of the first one behind it."""
        return bisect_right([frame.first + frame.length - 1 for frame in self.frames], number - 1)

    def since(self, clock: float) -> int:
        """The number of the first message published at `clock` or later; rather too low than too high."""
        if self.left_index and clock <= self.left_index[-1][0]:
            index = bisect_left(self.left_index, (clock, 0))
            return self.left_index[max(index - 1, 0)][1]
        for frame in self.frames:
            if frame.clock >= clock:
                return frame.first
        return self.left + self.held + 1


class Ring:
    """The frames of all topics of one publisher, oldest out first."""

    def __init__(self, budget: int = RING_BYTES) -> None:
        self._budget = budget
        self._order: deque[tuple[Track, Published]] = deque()
        self.size = 0

    def add(self, track: Track, frame: Published) -> None:
        track.frames.append(frame)
        self._order.append((track, frame))
        self.size += frame.size
        while self.size > self._budget and self._drop_one():
            pass

    def _drop_one(self) -> bool:
        """Drops the oldest frame that is not the newest of its topic; False when there is none."""
        for _ in range(len(self._order)):
            track, frame = self._order.popleft()
            if track.frames[0] is frame and len(track.frames) > 1:
                self.size -= track.drop_oldest().size
                return True
            self._order.append((track, frame))
        return False
