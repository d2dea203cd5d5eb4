"""Data connections that came to nothing though their peer is up: made anew, later and later.

ZeroMQ connects again by itself what has been interrupted, but gives a connection up for good when its handshake goes
wrong: refused, of the wrong kind, changed on the way. Mailboxes are proven frame by frame (see `meeting`); feed and
work are watched here.

A feed, at its subscriber. Every connection begins with a fence, which the publisher answers in the stream itself:

    ASKED --answered--> WELL --a new fence--> ASKED
    ASKED --no answer for `patience`, though the peer is up--> dialled anew, ASKED, patience doubled

A work connection, at its sender. Its end is seen, and it is made anew at once, so that nothing queued on it reaches a
stranger; but one that ended before it had been made would end again and again, as fast as processors can:

    DIALLED --made--> WELL --ended--> DIALLED
    DIALLED --ended--> RESTING for `pause`, doubled --over, and wanted--> DIALLED

Events: fences that stay unanswered, connections that are made and that end, a peer gone, timers. Nothing of it is told
to anybody, and a crash loses only how long we have been patient. What a new connection loses of the old one is sent or
asked for again, as after any interruption; so a wrong suspicion costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from zq.core.liveness import Life
from zq.core.roster import Remote
from zq.core.timers import Timers
from zq.record import dataclass

PATIENCE, PATIENCE_MOST = 10.0, 120.0  # s without an answer until a feed is dialled anew, doubled up to; a busy host is
# late by seconds, and what is in the pipe of a slow network is worth waiting for
ASKS_AGAIN = 6.0  # s; longer than two questions are apart (fences.FENCE_MOST): in between there was an answer
PAUSE, PAUSE_MOST = 0.1, 5.0  # s until a work connection that came to nothing is dialled again, doubled up to


@dataclass(slots=True)
class Watch:
    """Of one peer."""

    asked: float = 0.0  # since when its feed owes an answer
    asked_last: float = -1e9
    patience: float = PATIENCE
    made: bool = False  # its work connection
    pause: float = 0.0
    rests: bool = False  # its work connection is not to be made


class Supervisor:
    """All peers'. `redial_feed` makes a feed anew; `open_work` a work connection, if somebody wants one."""

    def __init__(
        self,
        timers: Timers,
        remote_of: Callable[[bytes], Remote | None],
        redial_feed: Callable[[Remote, float], None],
        open_work: Callable[[Remote], None],
    ) -> None:
        self._timers = timers
        self._remote_of = remote_of
        self._redial_feed = redial_feed
        self._open_work = open_work
        self._watches: dict[bytes, Watch] = {}
        self.redialled = 0  # feeds that had come to nothing

    def _watch(self, remote: Remote) -> Watch:
        watch = self._watches.get(remote.id)
        if watch is None:
            watch = self._watches[remote.id] = Watch()
        return watch

    def on_gone(self, remote: Remote) -> None:
        self._watches.pop(remote.id, None)
        self._timers.cancel((remote, "work"))

    # --- feeds

    def on_unanswered(self, publisher: bytes, now: float) -> None:
        """A fence was not answered in time, and is about to be drawn again."""
        remote = self._remote_of(publisher)
        if remote is None:
            return
        watch = self._watch(remote)
        if remote.state is not Life.UP or now - watch.asked_last > ASKS_AGAIN:
            watch.asked = now
            if remote.state is Life.UP:
                watch.patience = PATIENCE
        watch.asked_last = now
        if now - watch.asked >= watch.patience:
            watch.asked = now
            watch.patience = min(watch.patience * 2, PATIENCE_MOST)
            self.redialled += 1
            self._redial_feed(remote, now)

    # --- work

    def may_work(self, remote: Remote) -> bool:
        """Whether a connection to its work is to be made when one is needed."""
        watch = self._watches.get(remote.id)
        return watch is None or not watch.rests

    def on_work_made(self, remote: Remote) -> None:
        watch = self._watch(remote)
        watch.made, watch.pause = True, 0.0

    def on_work_ended(self, remote: Remote, now: float) -> None:
        """It has been hung up."""
        watch = self._watch(remote)
        made, watch.made = watch.made, False
        if not made:
            watch.pause = min(max(watch.pause * 2, PAUSE), PAUSE_MOST)
            watch.rests = True
            self._timers.set((remote, "work"), now + watch.pause, lambda when: self._rested(remote, watch))
        elif remote.reachable:
            self._open_work(remote)

    def _rested(self, remote: Remote, watch: Watch) -> None:
        watch.rests = False
        if remote.reachable and remote.work is None:
            self._open_work(remote)
