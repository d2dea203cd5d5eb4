"""How a puller shares out its prefetch, and how large that is.

Credit is an absolute limit a link: the pusher may have sent and returned that many messages in all, so it can be
granted again and again without ever shrinking. What a link uses of the prefetch is what it was granted, less what it
returned and what is settled. A grant never exceeds what the pusher says it wants, but for the few messages that idle
links may keep, so that a message out of the blue need not ask first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from zq.wire.limits import BATCH_MESSAGES

PREFETCH_LEAST, PREFETCH_MOST = 64, 4_096  # messages: a frame or less to begin with, eight frames at full speed
MEASURED = 0.1  # s over which settled messages are counted; the prefetch is what that time settles
STEP_SHARE, STEP_LEAST = 8, 64  # a grant is at least an eighth of the prefetch, if that is worth a frame (link.STRIDE)
KEEP_SHARE = 4  # idle links keep a quarter of the prefetch between them; one that is alone leaves that to newcomers


class Debtor(Protocol):
    """A receiving link, as far as credit goes."""

    limit: int
    sent: int
    returned: int
    wanted: int
    keep: int

    @property
    def in_use(self) -> int: ...


class Prefetch:
    """The size of the prefetch: given, or adapted to how fast messages are settled.

    One that has shrunk may have lent more than its size: idle links keep what they had, until somebody needs it.
    """

    def __init__(self, given: int | None) -> None:
        self.given = given
        self.size = given if given is not None else PREFETCH_LEAST
        self._settled = 0
        self._since: float | None = None

    def settled(self, count: int, now: float) -> None:
        if self.given is not None:
            return
        if self._since is None:
            self._since = now
        self._settled += count
        elapsed = now - self._since
        if elapsed >= MEASURED or self._settled >= 4 * self.size:
            target = self._settled * MEASURED / max(elapsed, 0.001)
            self.size = int(min(max(target, PREFETCH_LEAST, self.size // 2), PREFETCH_MOST))
            self._settled, self._since = 0, now


def need_of(link: Debtor) -> int:
    """Messages it wants beyond the credit that it has; 0 or less if none."""
    return link.wanted - (link.limit - link.sent - link.returned)


def step_of(size: int, waiting: int) -> int:
    """The least that is granted at a time, where so many messages wait for the program or are on their way to it.

    Its credit decides how many messages a pusher puts in a frame. A program that has much to do yet loses nothing if
    the next grant is for one pusher and for a whole frame, instead of a few messages for each.
    """
    step = min(size // STEP_SHARE, BATCH_MESSAGES)
    return step if STEP_LEAST <= step <= waiting else 1


def share_out(size: int, links: Sequence[Debtor], turn: int, step: int = 1) -> list[Debtor]:
    """Raises limits as far as `size` messages allow, evenly, beginning at link number `turn`; returns those raised, in
    that order. Nobody gets less than a `step`, unless he needs no more.
    """
    raised: list[Debtor] = []
    free = grant_evenly(size - sum(link.in_use for link in links), links, turn, raised, step)
    keep_some(size, links, free if step == 1 else 0, raised)
    return raised


def grant_evenly(free: int, links: Sequence[Debtor], turn: int, raised: list[Debtor], step: int = 1) -> int:
    """Gives `free` messages to those in need, beginning at link number `turn`; returns what is left: what nobody needs,
    or less than a step."""
    needs = {index: need for index, link in enumerate(links) if (need := need_of(link)) > 0}
    granted: dict[int, Debtor] = {}
    while free > 0 and needs:
        share = max(free // len(needs), step)
        for index in sorted(needs, key=lambda index: (index - turn) % len(links)):
            grant = min(share, needs[index])
            if grant > free:
                if step > 1:  # it is this one's turn when there is enough for him
                    raised += granted.values()
                    return free
                grant = free
            links[index].limit += grant
            granted[index] = links[index]
            needs[index] -= grant
            free -= grant
            if needs[index] == 0:
                del needs[index]
            if free == 0:
                break
    raised += granted.values()
    return free


def keep_some(size: int, links: Sequence[Debtor], free: int, raised: list[Debtor]) -> None:
    """Says how much each link may keep while it is idle, and gives them that much as far as `free` allows."""
    keep = size - -(-size // KEEP_SHARE) if len(links) == 1 else size // (KEEP_SHARE * max(len(links), 1))
    for link in links:
        link.keep = keep
        unused = link.limit - link.sent - link.returned
        if free > 0 and unused < keep and link.wanted == 0:
            grant = min(keep - unused, free)
            link.limit += grant
            raised.append(link)
            free -= grant
