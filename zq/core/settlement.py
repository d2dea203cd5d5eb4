"""What the program has of a puller's messages, and what it says of them.

Events:
- taken: callers have begun a batch, or have settled messages; each link's numbers are settled, once.
- sample: how far the program has got is told now and then, so that a pusher knows what its puller has died of.
- overdue: what the program has held for longer than the puller's work timeout is nacked, see `overdue`; who takes
  nothing for that long is hung, and gets no more until somebody waits for a message there.
- nacked or given back, and the pusher is gone: nobody else delivers it again, so this peer does.
"""

from __future__ import annotations

from collections.abc import Callable

from zq.core.overdue import Overdue
from zq.core.puller import SAMPLE_AFTER, SAMPLE_MOST, Puller
from zq.core.ranges import Ranges, runs_of
from zq.core.receiving import LOCAL, ReceivingLink, Settled
from zq.core.timers import Timers
from zq.wire.batch import ATTEMPT_MOST, REDELIVERED, Batch
from zq.wire.frames import NACKED, RETURNED


class Settlement:
    """Of all pullers of this peer. `remove` forgets a link that is over; `tell` hears of what an operator should
    know."""

    def __init__(self, timers: Timers, remove: Callable[[ReceivingLink], None], tell: Callable[[str], None]) -> None:
        self._timers = timers
        self._remove = remove
        self._tell = tell

    def on_taken(self, puller: Puller, now: float) -> None:
        """Callers have taken batches from the inbox, or settled messages."""
        for batch in puller.inbox.settle_taken():
            if isinstance(batch, Batch):
                link: ReceivingLink = batch.link
                link.bytes_taken += batch.size
                link.handed = max(link.handed, batch.first + batch.skip - 1)
                link.soon = True
                self._taken_whole(puller)
                puller.handing = batch
        self._note_handed(puller)
        for link in list(puller.links.values()):
            link.noted = False  # before looking: who appends from here on says so again
            if link.acks or link.others:
                self._drain(link, now)
        if puller.hung and not puller.inbox.stalled:
            self._come_round(puller)

    def _note_handed(self, puller: Puller) -> bool:
        """How far each link's messages were handed out; True when that moved."""
        handing = puller.inbox.handing
        if not isinstance(handing.batch, Batch):
            return False
        handed, link = handing.handed, handing.batch.link
        if handed <= link.handed:
            return False
        link.handed = handed
        link.soon = True
        return True

    @staticmethod
    def _taken_whole(puller: Puller) -> None:
        """The program has gone on to the next batch, which may be of another link."""
        batch, puller.handing = puller.handing, None
        if batch is not None and batch.first + batch.stop - 1 > batch.link.handed:
            batch.link.handed = batch.first + batch.stop - 1
            batch.link.soon = True

    def sample_later(self, puller: Puller, now: float) -> None:
        """Something has come for it."""
        puller.sample = SAMPLE_AFTER
        self._timers.set_if_unset((puller, "sample"), now + SAMPLE_AFTER, lambda when: self._sample(puller, when))

    def _sample(self, puller: Puller, now: float) -> None:
        """A program that holds on to a message for long: its pusher should know which one it is."""
        if puller.closing:
            return
        if self._note_handed(puller):
            puller.sample = SAMPLE_AFTER
        else:
            puller.sample = min(puller.sample * 2, SAMPLE_MOST)
        if puller.queued:
            self._timers.set((puller, "sample"), now + puller.sample, lambda when: self._sample(puller, when))

    def _drain(self, link: ReceivingLink, now: float) -> None:
        puller, acks = link.puller, link.acks[:]
        del link.acks[: len(acks)]
        count, acked = len(acks), 0
        for first, last in runs_of(acks):
            acked += link.settle(first, last, link.acked)
        puller.acked += acked
        others = 0
        while link.others:
            item = link.others.popleft()
            others += self.settle_other(link, item, now)
            count += 1
        if count > acked + others:
            self._tell(f"{count - acked - others} of {puller.queue} settled too late: somebody else has them")
        puller.prefetch.settled(acked + others, now)
        if link.orphan:
            for other in puller.links.values():
                other.news = True  # there may be credit for them now
            if link.all_settled:
                self._remove(link)

    def settle_other(self, link: ReceivingLink, item: Settled, now: float) -> int:
        puller = link.puller
        if item.outcome == RETURNED:
            count = link.settle(item.number, item.number, link.given_back)
            link.news |= count > 0
            puller.given_back += count
            if count and link.orphan:
                self._deliver_here(link, item, now)
            return count
        count = link.settle(item.number, item.number, Ranges())
        if count:
            link.refused[item.number] = item
            link.news = True
            if item.outcome == NACKED:
                puller.nacked += 1
                if link.orphan and item.batch.attempt < link.max_attempts:
                    self._deliver_here(link, item, now)
                elif link.orphan:
                    times = f"{item.batch.attempt} attempts failed"
                    self._tell(f"a message of {puller.queue} is dropped: {times}, and the peer that pushed it is gone")
            else:
                puller.rejected += 1
        return count

    def _deliver_here(self, link: ReceivingLink, item: Settled, now: float) -> None:
        """The pusher is gone: nobody else delivers it again, so this peer does, on a link of its own making."""
        puller = link.puller
        local_id = LOCAL + link.peer
        local = puller.links.get(local_id)
        if local is None:
            local = puller.links[local_id] = ReceivingLink(
                id=local_id,
                peer=link.peer,
                session=link.session,
                puller=puller,
                max_attempts=link.max_attempts,
                orphan=True,
            )
        again = item.batch.view(item.place, item.place + 1)
        again.first = local.expected - item.place  # so that its one message has the local link's next number
        again.attempt = min(again.attempt + (item.outcome == NACKED), ATTEMPT_MOST)
        again.flags |= REDELIVERED
        again.link = local
        if puller.overdue is not None:
            self.lend(puller.overdue, local, again, now)
        number = local.expected
        local.trail.note(number, number, [item.batch.run_of(item.place)])
        local.trail.tidy(local.settled)  # nobody is told the state of that link
        local.expected += 1
        local.limit += 1
        puller.received += 1
        if item.delay > 0:
            puller.delayed += 1
            local.delayed.add(number)
            self._timers.set(
                (local, number), now + item.delay, lambda when: self._deliver_delayed(local, number, again)
            )
        else:
            puller.inbox.put(again)

    @staticmethod
    def _deliver_delayed(local: ReceivingLink, number: int, batch: Batch) -> None:
        local.delayed.remove(number)
        local.puller.delayed -= 1
        local.puller.inbox.put(batch)

    # --- work timeouts

    def lend(self, overdue: Overdue, link: ReceivingLink, batch: Batch, now: float) -> None:
        overdue.on_batch(link, batch)
        puller = link.puller
        self._timers.set_if_unset((puller, "work"), now + overdue.until_look, lambda when: self._look(puller, when))

    def _look(self, puller: Puller, now: float) -> None:
        overdue = puller.overdue
        if overdue is None or puller.closing:
            return
        self.on_taken(puller, now)
        late = overdue.look(puller.inbox.queued, now)
        reason = f"held for longer than the work_timeout of {overdue.seconds:g} s"
        for link, number, batch in late:
            self.settle_other(link, Settled(number, NACKED, 0.0, reason, batch, number - batch.first), now)
        if late:
            self._tell(f"{len(late)} of {puller.queue} {reason}: somebody else gets them")
        if (late and not puller.inbox.queued) or overdue.is_stalled(now):
            self._hang(puller)
        if overdue.pending:
            self._timers.set((puller, "work"), now + overdue.until_look, lambda when: self._look(puller, when))

    def _hang(self, puller: Puller) -> None:
        """What it has not handed out goes back, and it gets no more, until somebody waits for a message there."""
        puller.hung = puller.inbox.stalled = True
        for link in puller.links.values():
            if not link.orphan:
                self.take_back(link, link.handed + 1)
        puller.inbox.wake()

    def _come_round(self, puller: Puller) -> None:
        puller.hung = False
        for link in puller.links.values():
            link.news = True  # there is credit again

    def take_back(self, link: ReceivingLink, first: int = 1) -> None:
        """What was not handed out yet leaves the inbox: others get it. All from `first` on is settled as returned."""
        inbox = link.puller.inbox
        link.puller.given_back += link.settle(first, link.expected - 1, link.given_back)
        link.news = True
        for batch in [item for item in list(inbox.arrived) if isinstance(item, Batch) and item.link is link]:
            try:
                inbox.arrived.remove(batch)
            except ValueError:
                continue  # a caller was faster
            inbox.messages -= batch.live
            inbox.bytes -= batch.size
        if isinstance(inbox.handing.batch, Batch) and inbox.handing.batch.link is link:
            inbox.handing.drop()
