"""Which data connections are deaf: the mailbox tells of what should have come on them long ago, and nothing does.

A connection whose bytes were changed on the way is dead to its reader, since nothing behind the change decrypts; but
libzmq may neither close it nor connect it anew (measured with 4.3.5: a door that is monitored stops reading, a
connecting SUB ends for good). Feeds and work have no heartbeats (one behind a large
frame on a slow link would cut it), so it would stay deaf until TCP ends. What the mailbox says meanwhile shows it.

A feed, at its subscriber:

    WELL --the peer's entry names a higher number than came--> WAITING --it came in time--> WELL
                                                               WAITING --it did not--> redialled, WAITING for longer

Numbers are announced on the feed again and again, at least every `topics.QUIET_MOST`, until they have been reported.

Work, at its sender, a link:

    WELL --something under way is probed for--> WAITING --some of it has arrived--> WELL
                                                WAITING --states come, nothing arrives--> redialled, WAITING for longer

and the same for refills: somebody who asks for the same hole again and again does not hear the answers. A wait grows
with the bytes that are under way, since a slow link is not deaf, and doubles with each redial in vain. What a redial
loses is sent again as after any other break of a connection, so that a wrong suspicion costs time and nothing else. All
of this is forgotten in a crash, and nothing is lost with it.
"""

from __future__ import annotations

from collections.abc import Callable

from zq.core.link import SendingLink
from zq.core.liveness import Life
from zq.core.receptions import Receptions
from zq.core.roster import Remote
from zq.core.timers import Timers
from zq.record import dataclass, field
from zq.wire.frames import Entry, Repair

DEAF_AFTER = 6.0  # s; a feed that is well repeats a number within topics.QUIET_MOST, a state is asked for within 2 s
DEAF_MOST = 120.0  # s up to which the wait is doubled
SLOWEST = 64 << 10  # bytes a second; a work connection that carries less may be taken for deaf


@dataclass(slots=True)
class Ear:
    """What is known of the data connections to and from one peer."""

    feed_patience: float = field(default_factory=lambda: DEAF_AFTER)
    work_patience: float = field(default_factory=lambda: DEAF_AFTER)
    work_since: float = 0.0  # when the work connection was made anew
    hole: tuple[str, int, float] | None = None  # asked for last: topic, first number, clock
    asked_since: float = 0.0


class Hearing:
    """All peers'. `redial_feed` and `redial_work` make that connection anew."""

    def __init__(
        self,
        timers: Timers,
        receptions: Receptions,
        remote_of: Callable[[bytes], Remote | None],
        redial_feed: Callable[[Remote, float], None],
        redial_work: Callable[[Remote], None],
    ) -> None:
        self._timers = timers
        self._receptions = receptions
        self._remote_of = remote_of
        self._redial_feed = redial_feed
        self._redial_work = redial_work
        self._ears: dict[bytes, Ear] = {}
        self.redialled = 0  # connections

    def _ear(self, peer: bytes) -> Ear:
        ear = self._ears.get(peer)
        if ear is None:
            ear = self._ears[peer] = Ear()
        return ear

    def on_gone(self, remote: Remote) -> None:
        self._ears.pop(remote.id, None)
        self._timers.cancel((remote, "hearing"))

    # --- feeds

    def on_entry(self, remote: Remote, entry: Entry, now: float) -> None:
        """It tells how far its topics are, over the mailbox."""
        behind = self._receptions.behind(remote.id, entry.topics)
        if behind:
            self._timers.set_if_unset(
                (remote, "hearing"),
                now + self._ear(remote.id).feed_patience,
                lambda when: self._listen(remote, behind, when),
            )

    def _listen(self, remote: Remote, promised: dict[str, int], now: float) -> None:
        """Whether what was promised then has come by now."""
        ear = self._ear(remote.id)
        if remote.state is not Life.UP or remote.feed is None:
            return
        if self._receptions.behind(remote.id, list(promised.items())):
            ear.feed_patience = min(ear.feed_patience * 2, DEAF_MOST)
            self.redialled += 1
            self._redial_feed(remote, now)
        else:
            ear.feed_patience = DEAF_AFTER
        if remote.entry is not None:
            self.on_entry(remote, remote.entry, now)

    # --- work

    def on_probe(self, link: SendingLink, now: float) -> None:
        """A link has had no news for a while and is about to be asked for some."""
        ear = self._ear(link.peer)
        arrived, under_way = link.arrival()
        if not under_way:
            link.arrived = None
        elif link.arrived is None or link.arrived[0] != arrived:
            if link.arrived is not None:
                ear.work_patience = DEAF_AFTER
            link.arrived = arrived, now
        elif link.told_at - max(link.arrived[1], ear.work_since) >= ear.work_patience + under_way / SLOWEST:
            self._deaf_work(link.peer, ear, now)

    def on_repair(self, peer: bytes, repair: Repair, size: int, now: float) -> None:
        """It asks for a hole, and `size` bytes of answer are on their way."""
        ear = self._ear(peer)
        hole = repair.topic, repair.first, repair.clock
        if ear.hole != hole:
            ear.hole, ear.asked_since = hole, now
        elif now - ear.asked_since >= ear.work_patience + size / SLOWEST:
            ear.asked_since = now
            self._deaf_work(peer, ear, now)

    def _deaf_work(self, peer: bytes, ear: Ear, now: float) -> None:
        remote = self._remote_of(peer)
        if remote is None or remote.work is None or not remote.reachable:
            return
        ear.work_since = now
        ear.work_patience = min(ear.work_patience * 2, DEAF_MOST)
        self.redialled += 1
        self._redial_work(remote)
