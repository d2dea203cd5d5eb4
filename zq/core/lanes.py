"""Three lanes: when several have something, they take turns 8:4:1, so that the low one waits but does not starve.

Turns are taken in two places. A puller grants credit lane by lane, and as a pusher sends what it has credit for, that
decides which lane goes next. In the puller's inbox a message of the high lane goes before what arrived earlier in the
others, in their turns as well: two before each message of the normal lane, eight before each of the low one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from zq.core.credit import Debtor, grant_evenly, keep_some, need_of, share_out
from zq.core.inbox import Inbox
from zq.info import Gap
from zq.wire.batch import Batch
from zq.wire.plan import HIGH, LOW, NORMAL

WEIGHTS = {HIGH: 8, NORMAL: 4, LOW: 1}  # turns of 13; the highest first


class Turns:
    """Whose turn it is: a lane that waits is owed its weight each time, and pays for all when it is picked."""

    def __init__(self) -> None:
        self._owed = dict.fromkeys(WEIGHTS, 0)

    def next(self, among: Collection[int]) -> int:
        """One of these lanes, of which there is one at least."""
        for lane, weight in WEIGHTS.items():
            self._owed[lane] = self._owed[lane] + weight if lane in among else 0
        picked = max((lane for lane in WEIGHTS if lane in among), key=self._owed.__getitem__)
        self._owed[picked] -= sum(WEIGHTS[lane] for lane in among)
        return picked

    def split(self, free: int, needs: dict[int, int]) -> dict[int, int]:
        """How many of `free` each lane gets that needs so many."""
        needs = {lane: need for lane, need in needs.items() if need > 0}
        shares = dict.fromkeys(needs, 0)
        while free > 0 and needs:
            rounds = min(
                free // sum(WEIGHTS[lane] for lane in needs), *(need // WEIGHTS[lane] for lane, need in needs.items())
            )
            grants = {lane: rounds * WEIGHTS[lane] for lane in needs} if rounds else {self.next(needs): 1}
            for lane, grant in grants.items():
                shares[lane] += grant
                needs[lane] -= grant
                free -= grant
                if needs[lane] == 0:
                    del needs[lane]
        return shares


class LaneDebtor(Debtor, Protocol):
    """A receiving link that has a lane."""

    lane: int


def share_out_by_lane(size: int, links: Sequence[LaneDebtor], turn: int, turns: Turns) -> list[Any]:
    """As `share_out`, but when there is too little for all, the lanes take turns."""
    free = size - sum(link.in_use for link in links)
    needs: dict[int, int] = {}
    for link in links:
        needs[link.lane] = needs.get(link.lane, 0) + need_of(link)
    if free <= 0 or free >= sum(needs.values()):
        return list(share_out(size, links, turn))
    raised: list[Any] = []
    for lane, share in turns.split(free, needs).items():
        grant_evenly(share, [link for link in links if link.lane == lane], turn, raised)
    keep_some(size, links, 0, raised)
    return raised


class Overtaking:
    """Where in an inbox a batch of the high lane goes: before what arrived earlier in the others, in their turns.

    Callers may take from the front meanwhile, which puts it further behind than need be, but never before one of its
    own lane.
    """

    def __init__(self) -> None:
        self._next: Batch | Gap | None = None  # what the last one was put before
        self._passed = 0  # messages that were

    def put(self, inbox: Inbox, batch: Batch) -> None:
        arrived = list(inbox.arrived)
        at = len(arrived)
        while at and not _is_high(arrived[at - 1]):
            at -= 1
        if at < len(arrived) and arrived[at] is self._next and self._passed >= _allowed(self._next):
            at += 1
        before = arrived[at] if at < len(arrived) else None
        if before is not self._next:
            self._next, self._passed = before, 0
        self._passed += batch.live
        inbox.put_at(at, batch)


def _is_high(item: Batch | Gap) -> bool:
    return isinstance(item, Batch) and item.link.lane == HIGH


def _allowed(item: Batch | Gap) -> int:
    """Messages of the high lane that may go before this one."""
    return WEIGHTS[HIGH] * item.live // WEIGHTS[item.link.lane] if isinstance(item, Batch) else 0
