"""Probes: a pusher says where its end of a link stands, and asks for the other.

A probe goes when a link opens, when a connection was made anew, when credit is asked for or given back, and again
after a while without an answer, later each time. Whatever it says is said again by the next one, so that any of them
may be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zq.core.link import SendingLink
from zq.core.timers import Timers
from zq.wire.frames import Probe

PROBE_AFTER, PROBE_MOST = 0.2, 2.0  # s without news until a link is probed, doubled up to
WANTED_MOST = 65_536  # messages; more than any puller grants at once


class Probing:
    """Of all links that one peer pushes on."""

    def __init__(self, timers: Timers, send: Callable[[bytes, Probe], None]) -> None:
        self._timers = timers
        self._send = send
        self.on_silence: Callable[[SendingLink, float], None] = lambda link, now: None

    def probe(self, link: SendingLink, now: float) -> None:
        """Says where this end stands and asks for the other; again after a while, later each time, if there is need."""
        wanted = 0 if link.retired else min(link.line.ready, WANTED_MOST)
        first = link.line.first()
        link.told = link.next - 1 + link.returned + wanted
        link.patience = min(max(link.patience * 2, PROBE_AFTER), PROBE_MOST)
        self._timers.set((link, "probe"), now + link.patience, lambda when: self._again(link, when))
        self._send(
            link.peer,
            Probe(
                link.id,
                link.lane,
                link.session,
                link.outbox.queue,
                link.puller,
                link.floor,
                link.next - 1,
                link.returned,
                wanted,
                first.chunk.size_of(first.start, first.start + 1) if first is not None else 0,
                link.outbox.max_attempts,
            ),
        )

    def at_once(self, link: SendingLink, now: float) -> None:
        """As `probe`; the waiting begins anew."""
        link.patience = 0.0
        self.probe(link, now)

    def _again(self, link: SendingLink, now: float) -> None:
        if self.is_needed(link) or not link.confirmed:
            self.on_silence(link, now)
            self.probe(link, now)

    def settle(self, link: SendingLink) -> None:
        """It has been heard of: no more probes if none is needed."""
        if not self.is_needed(link):
            self.cancel(link)

    def cancel(self, link: SendingLink) -> None:
        self._timers.cancel((link, "probe"))

    @staticmethod
    def is_needed(link: SendingLink) -> bool:
        asks = link.line.ready > 0 and link.free <= 0 and not link.retired
        return bool(link.flights) or not link.is_heard or asks

    def later(self, link: SendingLink, now: float) -> None:
        self._timers.set_if_unset((link, "probe"), now + PROBE_AFTER, lambda when: self._again(link, when))

    def settle_demand(self, asking: bool, links: Iterable[SendingLink], now: float) -> None:
        """Asks for credit where all that was asked for has been granted; gives back what nothing is waiting for.

        These are the links that something happened to, or all when something begins or ends to wait.
        """
        for link in links:
            if asking:
                if link.free <= 0 and link.limit >= link.told:
                    self.at_once(link, now)
                elif link.free <= 0:  # it was asked; the answer may be lost
                    self.later(link, now)
            elif link.free > link.keep:
                link.returned += link.free - link.keep
                self.at_once(link, now)
