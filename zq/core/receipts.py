"""The states that a puller's links owe their pushers: what is settled, and how much more may come.

What is news is told at the end of the turn. What is to be told *soon*, that messages have come, were handed out or
acknowledged, may wait where the program has much to do yet: for the next grant of credit to the same pusher, or until
as much was settled since its last state as is still here, or for LATE to twice LATE seconds. A state costs both ends
as much as a hundred messages, and of four pushers each would get one for every batch of any of them.

States say what is, and may be lost or come late as they are; a crash loses what was not told, as if it had come sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from zq.core.credit import share_out, step_of
from zq.core.lanes import share_out_by_lane
from zq.core.puller import Puller
from zq.core.receiving import ReceivingLink
from zq.core.timers import Timers
from zq.wire.frames import State

LATE = 0.02  # s that a state may wait, at the most twice; a fifth of the time that the prefetch is for


class Receipts:
    """Of all pullers of this peer."""

    def __init__(self, timers: Timers, send: Callable[[bytes, State], None]) -> None:
        self._timers = timers
        self._send = send

    def report(self, pullers: Iterable[Puller], now: float) -> None:
        """Sends the states that are due; called once after each turn."""
        for puller in pullers:
            links = [link for link in puller.links.values() if not link.orphan]
            if any(link.news or link.soon for link in links):
                self._report(puller, links, now)

    def _report(self, puller: Puller, links: list[ReceivingLink], now: float) -> None:
        coming = sum(min(link.unused, link.wanted) for link in links)
        step = 1 if puller.late else step_of(puller.prefetch.size, puller.inbox.messages + coming)
        puller.late = False
        if not puller.closing:
            _grant(puller, links, step)
        for link in links:
            if link.news or (link.soon and (step == 1 or link.is_worth_telling)):
                limit_bytes = link.bytes_taken + max(puller.prefetch_bytes // len(links), link.first_bytes)
                link.told(now)
                self._send(link.peer, link.state(limit_bytes, closed=puller.closing))
            if link.soon or (link.starves and step > 1):
                self._timers.set_if_unset((puller, "late"), now + LATE, lambda when: self._late(puller, when))

    @staticmethod
    def _late(puller: Puller, now: float) -> None:
        """Some have waited. Those that wait for credit get of what there is, however little: it may be that those who
        have the rest do not use it."""
        for link in puller.links.values():
            if now - link.told_at >= LATE:
                link.news |= link.soon or link.starves
                puller.late |= link.starves


def _grant(puller: Puller, links: list[ReceivingLink], step: int) -> None:
    """Shares out what the prefetch has left; those that get some of it have news."""
    left = sum(link.in_use for link in puller.links.values() if link.orphan)
    size = 0 if puller.hung or puller.full else puller.prefetch.size - left
    turn = puller.turn % len(links)
    if puller.turns is None:
        raised: list[Any] = share_out(size, links, turn, step)
    else:
        raised = share_out_by_lane(size, links, turn, puller.turns)
    if raised:
        puller.turn = links.index(raised[-1]) + 1
    for link in raised:
        link.news = True
    _reclaim(links)


def _reclaim(links: list[ReceivingLink]) -> None:
    """While somebody waits for credit, those who have more than they may keep are told, once for each probe.

    They may not know of it, or keep what they could when there were fewer of them.
    """
    if any(link.starves for link in links):
        for link in links:
            if link.unused > link.keep and not link.reminded:
                link.reminded = link.news = True
