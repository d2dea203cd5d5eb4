"""Queues that are kept on a disk, those of a running spool and those of outboxes: each is a state machine between
those who push, a disk, and those who pull. One queue's state is a `Spooled`; here is what happens to it, with the parts
`storing` (to the disk), `loading` (from it), `filling` (how full it is) and `burying` (dead letters).

A spool's messages come from pushers, through a puller of its own; those of an outbox from the callers of this peer (see
`intake`). The rest is the same, but for where they go: a spool's to pullers (`relaying`), those of an outbox to a spool
if there is one, else to pullers (`forwarding`).

Every message has a number in its queue's stream, which is its position in that outbox, and is in one of these states:

    come -> on its way to the disk -> stored -> loaded: in the outbox of `relaying` or `forwarding` -> settled
                 |                       |                 |
                 |                       +-- behind the window, on the disk alone
                 +-- could not be stored: given back to its pusher; of a caller's it is tried again

Events:
- batch: what a pusher has sent goes to the disk; what makes no sense is rejected. What has come before, by its origin
  number, does not go there again: its pusher is told of it in its turn, once all that came earlier is answered.
- stored: the disk has synced it. Now the pusher is told, and it is loaded at once if nothing older waits on the disk.
- failed: the disk could not take it. It goes back to its pusher. On a full disk the queue takes nothing more until
  there is room; after any other failure it is *broken*: it leaves the roster, and pushers go direct; callers are told.
- take: what callers have left for an outbox goes to the disk, as soon as that has answered what went before.
- records: a piece of the stream, as it was asked for, is loaded, but for what is settled.
- report, once each turn: what pullers have settled, and attempts that failed, go to the journal; when half of the
  window is empty more is asked for.
- dead: its letter, with reason and history, goes to a stream of its own; once that is synced the message is settled.
  Letters are delivered to pullers of `jobs.dead` as messages are to those of `jobs`, but for plans and attempts: nobody
  dies twice. What an operator does with them is in `letters`.
- full: the queue has reached a limit, or the disk its free space: no more credit, until there is a tenth less.
- close: no credit, then all that is on its way to the disk is stored, then links end, then the outbox goes, and once
  the last letters are stored, the queue.

What a crash (kill -9, power cut) costs, by where a message is:

    come, or on its way to the disk   nothing: its pusher holds it, and pushes it again, redelivered
    stored, the pusher not told       nothing: its pusher pushes it again, and is told at once
    loaded, or at a puller            nothing: it is unsettled, and delivered again; all that was found is redelivered
                                      unless the spool was closed, when only what had been on its way is
    settled, not in the journal yet   it is delivered again, redelivered: the disk comes to it when it has time
    in it, not on the medium          the same after a power cut; a killed process loses nothing that was written
    an attempt charged                as settled: at worst an attempt more
    dead, its letter not synced       it is delivered once more, redelivered, and dies again
    its letter synced, not settled    the same: there are two letters then, and the second says it was redelivered
    a letter retried, not settled     message and letter are both there: it may be retried twice

A message is settled once it is acked, expired, or a letter that is synced; nothing else removes it. A letter is settled
once it is acked or rejected by a puller, retried, purged, or older than as many as are to be kept.

It is longer than most because that table and the order of the events belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from zq.core.burying import Burying
from zq.core.filling import Filling
from zq.core.intake import Intake
from zq.core.loading import Loading
from zq.core.outbox import Kept, Outbox
from zq.core.pulling import Pulling
from zq.core.pushing import Pushing
from zq.core.ranges import merged
from zq.core.spooled import CREDIT, CREDIT_BYTES, WINDOW, WINDOW_BYTES, Disk, Item, Limits, Recovered, Room, Spooled
from zq.core.storing import Entrance, Storing
from zq.core.timers import Timers
from zq.errors import Refused
from zq.info import HeldQueue
from zq.record import replace


class Spooling:
    """All spooled queues of this peer."""

    def __init__(
        self,
        timers: Timers,
        pulling: Pulling,
        relaying: Pushing,
        forwarding: Pushing,
        draw: Callable[[int], bytes],
        tell: Callable[[str], None],
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """`changed` hears when the roster entry is to be told again; `clock` is this peer's."""
        self._timers = timers
        self._pulling = pulling
        self._relaying = relaying
        self._forwarding = forwarding
        self._draw = draw
        self._tell = tell
        self.changed = changed
        self._queues: dict[bytes, Spooled] = {}
        self._clock = clock
        self.loading = Loading(timers, tell)
        self.storing = Storing(pulling, clock)
        self._filling = Filling(timers, tell, changed, clock)
        self._burying = Burying(timers, self.storing.append, self._on_buried, tell, clock)

    def __iter__(self) -> Iterator[Spooled]:
        return iter(list(self._queues.values()))

    def find(self, queue: str) -> Spooled | None:
        """Of a spool."""
        return next((spooled for spooled in self if spooled.name == queue and spooled.puller is not None), None)

    def intakes(self) -> list[Intake]:
        return [spooled.intake for spooled in self if spooled.intake is not None]

    def open(self, found: Recovered, letters: Recovered, limits: Limits, disk: Disk, now: float) -> Spooled:
        """A queue of a spool."""
        spooled = self._admit_queue(self._relaying, found, letters, limits, disk, now)
        puller = self._pulling.open(
            self._draw(16),
            found.queue,
            Entrance(lambda batch: self.storing.on_batch(spooled, batch)),
            prefetch=CREDIT,
            prefetch_bytes=CREDIT_BYTES,
            now=now,
        )
        puller.stream = found.stream
        spooled.puller = puller
        self._begin(spooled)
        return spooled

    def open_outbox(
        self, found: Recovered, letters: Recovered, limits: Limits, disk: Disk, intake: Intake, now: float
    ) -> Spooled:
        """A queue that callers of this peer push to."""
        spooled = self._admit_queue(self._forwarding, found, letters, limits, disk, now)
        spooled.intake = intake
        self._begin(spooled)
        return spooled

    def _begin(self, spooled: Spooled) -> None:
        for opened in spooled.parts():
            self._filling.judge(opened)
            self.loading.go_on(opened)
        self.changed()

    def _admit_queue(
        self, holder: Pushing, found: Recovered, letters: Recovered, limits: Limits, disk: Disk, now: float
    ) -> Spooled:
        outbox = holder.open(found.queue, window=WINDOW, window_bytes=WINDOW_BYTES, now=now)
        outbox.outgoing.limit = -1  # nobody appends
        spooled = self._admit(holder, found, outbox, limits, disk)
        dead = holder.open_letters(letters.queue, now)
        spooled.letters = self._admit(holder, letters, dead, Limits(max_messages=limits.max_dead), disk)
        return spooled

    def _admit(self, holder: Pushing, found: Recovered, outbox: Outbox, limits: Limits, disk: Disk) -> Spooled:
        outbox.kept = Kept()
        spooled = Spooled(
            name=found.queue,
            stream=found.stream,
            limits=limits,
            holder=holder,
            outbox=outbox,
            disk=disk,
            safe=found.safe,
            next_load=found.first,
            doubtful=found.doubtful,
            settled=found.settled,
            attempts=found.attempts,
            room=found.room,
            base=found.first,
            known=found.known,
        )
        spooled.settled.forget_below(found.first)
        spooled.taken = spooled.unsettled
        self._queues[found.stream] = spooled
        return spooled

    # --- what the disk says, and callers leave

    def take(self, intake: Intake) -> None:
        """What they have left, unless the disk is busy with what came before."""
        spooled = next((spooled for spooled in self if spooled.intake is intake), None)
        if spooled is not None:
            self.storing.hand_over(spooled)

    def on_stored(self, stream: bytes, firsts: Sequence[int], room: Room, now: float) -> None:
        """As many batches as there are `firsts`, the numbers of their first messages, are safe."""
        spooled = self._queues.get(stream)
        if spooled is None:
            return
        spooled.room = room
        for first in firsts:
            stored, is_safe, _ = spooled.storing.popleft()
            assert stored is not None
            count = len(stored.items)
            spooled.safe = first + count - 1
            spooled.taken += count
            is_safe(first)
            self.storing.answer_repeats(spooled)
            self.loading.on_stored(spooled, first, stored, now)
        self._filling.judge(spooled)
        if spooled.sent is None:
            spooled.holder.dispatch(spooled.outbox, now)
        if spooled.intake is not None:
            spooled.intake.outgoing.wake()
            self.storing.hand_over(spooled)

    def on_failed(self, stream: bytes, count: int, reason: str, *, full: bool, room: Room, now: float) -> None:
        """The disk has not taken so many batches."""
        spooled = self._queues.get(stream)
        if spooled is None:
            return
        spooled.room = room
        for _ in range(count):
            spooled.storing.popleft().failed()
            self.storing.answer_repeats(spooled)
        if not spooled.is_queue:
            self._burying.set_trouble(spooled, reason)
        elif full:
            self._filling.set_full(spooled, True, f"{spooled.label} takes no more: {reason}")
            self._filling.look_later(spooled, now)
        elif not spooled.broken:
            spooled.broken = reason
            self._filling.set_full(spooled, True, f"{spooled.label} cannot store any more, and only delivers: {reason}")
            if spooled.puller is not None:
                spooled.puller.hidden = True
            if spooled.intake is not None:
                spooled.intake.fail(reason)
            self.changed()

    def on_ended(self, disk: Disk | None, now: float) -> None:
        """It has ended, and answers nothing more."""
        for spooled in self:
            if spooled.disk is disk:
                asked = sum(coming.stored is not None for coming in spooled.storing)
                reason = "its disk thread has ended"
                self.on_failed(spooled.stream, asked, reason, full=False, room=spooled.room, now=now)

    def on_room(self, stream: bytes, room: Room) -> None:
        spooled = self._queues.get(stream)
        if spooled is not None:
            spooled.room = room
            self._filling.judge(spooled)
            if spooled.intake is not None:
                self.storing.hand_over(spooled)

    def on_records(self, stream: bytes, items: Sequence[Item], now: float) -> None:
        """A piece of the stream, from where it was asked for. Empty: it could not be read."""
        spooled = self._queues.get(stream)
        if spooled is not None:
            spooled.readers.popleft()(items, now)

    # --- what became of them

    def report(self) -> None:
        """Once each turn."""
        for spooled in self._queues.values():
            outbox = spooled.outbox
            kept = outbox.kept
            assert kept is not None
            for number, attempts in kept.charged:
                spooled.charge(number, attempts)
            kept.charged.clear()
            for death in kept.dead:
                self._burying.bury(spooled, death)
            kept.dead.clear()
            if kept.settled:
                settled, kept.settled = kept.settled, []
                for first, last in merged(settled):
                    spooled.settle(first, last)
                self._filling.judge(spooled)
            self.loading.go_on(spooled)

    def _on_buried(self, spooled: Spooled) -> None:
        self._filling.judge(spooled)
        self.changed()

    def purge(self, spooled: Spooled) -> int:
        """Settles all that waits, and returns how many messages that were. Refused, and nothing is done, if some of it
        is with a puller."""
        outbox = spooled.outbox
        if outbox.in_flight:
            where = ", ".join(sorted({spooled.holder.name_of(link.peer) for link in spooled.holder.busy(outbox)}))
            count = outbox.in_flight
            flying = f"{count:,} messages of {spooled.name} are" if count > 1 else f"a message of {spooled.name} is"
            raise Refused(
                f"{flying} in flight, at {where}: purge again when all is settled, or when the pullers are closed; "
                "nothing was purged"
            )
        self.report()
        first = max(spooled.next_load, spooled.base)
        count = outbox.purge("purged")
        behind = sum(high - low + 1 for low, high in spooled.settle(first, spooled.safe))
        if behind:
            outbox.dropped["purged"] = outbox.dropped.get("purged", 0) + behind
        self.report()
        self.changed()
        return count + behind

    # --- the end

    def close(self, spooled: Spooled) -> None:
        """Takes no more; `is_stored` says when all that had come is on the disk."""
        spooled.closing = True
        if spooled.puller is not None:
            spooled.puller.hidden = True
        self._filling.set_full(spooled, True, "")
        self.changed()

    def is_stored(self, spooled: Spooled) -> bool:
        return not spooled.storing and (spooled.letters is None or not spooled.letters.storing)

    def stop(self, spooled: Spooled) -> None:
        """Its pullers have it no more; what they have not settled is delivered again when it is opened. `is_stored`
        says when the letters of what has died are on the disk."""
        self.report()
        for each in spooled.parts():
            under_way = list(each.holder.in_flight(each.outbox))
            under_way += [piece for piece in each.outbox.pieces() if piece.redelivered]
            numbers = [piece.position + piece.count - 1 for piece in under_way]
            each.sent = max([*numbers, *each.dying], default=0)
            each.holder.close(each.outbox)
        if spooled.intake is not None:
            spooled.intake.close()

    def forget(self, spooled: Spooled) -> list[tuple[bytes, int]]:
        """Gives up the queue. Returns its streams, each with the highest number that may have been delivered."""
        parts = spooled.parts()
        for each in parts:
            self._queues.pop(each.stream, None)
            each.open = False
            for what in ("room", "read", "bury"):
                self._timers.cancel((each, what))
        self.changed()
        return [(each.stream, each.sent or 0) for each in parts]

    # --- reports

    def rows(self, holder: Pushing, now: float) -> list[list[object]]:
        """Rows of a holder for the roster entry, with what is on the disk alone."""
        held = {spooled.name: spooled.left for spooled in self._used(holder)}
        return [[queue, held[str(queue)], age] for queue, count, age in holder.rows(now) if queue in held]

    def _used(self, holder: Pushing) -> list[Spooled]:
        """Without those of dead letters where there never were any."""
        return [spooled for spooled in self if spooled.holder is holder and (spooled.is_queue or spooled.taken)]

    def ledger(self, holder: Pushing) -> tuple[HeldQueue, ...]:
        """The same for the ledger."""
        held = {spooled.name: spooled for spooled in self._used(holder)}
        return tuple(self._row(row, held[row.queue]) for row in holder.ledger() if row.queue in held)

    @staticmethod
    def _row(row: HeldQueue, spooled: Spooled) -> HeldQueue:
        dropped = dict(row.dropped)
        if spooled.damaged:
            dropped["damaged"] = spooled.damaged
        gone = row.acked + row.stored + row.expired + sum(dropped.values())
        waiting = spooled.taken - row.in_flight - gone
        return replace(row, taken=spooled.taken, waiting=waiting, dropped=dropped)
