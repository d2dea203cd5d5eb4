"""Dead letters are where they died: who wants to see them, or to do something with them, asks every peer.

INQUIRE asks, LETTERS answers: a piece of the list with where it stopped, and whether there is more, which is asked for
next; or how many messages were retried or purged. A question is repeated every 0.5 s until it is answered, since
either frame may be lost: a list is the same again, and of what is done already there is nothing left to do. So that
the number is right all the same, a holder answers a repeated RETRY or PURGE with what it answered before.

States of an inquiry, for each peer asked: asked (again and again), then answered, or gone. An inquiry ends when
everybody has answered or is gone, or its owner ends it. A crash of the one who asks loses what it would have seen; what
was done is done. A crash of a holder loses its dead letters, but for those of a spool (see `letters`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from zq.core import dead
from zq.core.outbox import RETRIED, Outbox, Piece
from zq.core.pushing import Pushing
from zq.core.timers import Timers
from zq.wire import dead as wire
from zq.wire.batch import PARTS, Run
from zq.wire.frames import LIST, PURGE, RETRY, Inquire, Letters

AGAIN = 0.5  # s until a question that nobody has answered is asked again
ROWS = 200  # letters in one answer
ROWS_BYTES = 512 << 10  # bytes of messages in one answer; a mailbox frame has room for 1 MiB
SHOWN = 64 << 10  # bytes of a message that is told with its data
IDS_MOST = 1_000  # ids in one question; 255 characters each fit into a mailbox frame
ANSWERS_KEPT = 64  # answers to RETRY and PURGE that are remembered for those who ask again


class Inquiry:
    """One question to several peers."""

    def __init__(self) -> None:
        self.asked: tuple[bytes, ...] = ()  # peers
        self.pending: dict[bytes, Inquire] = {}  # what each of them is asked and has not answered
        self.letters: list[tuple[bytes, list[object]]] = []  # holder, row of LETTERS
        self.count = 0
        self.problems: list[tuple[bytes, str]] = []
        self.gone: list[bytes] = []

    @property
    def complete(self) -> bool:
        return not self.pending


class Inquiries:
    """The questions of this peer."""

    def __init__(self, timers: Timers, send: Callable[[bytes, Inquire], None]) -> None:
        self._timers = timers
        self._send = send
        self._running: list[Inquiry] = []
        self._requests = 0

    def begin(self, action: int, queue: str, ids: Sequence[str], peers: Sequence[bytes], now: float) -> Inquiry:
        inquiry = Inquiry()
        inquiry.asked = tuple(peers)
        self._running.append(inquiry)
        for peer in peers:
            self._ask(inquiry, peer, Inquire(self._request(), action, queue, list(ids), "", 0))
        self._again(inquiry, now)
        return inquiry

    def end(self, inquiry: Inquiry) -> None:
        if inquiry in self._running:
            self._running.remove(inquiry)
        self._timers.cancel(inquiry)

    def _request(self) -> int:
        self._requests += 1
        return self._requests

    def _ask(self, inquiry: Inquiry, peer: bytes, question: Inquire) -> None:
        inquiry.pending[peer] = question
        self._send(peer, question)

    def _again(self, inquiry: Inquiry, now: float) -> None:
        self._timers.set(inquiry, now + AGAIN, lambda when: self._ask_again(inquiry, when))

    def _ask_again(self, inquiry: Inquiry, now: float) -> None:
        for peer, question in inquiry.pending.items():
            self._send(peer, question)
        self._again(inquiry, now)

    def on_letters(self, peer: bytes, letters: Letters, now: float) -> None:
        for inquiry in list(self._running):
            question = inquiry.pending.get(peer)
            if question is None or question.request != letters.request:
                continue
            del inquiry.pending[peer]
            inquiry.count += letters.count
            inquiry.letters += [(peer, row) for row in letters.letters]
            if letters.problem:
                inquiry.problems.append((peer, letters.problem))
            if letters.more and letters.letters:
                queue, position, *_ = letters.letters[-1]
                self._ask(
                    inquiry,
                    peer,
                    Inquire(self._request(), question.action, question.queue, question.ids, queue, position),
                )
            if inquiry.complete:
                self.end(inquiry)

    def on_gone(self, peer: bytes) -> None:
        for inquiry in list(self._running):
            if inquiry.pending.pop(peer, None) is not None:
                inquiry.gone.append(peer)
                if inquiry.complete:
                    self.end(inquiry)


class Answers:
    """The answers of a holder. `pushing` has the dead letters; `reopen` makes an outbox for those of a queue that was
    bound to topics and is so no more."""

    def __init__(self, pushing: Pushing, reopen: Callable[[str, float], Outbox]) -> None:
        self._holder = pushing
        self._reopen = reopen
        self._kept: dict[tuple[bytes, int], Letters] = {}

    def answer(self, peer: bytes, question: Inquire, now: float) -> Letters:
        if question.action == LIST:
            return self._list(question)
        kept = self._kept.get((peer, question.request))
        if kept is None:
            kept = self._kept[peer, question.request] = self._act(question, now)
            while len(self._kept) > ANSWERS_KEPT:
                del self._kept[next(iter(self._kept))]
        return kept

    def _list(self, question: Inquire) -> Letters:
        wanted, rows, size = frozenset(question.ids), list[list[object]](), 0
        for queue, position, piece in self._letters(question.queue):
            if (queue, position) <= (question.after_queue, question.after):
                continue
            if wanted and dead.identify(piece) not in wanted:
                continue
            if len(rows) >= ROWS or size >= ROWS_BYTES:
                return Letters(question.request, 0, rows, True, "")
            rows.append(row_of(queue, position, dead.item_of(piece), piece.run(), piece.size, piece.chunk.flags))
            size += len(rows[-1][-1])  # type: ignore[arg-type]
        return Letters(question.request, 0, rows, False, "")

    def _letters(self, queue: str) -> Iterator[tuple[str, int, Piece]]:
        """By queue of the dead and position."""
        for outbox in self._holder.dead_outboxes():
            if not queue or outbox.queue == dead.dead_queue_of(queue):
                for piece in self._holder.held(outbox):
                    yield outbox.queue, piece.position, piece

    def _act(self, question: Inquire, now: float) -> Letters:
        request, holder = question.request, self._holder
        if question.action not in (RETRY, PURGE) or not question.queue:
            return Letters(request, 0, [], False, "not something that can be done with dead letters")
        letters = holder.find(dead.dead_queue_of(question.queue))
        outbox = holder.find(question.queue)
        if letters is None:
            return Letters(request, 0, [], False, "")
        wanted = frozenset(question.ids)
        chosen = [piece for piece in letters.waiting_again() if not wanted or dead.identify(piece) in wanted]
        if question.action == RETRY and outbox is None and chosen:
            chosen = [piece for piece in chosen if piece.chunk.topic is not None]  # which no program has pushed
            if not chosen:
                return Letters(request, 0, [], False, f"nobody there pushes to {question.queue} any more")
            outbox = self._reopen(question.queue, now)
        for piece in chosen:
            if question.action == RETRY and outbox is not None:
                letters.discard(piece, RETRIED)
                dead.revive(outbox, piece, now)
            else:
                letters.discard(piece, "purged")
        if outbox is not None:
            holder.dispatch(outbox, now)
        return Letters(request, len(chosen), [], False, "")


def row_of(queue: str, position: int, item: bytes, run: Run, size: int, flags: int) -> list[object]:
    """A dead letter as an answer tells of it."""
    complete = not flags & PARTS and len(item) <= SHOWN
    told = bytes(item) if complete else bytes(wire.without_data(item))
    return [queue, position, run.origin, run.first, run.time, size, complete, told]
