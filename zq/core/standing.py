"""How well those who take keep up, and what was dropped: what a peer tells of it in its entry.

Rows are made by whoever sends (it knows how far behind the others are), except for what subscriptions drop, which
each subscriber tells of itself. Those that matter most go first, and there are never more than fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from zq.core.pushing import Pushing
from zq.core.receptions import Receptions
from zq.core.topics import Topics
from zq.info import HeldQueue, Pace
from zq.wire.frames import Entry

TOPIC, QUEUE = 0, 1  # what a row is about
PACES: tuple[Pace, ...] = ("up", "suspended", "waited for", "behind")  # by their number on the wire
ROWS_MOST = 200  # of a kind in one entry: 60 KB with the longest names


class Lag(NamedTuple):
    """One consumer that does not have everything."""

    kind: int
    name: str
    peer: bytes
    handle: bytes  # of a puller, whose lanes count together; zeros for a topic, where a peer's subscriptions do
    messages: int
    pace: int


class Drop(NamedTuple):
    """What was dropped of one topic or queue, for one reason, since this peer began."""

    kind: int
    name: str
    reason: str
    messages: int


class Standing(NamedTuple):
    lags: list[Lag]
    drops: list[Drop]

    def rows(self) -> tuple[list[list[object]], list[list[object]]]:
        """As they stand in an entry."""
        return [list(lag) for lag in self.lags], [list(drop) for drop in self.drops]


def standing(topics: Topics, pushing: Pushing, receptions: Receptions, past: Iterable[HeldQueue] = ()) -> Standing:
    """This peer's own. `past` are rows of queues that it holds no more, as they were bound once."""
    lags = sorted(_lags(topics, pushing), key=lambda lag: (-lag.pace, -lag.messages))
    drops = sorted(_drops(pushing, receptions, past), key=lambda drop: -drop.messages)
    return Standing(lags[:ROWS_MOST], drops[:ROWS_MOST])


def from_entry(entry: Entry) -> Standing:
    """Another peer's."""
    return Standing(
        [Lag(*row) for row in entry.lags if row[5] < len(PACES)],
        [Drop(*row) for row in entry.drops],
    )


def _lags(topics: Topics, pushing: Pushing) -> Iterator[Lag]:
    for topic in topics:
        for follower in topic.followers.values():
            pace: Pace = "behind" if follower.behind else "waited for" if follower.stalled_since is not None else "up"
            behind = topic.head - follower.taken
            if behind or pace != "up":
                yield Lag(TOPIC, topic.name, follower.peer, bytes(16), behind, PACES.index(pace))
    for outbox in pushing:
        for link in pushing.links(outbox.queue):
            if link.flights:
                unsettled = sum(flight.open for flight in link.flights.values())
                pace = "suspended" if link.free <= 0 else "up"
                yield Lag(QUEUE, outbox.queue, link.peer, link.puller, unsettled, PACES.index(pace))


def _drops(pushing: Pushing, receptions: Receptions, past: Iterable[HeldQueue]) -> Iterator[Drop]:
    queues: dict[tuple[str, str], int] = {}
    for row in (*pushing, *past):
        for reason, count in (*row.dropped.items(), ("expired", row.expired)):
            if count:
                queues[row.queue, reason] = queues.get((row.queue, reason), 0) + count
    for (name, reason), count in queues.items():
        yield Drop(QUEUE, name, reason, count)
    counts: dict[tuple[str, str], int] = {}
    for subscription in receptions:
        for name, dropped, gap in subscription.losses():
            for reason, count in ((subscription.inbox.policy, dropped), ("gap", gap)):
                if count:
                    counts[name, reason] = counts.get((name, reason), 0) + count
    for (name, reason), count in counts.items():
        yield Drop(TOPIC, name, reason, count)


def merged(lags: Iterable[Lag]) -> list[Lag]:
    """One a consumer, although several peers send to it; those that lag most first."""
    sums: dict[tuple[bytes, bytes], Lag] = {}
    for lag in lags:
        before = sums.get((lag.peer, lag.handle))
        if before is not None:
            lag = lag._replace(messages=lag.messages + before.messages, pace=max(lag.pace, before.pace))
        sums[lag.peer, lag.handle] = lag
    return sorted(sums.values(), key=lambda lag: (-lag.messages, -lag.pace))
