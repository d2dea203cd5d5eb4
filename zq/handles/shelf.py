"""A spool's directory as a program looks at it, and what can be done with one that nobody has open."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from zq.errors import AccessDenied, Refused, SpoolLocked
from zq.handles.steps import OnDamage, OnGap, Progress
from zq.info import SpoolCursor, SpooledMessage, SpooledStream, SpoolProblem, SpoolReport
from zq.spool.contents import message_of
from zq.spool.journal import Journal
from zq.spool.log import Log
from zq.spool.shelf import Shelf, View
from zq.spool.store import KINDS, TOPIC, StreamName, open_store

T = TypeVar("T")
PAGE = 1_000  # messages read at once


class SpoolDirectory:
    """The directory of a spool, whether a process has it open or not. Nothing here needs a peer.

    Looking changes nothing, takes no lock, and is safe beside a process that writes. `purge` and `forget` need a
    directory that nobody has open: SpoolLocked names the process, which can be asked instead (`Spool.purge`, or
    `zq spool purge` without `--dir`).

    Raises Refused if there is no spool or one of a newer format, AccessDenied, SpoolDamaged if it cannot be read, and
    changes nothing then. Thread-safe.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self._guarded(lambda shelf: None)

    def _guarded(self, look: Callable[[Shelf], T]) -> T:
        try:
            return look(Shelf(self.directory))
        except OSError as error:
            raise AccessDenied(f"spool directory {self.directory} cannot be read: {error}") from error

    def streams(self) -> list[SpooledStream]:
        """How each queue and topic stands, by kind and name."""
        return self._guarded(lambda shelf: shelf.each(View.info))

    def cursors(self) -> list[SpoolCursor]:
        """The named positions in all streams."""
        return self._guarded(lambda shelf: [cursor for cursors in shelf.each(View.cursors) for cursor in cursors])

    def export(
        self,
        stream: str,
        *,
        first: int = 1,
        settled: bool = False,
        on_damage: OnDamage | None = None,
        on_gap: OnGap | None = None,
    ) -> Iterator[SpooledMessage]:
        """What waits in a queue, or is kept of a topic stream, in order; with `settled` also what nobody is to have any
        more and is still on the disk. `first` is the number to begin with. `on_damage` hears of the first and last
        number of messages that should be there and are not, `on_gap` of what was published on topics and never came to
        the spool. Refused if there is no such stream."""
        shelf = Shelf(self.directory)
        found = find_stream(shelf, stream)
        return self._export(shelf, found, shelf.open(found), first, settled, on_damage, on_gap)

    def _export(
        self,
        shelf: Shelf,
        stream: StreamName,
        view: View,
        first: int,
        settled: bool,
        on_damage: OnDamage | None,
        on_gap: OnGap | None,
    ) -> Iterator[SpooledMessage]:
        try:
            while first:
                try:
                    rows, first, damaged, gaps = view.page(first, PAGE, settled=settled)
                except FileNotFoundError:  # trimmed or written anew meanwhile
                    view.close()
                    view = shelf.open(stream)
                    continue
                yield from map(message_of, rows)
                for low, high in damaged if on_damage is not None else ():
                    on_damage(low, high)  # type: ignore[misc]
                for _, gap in gaps if on_gap is not None else ():
                    on_gap(gap)  # type: ignore[misc]
        except OSError as error:
            raise AccessDenied(f"spool directory {self.directory} cannot be read: {error}") from error
        finally:
            view.close()

    def verify(self, progress: Progress | None = None) -> SpoolReport:
        """Reads every byte that counts, and tells what is wrong: file, bytes, and numbers of messages."""
        return self._guarded(lambda shelf: verify_shelf(shelf, progress))

    def purge(self, queue: str) -> int:
        """Removes all that waits in a queue for good, and says how many messages that were."""
        shelf = Shelf(self.directory)
        stream = find_stream(shelf, queue)
        if stream.kind == TOPIC:
            raise Refused(f"{queue} is a topic stream, which is trimmed by age and size; forget its cursors instead")
        return self._change(stream, _purge)

    def forget(self, stream: str, cursor: str) -> None:
        """Forgets a named position: what it has not had is not kept for it, and who asks for it again begins anew."""
        shelf = Shelf(self.directory)
        found = find_stream(shelf, stream)
        known = [row.cursor for row in self.cursors() if (row.kind, row.stream) == (KINDS[found.kind], found.name)]
        check_cursor(found.name, cursor, known)
        self._change(found, lambda log, journal: journal.forget(cursor))

    def _change(self, stream: StreamName, change: Callable[[Log, Journal], T]) -> T:
        try:
            store = open_store(self.directory)
        except SpoolLocked as error:
            raise SpoolLocked(f"{error}, or ask that process: leave out --dir") from None
        try:
            _, disk = store.stream(stream.kind, stream.name)
            log, journal = Log(disk, stream.uuid, wall=time.time), Journal(disk, stream.uuid)
            log.open()
            journal.open()
            log.expect(journal.highest)
            result = change(log, journal)
            journal.sync()
            log.drop_below(journal.settled.first_missing(log.first))
            journal.close()
            log.close()
            disk.close()
        except OSError as error:
            raise AccessDenied(f"spool directory {self.directory} cannot be written: {error}") from error
        finally:
            store.close()
        return result

    def __repr__(self) -> str:
        return f"<SpoolDirectory {self.directory}>"


def check_cursor(stream: str, cursor: str, known: list[str]) -> None:
    """Raises Refused if there is no such cursor."""
    if cursor not in known:
        others = f"there are {', '.join(map(repr, known))}" if known else "there are none"
        raise Refused(f"{stream} has no cursor {cursor!r}; {others}")


def find_stream(shelf: Shelf, name: str) -> StreamName:
    """By name, or `queue:NAME` and `topic:NAME` where both have one; `outbox:NAME`. Refused."""
    streams = shelf.streams()
    found = [stream for stream in streams if name in (stream.name, stream.title)]
    if not found:
        names = ", ".join(stream.name for stream in streams) or "nothing"
        raise Refused(f"{shelf.directory} has no queue or topic {name!r}; it has {names}")
    if len(found) > 1:
        raise Refused(f"{shelf.directory} has a queue and a topic {name}; say queue:{name} or topic:{name}")
    return found[0]


def _purge(log: Log, journal: Journal) -> int:
    first, last = log.first, log.safe
    if last < first:
        return 0
    news = journal.settled.add(first, last)
    for low, high in news:
        journal.settle(low, high)
    return sum(high - low + 1 for low, high in news)


def verify_shelf(shelf: Shelf, progress: Progress | None) -> SpoolReport:
    """Reads everything. OSError."""
    problems, done = shelf.strange(), 0
    streams = shelf.streams()
    total = sum(shelf.each(lambda view: view.size))
    for stream in streams:
        found, size = _verify_stream(shelf, stream, done, total, progress)
        problems += found
        done += size
    return SpoolReport(streams=len(streams), bytes=done, problems=tuple(problems))


def _verify_stream(
    shelf: Shelf, stream: StreamName, done: int, total: int, progress: Progress | None
) -> tuple[list[SpoolProblem], int]:
    while True:
        view = shelf.open(stream)
        problems, size = list[SpoolProblem](), 0
        try:
            for item in view.verify():
                if isinstance(item, int):
                    size += item
                    if progress is not None:
                        progress(done + size, max(total, done + size))
                else:
                    problems.append(item)
        except FileNotFoundError:  # trimmed or written anew meanwhile
            continue
        finally:
            view.close()
        return problems, size
