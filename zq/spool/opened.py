"""A stream that a disk thread has open: its log, its journal, and what the thread has to remember of it."""

from __future__ import annotations

import time

from zq.core.ranges import Ranges
from zq.errors import SpoolDamaged
from zq.logs import Logger
from zq.record import dataclass, field
from zq.spool.disk import DirectoryDisk
from zq.spool.journal import Journal
from zq.spool.log import Log
from zq.spool.store import STREAM, Store

log = Logger("zq.spool")


@dataclass(eq=False, slots=True)
class Opened:
    uuid: bytes
    name: str
    log: Log
    journal: Journal
    disk: DirectoryDisk
    settled: Ranges  # a copy of the journal's, for the thread alone
    marked_at: float = 0.0
    unmarked: bool = False
    firsts: list[int] = field(default_factory=list)
    tidied_at: float = 0.0
    untidied: bool = False  # something was settled since
    complained: set[str] = field(default_factory=set)
    made: float = 0.0  # wall clock
    strict: bool = False  # what comes behind something that could not be stored is not stored either
    refusing: str = ""  # why, until somebody has looked


def open_stream(store: Store, kind: str, name: str, label: str, segment_bytes: int) -> Opened:
    """Recovers it, and says in the log what was found. SpoolDamaged if the disk cannot be read or written."""
    try:
        stream, disk = store.stream(kind, name)
        opened = Log(disk, stream.uuid, wall=time.time, segment_bytes=segment_bytes)
        opened.open()
        journal = Journal(disk, stream.uuid)
        journal.open()
        opened.expect(journal.highest)
        made = (disk.directory / STREAM).stat().st_mtime
    except OSError as error:
        raise SpoolDamaged(f"{label} in {store.directory} cannot be opened: {error}") from error
    for found in opened.found:
        log.warning("%s: %s from %d to %d: %s", label, *found)
    for lost in opened.lost:
        log.error("%s has lost messages %d to %d", label, lost.first, lost.last)
    return Opened(stream.uuid, name, opened, journal, disk, settled_in(opened, journal), made=made)


def settled_in(log: Log, journal: Journal) -> Ranges:
    """What its journal says of messages that there are."""
    settled = Ranges()
    for first, last in journal.settled:
        if first <= log.safe:
            settled.add(first, min(last, log.safe))
    return settled
