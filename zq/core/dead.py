"""Dead letters: messages that no puller is to have again, in a queue of their own beside the one they were pushed to.

A message of `jobs` is dead when a puller has rejected it, or when the last attempt it had was failed. It leaves the
outbox of `jobs` (`dropped`, under "rejected" or "dead") and enters that of `jobs.dead`, an outbox like any other: a
puller of `jobs.dead` gets it, with headers that tell reason and history, and the ledger has a row for it. Three things
differ. Nothing enters but the dead. Only the newest are kept. And nobody dies of it again: what is rejected there is
dropped, what fails there is delivered again.

States of a dead letter: waiting, in flight to a puller of `jobs.dead`, then acked, or dropped: "rejected",
"forgotten" (newer ones took its place), "purged" or "retried" (by somebody who asked; see `inquiry`). A retried one
enters the outbox of `jobs` again, as a message newly taken, with its old id and attempt 1.

A crash of this process loses them all, as it loses what is in its other outboxes. Those of a spool are on its disk, see
`spooling`; of `jobs.dead` there is an outbox there as well, and how they are made and unmade is the same.
"""

from __future__ import annotations

from zq.core.outbox import Chunk, Outbox, Piece
from zq.wire import dead as wire
from zq.wire.batch import ATTEMPT_MOST, EXTRA, Run
from zq.wire.data import Extended
from zq.wire.dead import Failure
from zq.wire.limits import NAME
from zq.wire.names import DEAD
from zq.wire.plan import Plan, plan_in

KEPT = 1_000  # dead letters of a queue that a peer keeps; the oldest go first
KEPT_BYTES = 64 << 20  # bytes of the same, as a window; one letter above it is kept alone
NEVER = ATTEMPT_MOST + 1  # attempts that nothing reaches
HISTORY = 20  # failed attempts of a message that are remembered, the newest; four times the usual `max_attempts`


def dead_queue_of(queue: str) -> str:
    """What the queue of its dead letters is called. Of a name that leaves no room for the suffix it is cut."""
    return queue[: NAME - len(DEAD)] + DEAD


def new_dead_outbox(queue: str) -> Outbox:
    outbox = Outbox(queue=queue, window=KEPT, window_bytes=KEPT_BYTES, max_attempts=NEVER, dead=True)
    outbox.outgoing.limit = -1  # nobody appends
    return outbox


def with_failure(piece: Piece, failure: Failure) -> tuple[Failure, ...]:
    return (*piece.history, failure)[-HISTORY:]


def bury(outbox: Outbox, piece: Piece, queue: str, reason: str, now: float, wall: float) -> None:
    """`piece` is one message of `queue`, in whose outbox it is counted as dropped already."""
    chunk = piece.chunk
    assert piece.count == 1
    item = wire.wrap(item_of(piece), bool(chunk.flags & EXTRA), queue, reason, wall, piece.history)
    _enter(outbox, item, piece, chunk.flags | EXTRA, now)
    while outbox.held > KEPT or (outbox.held_bytes > KEPT_BYTES and outbox.held > 1):
        oldest = outbox.first()
        if oldest is None:
            break  # all of them are on their way to somebody, or wait for their time
        outbox.discard(oldest, "forgotten")


def revive(outbox: Outbox, piece: Piece, now: float) -> None:
    """A dead letter becomes a message of `outbox` again, with its lane and its key. If somebody was lost over it, it
    still goes alone."""
    run = piece.run()
    outbox.lost.remove(run.origin, run.first)
    item = wire.unwrap(item_of(piece))
    if type(item) is not Extended:
        _enter(outbox, item, piece, piece.chunk.flags & ~EXTRA, now)
        return
    _enter(outbox, item, piece, piece.chunk.flags | EXTRA, now, plan_in(wire.split(item)[1]))


def _enter(outbox: Outbox, item: bytes, piece: Piece, flags: int, now: float, plan: Plan | None = None) -> None:
    """One message more for the outbox, in front, as it is not new; whatever the window says."""
    size = len(item) + sum(memoryview(part).nbytes for part in piece.chunk.parts)
    run = piece.run()
    run = Run(run.origin, run.first, 1, run.time)
    chunk = Chunk(outbox.taken + 1, [item], piece.chunk.parts, size, flags, run, now, topic=piece.chunk.topic)
    outbox.put_again(Piece(chunk, 0, 1, redelivered=True, alone=piece.alone), plan)


def item_of(piece: Piece) -> bytes:
    return piece.chunk.items[piece.start]


def identify(piece: Piece) -> str:
    """The id of a dead letter."""
    return id_of(item_of(piece), piece.run())


def id_of(item: bytes, run: Run) -> str:
    given = wire.id_of(item)
    return f"{run.origin.hex()}-{run.first}" if given is None else given
