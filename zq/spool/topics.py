"""The topic streams of an open spool directory: `zq.core.stream.Disk` on the thread of a keeper.

Beside what every stream has, a topic stream has the places of its cursors in its journal, and a table of the last
numbers of each publisher's topic (`heads`). What is trimmed is settled for all: its segments go as those of a queue do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from zq.core.cursors import Begun, Charged, Found, Moved, Word
from zq.core.heads import LATE
from zq.core.ranges import Ranges
from zq.core.spooled import Item, Room
from zq.core.stream import Newest, RecoveredTopics
from zq.errors import SpoolDamaged
from zq.info import Gap
from zq.logs import Logger
from zq.spool.heads import read_heads, write_heads
from zq.spool.journal import JOURNAL
from zq.spool.keeper import Keeper
from zq.spool.log import SEGMENT, Log
from zq.spool.opened import Opened
from zq.spool.record import Record
from zq.spool.store import TOPIC
from zq.wire.batch import RETAIN, Run
from zq.wire.data import Malformed
from zq.wire.kept import Kept, came_of, decode

log = Logger("zq.spool")

SEGMENT_LEAST = 64 << 10  # bytes
STRETCH, STRETCH_MOST = 1_024, 65_536  # messages that are looked at in one step back from the end; doubled up to
SHARE = 8  # segments in what a limit of bytes allows: it goes in units of that


class Answers(Protocol):
    """Where answers go; called in the thread of the disk."""

    def read(self, stream: bytes, cursor: str, asked: int, items: Sequence[Item]) -> None: ...

    def sought(self, stream: bytes, cursor: str, number: int) -> None: ...

    def looked(self, stream: bytes, room: Room, floor: int) -> None: ...


class TopicDisk:
    """All methods return at once, but for `open`."""

    def __init__(self, keeper: Keeper, answers: Answers) -> None:
        self._keeper = keeper
        self._answers = answers

    def open(self, filter: str, max_bytes: int | None) -> RecoveredTopics:
        """Opens the stream of a filter; before the keeper starts. SpoolDamaged if it cannot be read or written."""
        segment = SEGMENT if max_bytes is None else min(SEGMENT, max(max_bytes // SHARE, SEGMENT_LEAST))
        stream = self._keeper.open_strictly(TOPIC, filter, segment_bytes=segment)
        try:
            return self._recover(filter, stream.uuid, stream)
        except OSError as error:
            directory = self._keeper.store.directory
            raise SpoolDamaged(f"the spool of {filter} in {directory} cannot be opened: {error}") from error

    def _recover(self, filter: str, id: bytes, stream: Opened) -> RecoveredTopics:
        heads, retained, came = self._heads(id, stream)
        journal, opened = stream.journal, stream.log
        found: list[Found] = []
        for name, place in journal.places.items():
            settled = Ranges()
            for first, last in place.settled:
                if first <= opened.safe:
                    settled.add(first, min(last, opened.safe))
            base = min(journal.cursors[name], opened.safe + 1)
            doubtful = opened.safe if place.sent is None else min(place.sent, opened.safe)
            attempts = {number: count for number, count in place.attempts.items() if number <= opened.safe}
            found.append(Found(name=name, base=base, settled=settled, attempts=attempts, doubtful=doubtful))
            journal.end(name, None)  # before anything leaves: from now on nobody knows
        if found:
            journal.sync()
        first = stream.settled.first_missing(opened.first)
        return RecoveredTopics(
            filter=filter,
            stream=id,
            first=min(first, opened.safe + 1),
            safe=opened.safe,
            heads=heads,
            retained=retained,
            stored_to=max(stream.made, came - LATE),
            cursors=tuple(found),
            damaged=any(name.startswith(f"{JOURNAL}.bad") for name in stream.disk.names()),
            room=self._keeper.room_of(stream),
        )

    @staticmethod
    def _heads(id: bytes, stream: Opened) -> tuple[dict[tuple[bytes, str], int], dict[str, int], float]:
        """The last numbers of each publisher's topic, retained messages, and when the newest message came."""
        saved = read_heads(stream.disk, id)
        if saved is not None and saved.number > stream.log.safe:
            log.error("the spool of %s has lost messages %d to %d", stream.name, stream.log.safe + 1, saved.number)
            stream.log.expect(saved.number)
        rows = {} if saved is None else dict(saved.rows)
        retained = {} if saved is None else dict(saved.retained)
        known = 0 if saved is None else saved.number
        opened = stream.log
        at = opened.first if saved is None else max(min(saved.number, opened.safe), opened.first)
        came = 0.0
        while at <= opened.safe:
            items = opened.read(at)
            for item in items:
                at = item.last + 1
                if isinstance(item, Record):
                    came = max(came, came_of(item.body))
                    try:
                        kept = decode(item.body, item.length, item.flags, item.runs)
                    except Malformed:
                        continue
                    if isinstance(kept, Kept):
                        rows.pop((kept.run.origin, kept.topic), None)  # to the end: the oldest go first
                        rows[kept.run.origin, kept.topic] = kept.last
                        if kept.flags & RETAIN and item.last > known:
                            retained[kept.topic] = item.last
                    else:
                        gap: Gap = kept.gap
                        rows[gap.publisher, gap.topic] = gap.first - 1 if gap.last is None else gap.last
            if not items:
                break
        return rows, retained, came

    # --- zq.core.stream.Disk

    def append(self, stream: bytes, length: int, run: Run, body: bytes, flags: int) -> None:
        self._keeper.append(stream, length, (run,), body, flags)

    def read(self, stream: bytes, cursor: str, first: int) -> None:
        def act(opened: Opened) -> bool:
            self._answers.read(stream, cursor, first, self._keeper.items_of(opened, first))
            return False

        self._keeper.call(stream, act)

    def seek(self, stream: bytes, cursor: str, place: float | Newest) -> None:
        def act(opened: Opened) -> bool:
            if isinstance(place, Newest):
                self._count(stream, cursor, _Count(place, opened.log.safe + 1), opened)
                return False
            try:
                number = seek(opened.log, place)
            except OSError as error:
                log.error("the spool of %s cannot be read: %s", opened.name, error)
                number = opened.log.first
            self._answers.sought(stream, cursor, number)
            return False

        self._keeper.call(stream, act)

    def _count(self, stream: bytes, cursor: str, count: _Count, opened: Opened) -> None:
        """Back from the end, a stretch of the log at a time: what others ask for meanwhile is done in between."""
        try:
            done = count.step(opened.log)
        except OSError as error:
            log.error("the spool of %s cannot be read: %s", opened.name, error)
            done = True
        if done:
            self._answers.sought(stream, cursor, count.number)
            return

        def act(opened: Opened) -> bool:
            self._count(stream, cursor, count, opened)
            return False

        self._keeper.call(stream, act)

    def note(self, stream: bytes, word: Word) -> None:
        if isinstance(word, Moved) and not word.cursor:
            self._keeper.settle(stream, word.first, word.last)
        else:
            self._keeper.call(stream, lambda opened: _note(opened, word))

    def save(
        self, stream: bytes, number: int, heads: Mapping[tuple[bytes, str], int], retained: Mapping[str, int]
    ) -> None:
        def act(opened: Opened) -> bool:
            write_heads(opened.disk, stream, number, heads, retained)
            return False

        self._keeper.call(stream, act)

    def look(self, stream: bytes, most_bytes: int | None, *, go_on: bool) -> None:
        def act(opened: Opened) -> bool:
            if go_on:
                opened.refusing = ""
            floor = 0 if most_bytes is None else opened.log.below_to_fit(most_bytes)
            self._answers.looked(stream, self._keeper.room_of(opened), floor)
            return False

        self._keeper.call(stream, act)

    def end(self, stream: bytes, sent: Mapping[str, int]) -> None:
        """Everything of it was asked for; by no cursor anything above its number in `sent` was delivered."""

        def act(opened: Opened) -> bool:
            for name, number in sent.items():
                opened.journal.end(name, number)
            return True

        self._keeper.call(stream, act)
        self._keeper.end(stream, None)


def _note(opened: Opened, word: Word) -> bool:
    journal = opened.journal
    if isinstance(word, Begun):
        journal.begin(word.cursor, word.number)
        journal.sync()  # a power cut must not make it begin anew at some later end
    elif isinstance(word, Moved):
        journal.settle_at(word.cursor, word.first, word.last)
    elif isinstance(word, Charged):
        journal.charge_at(word.cursor, word.number, word.attempts)
    elif word.cursor in journal.cursors:
        journal.forget(word.cursor)
    return True


class _Count:
    """Looks for the first of the newest messages that match."""

    def __init__(self, newest: Newest, end: int) -> None:
        self._newest = newest
        self._missing = newest.messages
        self.number = end
        self._stretch = STRETCH

    def step(self, opened: Log) -> bool:
        """Looks at the stretch before `number`; True when that is it. OSError."""
        first = max(opened.first, self.number - self._stretch)
        found: list[tuple[int, int]] = []
        at = first
        while at < self.number:
            items = opened.read(at)
            for item in items:
                at = item.last + 1
                if isinstance(item, Record) and item.first < self.number and self._matches(item):
                    found.append((max(item.first, first), min(item.last, self.number - 1)))
            if not items:
                break
        for low, high in reversed(found):
            if high - low + 1 >= self._missing:
                self.number = high - self._missing + 1
                return True
            self._missing -= high - low + 1
        self.number = first
        self._stretch = min(2 * self._stretch, STRETCH_MOST)
        return first <= opened.first

    def _matches(self, record: Record) -> bool:
        try:
            kept = decode(record.body, record.length, record.flags, record.runs)
        except Malformed:
            return False
        return isinstance(kept, Kept) and any(filter.matches(kept.topic) for filter in self._newest.filters)


def seek(opened: Log, wall: float) -> int:
    """The number of the first message that came at `wall` or later; the next one's if there is none. OSError.

    What came when never goes back in a stream, so that halving finds it; what is damaged counts as what is behind it.
    """
    low, high = opened.first, opened.safe + 1
    while low < high:
        middle = (low + high) // 2
        record = _record_at(opened, middle)
        if record is None or came_of(record.body) >= wall:
            high = middle
        else:
            low = record.last + 1
    return low


def _record_at(opened: Log, number: int) -> Record | None:
    """The first one that holds `number` or a later one."""
    while number <= opened.safe:
        items = opened.read(number, 1)
        if not items:
            return None
        for item in items:
            if isinstance(item, Record):
                return item
            number = item.last + 1
    return None
