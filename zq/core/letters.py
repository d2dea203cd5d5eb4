"""What is asked about the dead letters that a spool or an outbox has on its disk.

They are read a piece at a time and never all in memory, so an answer may take a while; until then the same question
asked again is passed over. Those that the peer's pushers keep in memory (see `inquiry`) come first in a list and are
treated first. A position of a letter on disk is its number in its stream, plus `APART`, or twice that in an outbox: a
peer may have a spool and an outbox of one queue.

States of a question: reading (a piece of the letters), storing (letters that become messages again, at the end of
their queue's stream), then answered. A crash between the two of a retry leaves the message and its letter; a queue that
is closed meanwhile leaves the question without an answer, and the one who asks says so.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial

from zq.core import dead
from zq.core.inquiry import ANSWERS_KEPT, ROWS, ROWS_BYTES, Answers, row_of
from zq.core.loading import as_letters
from zq.core.outbox import RETRIED
from zq.core.spooled import Item, Spooled
from zq.core.spooling import Spooling
from zq.wire import dead as wire
from zq.wire.batch import EXTRA, REDELIVERED, Run
from zq.wire.data import Extended, Malformed
from zq.wire.frames import LIST, RETRY, Inquire, Letters
from zq.wire.stored import KEPT, Stored, decode

APART = 1 << 48  # positions; more than any outbox in memory ever has

Resume = Callable[[Sequence[Item], float], None]
# What it waits for; goes on with what was read.
Steps = Generator[Callable[[Resume], None], Sequence[Item], Letters]
Part = Generator[Callable[[Resume], None], Sequence[Item], tuple[int, str]]


def _apart(spooled: Spooled) -> int:
    return APART if spooled.intake is None else 2 * APART


class _Letter:
    """One that was read."""

    def __init__(self, number: int, item: bytes, run: Run, stored: Stored) -> None:
        self.number = number
        self.item = item
        self.run = run
        self.stored = stored

    @property
    def size(self) -> int:
        return len(self.item) + sum(memoryview(part).nbytes for part in self.stored.parts)


def _letters_in(items: Sequence[Item], letters: Spooled) -> list[_Letter]:
    """Those that are not settled; what is damaged is told of when it is loaded."""
    found: list[_Letter] = []
    for item in items:
        if item.body is None:
            continue
        try:
            stored = decode(item.body, item.last - item.first + 1, item.flags, item.runs)
        except Malformed:
            continue
        found += [
            _Letter(item.first + start, those[0], run, stored)
            for start, those, run, _ in as_letters(stored)
            if item.first + start >= letters.base and item.first + start not in letters.settled
        ]
    return found


class _Retry:
    """Letters of a queue that become messages again."""

    def __init__(self, spooling: Spooling, queue: Spooled, letters: Spooled) -> None:
        self._spooling = spooling
        self._queue = queue
        self._letters = letters
        self._resume: Resume | None = None
        self._pending = 0
        self._safe: list[_Letter] = []
        self.failed = 0

    @property
    def count(self) -> int:
        return len(self._safe)

    def start(self, chosen: list[_Letter], resume: Resume) -> None:
        """`resume` is called when the disk has said which of them it has taken."""
        self._resume = resume
        for letter in chosen:
            self._add(letter)

    def _add(self, letter: _Letter) -> None:
        stored = letter.stored
        item = wire.unwrap(letter.item)
        flags = (stored.flags & KEPT & ~EXTRA) | REDELIVERED | (EXTRA if type(item) is Extended else 0)
        again = stored._replace(
            came=self._queue.stamp(), attempt=1, flags=flags, runs=(letter.run,), items=[bytes(item)]
        )  # fmt: skip

        def is_safe(first: int) -> None:
            self._queue.outbox.lost.remove(letter.run.origin, letter.run.first)
            self._safe.append(letter)
            self._done()

        def has_failed() -> None:
            self.failed += 1
            self._done()

        self._pending += 1
        self._spooling.storing.append(self._queue, again, is_safe, has_failed)

    def _done(self) -> None:
        self._pending -= 1
        if not self._pending:
            idle = self._letters.outbox.idle()
            for letter in self._safe:
                self._letters.discard(letter.number, letter.run, RETRIED, idle)
            assert self._resume is not None
            self._resume((), 0.0)


class SpoolAnswers:
    """The answers of a peer that may have a spool; `answers` are those of its pushers."""

    def __init__(self, answers: Answers, spooling: Spooling, send: Callable[[bytes, Letters], None]) -> None:
        self._answers = answers
        self._spooling = spooling
        self._send = send
        self._asked: dict[tuple[bytes, int], Steps] = {}
        self._done: dict[tuple[bytes, int], Letters] = {}
        self._retrying: set[tuple[Spooled, int]] = set()  # numbers of letters that are becoming messages just now

    def on_inquire(self, peer: bytes, question: Inquire, now: float) -> None:
        queues = self._queues(question.queue)
        key = peer, question.request
        if key in self._done:
            self._send(peer, self._done[key])
        elif not queues:
            self._send(peer, self._answers.answer(peer, question, now))
        elif key not in self._asked:
            while len(self._asked) >= ANSWERS_KEPT:
                del self._asked[next(iter(self._asked))]
            answer = self._list if question.action == LIST else self._act
            self._asked[key] = answer(peer, question, queues, now)
            self._go_on(key, None)

    def _queues(self, queue: str) -> list[Spooled]:
        found = [spooled for spooled in self._spooling if spooled.letters is not None]
        chosen = [one for one in found if queue in ("", one.name)]
        return sorted(chosen, key=lambda one: (one.name, _apart(one)))

    def _go_on(self, key: tuple[bytes, int], items: Sequence[Item] | None) -> None:
        steps = self._asked.get(key)
        if steps is None:
            return
        try:
            start = next(steps) if items is None else steps.send(items)
        except StopIteration as end:
            del self._asked[key]
            self._send(key[0], end.value)
            return
        start(lambda items, now: self._go_on(key, items))

    def _read(self, letters: Spooled, first: int) -> Callable[[Resume], None]:
        return partial(self._spooling.loading.read, letters, first)

    # --- LIST

    def _list(self, peer: bytes, question: Inquire, queues: list[Spooled], now: float) -> Steps:
        rows: list[list[object]] = []
        after = question.after_queue, question.after
        if question.after < APART:
            own = self._answers.answer(peer, question, now)
            if own.more:
                return own
            rows, after = own.letters, ("", 0)
        wanted = frozenset(question.ids)
        size = sum(len(row[-1]) for row in rows)  # type: ignore[arg-type, misc]
        for spooled in queues:
            letters, apart = spooled.letters, _apart(spooled)
            assert letters is not None
            if letters.name < after[0]:
                continue
            number = max(letters.base, after[1] - apart + 1 if letters.name == after[0] else 0)
            while number <= letters.safe:
                items = yield self._read(letters, number)
                if not items:
                    return Letters(question.request, 0, rows, False, f"{letters.label} cannot be read now")
                number = items[-1].last + 1
                for letter in _letters_in(items, letters):
                    if letter.number <= after[1] - apart and letters.name == after[0]:
                        continue
                    if wanted and dead.id_of(letter.item, letter.run) not in wanted:
                        continue
                    if len(rows) >= ROWS or size >= ROWS_BYTES:
                        return Letters(question.request, 0, rows, True, "")
                    at, flags = letter.number + apart, letter.stored.flags
                    rows.append(row_of(letters.name, at, letter.item, letter.run, letter.size, flags))
                    size += len(rows[-1][-1])  # type: ignore[arg-type]
        return Letters(question.request, 0, rows, False, "")

    # --- RETRY, PURGE

    def _act(self, peer: bytes, question: Inquire, queues: list[Spooled], now: float) -> Steps:
        """Of what was there when it was asked, as far as no puller has it."""
        own = self._answers.answer(peer, question, now)
        if not question.queue or own.problem.startswith("not something"):
            return own
        count, problem = own.count, ""
        for spooled in queues:
            done, problem = yield from self._act_on(spooled, question)
            count += done
            if problem:
                break
        self._spooling.changed()
        return self._remember(peer, Letters(question.request, count, [], False, problem))

    def _act_on(self, spooled: Spooled, question: Inquire) -> Part:
        """Returns how many, and what went wrong."""
        letters = spooled.letters
        assert letters is not None
        wanted = frozenset(question.ids)
        number, last, count = letters.base, letters.safe, 0
        while number <= last:
            items = yield self._read(letters, number)
            if not items:
                return count, f"{letters.label} cannot be read now"
            number = items[-1].last + 1
            chosen = [
                letter
                for letter in _letters_in(items, letters)
                if letter.number <= last
                and (not wanted or dead.id_of(letter.item, letter.run) in wanted)
                and (letters, letter.number) not in self._retrying  # somebody else has asked for the same
            ]
            if question.action != RETRY:
                count += self._purge(letters, chosen)
                continue
            idle = letters.outbox.idle()
            chosen = [letter for letter in chosen if letter.number in idle or letter.number >= letters.next_load]
            if not chosen:
                continue
            if spooled.closing or spooled.broken:
                return count, f"{spooled.label} takes nothing: {spooled.broken or 'it is being closed'}"
            retry = _Retry(self._spooling, spooled, letters)
            these = {(letters, letter.number) for letter in chosen}
            self._retrying |= these
            try:
                yield partial(retry.start, chosen)
            finally:
                self._retrying -= these
            count += retry.count
            if retry.failed:
                return count, f"{spooled.label} could not store {retry.failed} of them"
        return count, ""

    def _purge(self, letters: Spooled, chosen: list[_Letter]) -> int:
        idle = letters.outbox.idle()
        return sum(letters.discard(letter.number, letter.run, "purged", idle) for letter in chosen)

    def _remember(self, peer: bytes, answer: Letters) -> Letters:
        """It is told again to whoever asks again."""
        self._done[peer, answer.request] = answer
        while len(self._done) > ANSWERS_KEPT:
            del self._done[next(iter(self._done))]
        return answer
