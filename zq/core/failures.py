"""What becomes of messages whose delivery has failed: one attempt more, or a place among the dead letters."""

from __future__ import annotations

from collections.abc import Callable

from zq.core.dead import bury, dead_queue_of, with_failure
from zq.core.link import SendingLink
from zq.core.outbox import Dead, Outbox, Piece
from zq.wire.batch import ATTEMPT_MOST
from zq.wire.dead import Failure


class Failures:
    """`name_of` is what a peer is called, `wall` what the wall clock shows at a time. `letters_of` is the outbox of a
    queue's dead letters, made when it is first asked for (with what the operator is to hear then), and `dispatch` sends
    what is new there."""

    def __init__(
        self,
        name_of: Callable[[bytes], str],
        wall: Callable[[float], float],
        letters_of: Callable[[str, str, float], Outbox],
        dispatch: Callable[[Outbox, float], None],
    ) -> None:
        self._name_of = name_of
        self._wall = wall
        self._letters_of = letters_of
        self._dispatch = dispatch

    def failed(self, link: SendingLink, piece: Piece, outcome: str, reason: str, now: float) -> Piece:
        """One message, with its history."""
        failed = piece.slice(piece.start, piece.stop)
        failure = Failure(piece.attempt, outcome, self._name_of(link.peer), link.peer, self._wall(now), reason)
        failed.history = with_failure(piece, failure)
        return failed

    def is_dead(self, outbox: Outbox, piece: Piece, now: float) -> bool:
        """Counts the attempt that has failed, and buries the message if that was the last."""
        if piece.attempt >= outbox.max_attempts:
            times = f"{piece.attempt} attempt{'s' if piece.attempt > 1 else ''} failed"
            last = piece.history[-1]
            reason = f"{times}; the last: {last.outcome}{f', {last.reason}' if last.reason else ''}"
            self.bury(outbox, piece, reason, now, counted="dead")
            return True
        piece.attempt = min(piece.attempt + 1, ATTEMPT_MOST)
        if outbox.kept is not None:
            outbox.kept.charged.append((piece.position, piece.attempt))
        return False

    def bury(self, outbox: Outbox, piece: Piece, reason: str, now: float, counted: str = "rejected") -> None:
        outbox.drop(piece, counted)
        if outbox.dead:
            return
        if outbox.kept is not None:
            outbox.kept.settled.pop()  # it stays on the disk until its letter is there
            outbox.kept.dead.append(Dead(piece, reason, self._wall(now)))
            return
        name = dead_queue_of(outbox.queue)
        letters = self._letters_of(
            name, f"a message of {outbox.queue} is dead: {reason[:200]!r}; more are only counted, see {name}", now
        )
        bury(letters, piece, outbox.queue, reason, now, self._wall(now))
        self._dispatch(letters, now)
