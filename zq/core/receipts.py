"""The states that a puller's links owe their pushers: what is settled, and how much more may come."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from zq.core.credit import share_out
from zq.core.lanes import share_out_by_lane
from zq.core.puller import Puller
from zq.core.receiving import ReceivingLink
from zq.wire.frames import State


def report(pullers: Iterable[Puller], send: Callable[[bytes, State], None]) -> None:
    """Sends the states that have news; called once after each turn."""
    for puller in pullers:
        links = [link for link in puller.links.values() if not link.orphan]
        if any(link.news for link in links):
            if not puller.closing:
                _grant(puller, links)
            for link in links:
                if link.news:
                    link.news = False
                    limit_bytes = link.bytes_taken + max(puller.prefetch_bytes // len(links), link.first_bytes)
                    send(link.peer, link.state(limit_bytes, closed=puller.closing))


def _grant(puller: Puller, links: list[ReceivingLink]) -> None:
    """Shares out what the prefetch has left; those that get some of it have news."""
    puller.turn += 1
    left = sum(link.in_use for link in puller.links.values() if link.orphan)
    size, turn = 0 if puller.hung or puller.full else puller.prefetch.size - left, puller.turn % len(links)
    if puller.turns is None:
        raised: list[Any] = share_out(size, links, turn)
    else:
        raised = share_out_by_lane(size, links, turn, puller.turns)
    for link in raised:
        link.news = True
    _reclaim(links)


def _reclaim(links: list[ReceivingLink]) -> None:
    """While somebody waits for credit, those who have more than they may keep are told, once for each probe.

    They may not know of it, or keep what they could when there were fewer of them.
    """
    if any(link.wanted and link.unused <= 0 for link in links):
        for link in links:
            if link.unused > link.keep and not link.reminded:
                link.reminded = link.news = True
