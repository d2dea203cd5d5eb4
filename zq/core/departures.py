"""Peers that were here and are gone, and their last words: so that what they took with them is unknown, not lost.

A peer that comes back is none any more. Bounded; the oldest are forgotten. A crash of this peer loses all of it, and
with it nothing but what it could have told.
"""

from __future__ import annotations

from collections import OrderedDict

from zq.core.roster import Remote
from zq.info import Departed

REMEMBERED = 256  # peers
NAMES_MOST = 50  # queues, and topics, of one of them; those with most first


class Departures:
    def __init__(self) -> None:
        self._gone: OrderedDict[bytes, tuple[float, Departed]] = OrderedDict()

    def on_gone(self, remote: Remote, now: float) -> None:
        """Who says goodbye has told its program what nobody had confirmed: that is known, though not here. If it had
        published nothing either, nobody will ask for it."""
        words = last_words(remote)
        if remote.joined_at is None or (words.goodbye and not words.published):
            return
        self._gone[remote.id] = (now, words)
        while len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)

    def on_up(self, peer: bytes) -> None:
        self._gone.pop(peer, None)

    def rows(self, now: float) -> tuple[Departed, ...]:
        """Longest gone first."""
        return tuple(
            Departed(
                peer=departed.peer,
                name=departed.name,
                ago=now - when,
                goodbye=departed.goodbye,
                held=departed.held,
                published=departed.published,
            )
            for when, departed in self._gone.values()
        )


def last_words(remote: Remote) -> Departed:
    """What it has said of itself last, by its roster entry."""
    entry = remote.entry
    held = {row[0]: row[1] for row in entry.pushes if row[1]} if entry and not remote.goodbye else {}
    published = {row[0]: row[1] for row in entry.topics if row[1]} if entry else {}
    return Departed(
        peer=remote.id,
        name=remote.name,
        ago=0.0,
        goodbye=remote.goodbye,
        held=_most(held),
        published=_most(published),
    )


def _most(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:NAMES_MOST])
