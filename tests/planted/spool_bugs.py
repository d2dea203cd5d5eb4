"""Bugs planted into the spool's disk, each of which a test has to find; see `tests.planting`.

python -m tests.planted.spool_bugs        plants one after another and says what finds it
python -m tests.planted.spool_bugs NAME   plants one and runs what is to find it

The names say what the code then does. Some are bugs that zq has had.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.planting import Garden
from tests.spool.simulated_disk import OpenFile
from zq.core.storing import Storing
from zq.spool import disk, held, journal, log, reading, record, sealed, segment, store, survey
from zq.spool.journal import Journal
from zq.spool.log import Log
from zq.spool.survey import Survey
from zq.wire import stored

garden = Garden("tests.planted.spool_bugs", tests="tests")
bug = garden.fault
CRASHES = "spool/test_log_crashes.py::test_a_power_cut_at_any_step_loses_nothing_that_was_confirmed[0]"
FLIPS = "spool/test_log_damage.py::test_every_bit_that_flips_is_noticed_and_costs_its_record_at_most"


def replace(owner: Any, name: str, build: Callable[[Any], Any]) -> None:
    """`build` gets what is there and returns what is there instead. Raises AttributeError when there is nothing."""
    setattr(owner, name, build(getattr(owner, name)))


def nothing(*_: Any, **__: Any) -> None:
    """What is done instead."""


class Unsynced:
    """A file whose syncs do nothing."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def sync(self) -> None:
        pass


# --- the log


@bug(CRASHES)
def a_receipt_comes_before_the_sync() -> None:
    replace(log, "write_batches", lambda write: lambda file, segment, batches: write(Unsynced(file), segment, batches))


@bug(CRASHES)
def the_name_of_a_new_segment_is_not_synced() -> None:
    def build(begin: Any) -> Any:
        def hasty(self: Log, *arguments: Any) -> None:
            sync, self._disk.sync = self._disk.sync, nothing  # type: ignore[method-assign]
            try:
                begin(self, *arguments)
            finally:
                self._disk.sync = sync  # type: ignore[method-assign]

        return hasty

    replace(Log, "_begin_segment", build)


@bug(f"{FLIPS}[closed]")
def what_a_record_holds_is_not_verified() -> None:
    def build(crc32: Any) -> Any:
        return lambda data, seed=0: crc32(data, seed) if len(data) == record.HEAD - 8 else 0

    replace(record, "crc32", build)


@bug(f"{FLIPS}[closed]")
def the_head_of_a_record_is_not_verified() -> None:
    def build(crc32: Any) -> Any:
        return lambda data, seed=0: 0 if len(data) == record.HEAD - 8 else crc32(data, seed)

    replace(record, "crc32", build)


@bug("spool/test_log_damage.py::test_bytes_of_another_segment_or_stream_are_not_records")
def bytes_of_another_segment_verify() -> None:
    for module in (segment, held, survey):
        module.seed_of = lambda stream, number: 0  # type: ignore[attr-defined]


@bug("spool/test_log_damage.py::test_a_tail_that_does_not_verify_is_kept_aside")
def a_tail_that_does_not_verify_is_cut() -> None:
    replace(Survey, "_keep_bad", lambda keep_bad: nothing)


@bug(f"{FLIPS}[closed]")
def a_scan_ends_at_the_first_damage() -> None:
    def build(scan: Any) -> Any:
        def short(data: bytes, at: int, seed: int) -> Any:
            for item in scan(data, at, seed):
                if isinstance(item, record.Damage):
                    yield item._replace(end=len(data))
                    return
                yield item

        return short

    for module in (survey, reading):
        replace(module, "scan", build)


@bug(CRASHES)
def a_log_that_was_not_closed_goes_on_in_its_last_segment() -> None:
    """What a sync that failed has lost is still to be read there, until the power is cut."""

    def build(write_again: Any) -> Any:
        def trusting(self: Log, again: Any, last: int) -> None:
            write_again(self, [], last)
            for found in again:
                self._segments[-1].note(found)
                self.safe, self.next = found.last, found.last + 1

        return trusting

    replace(Log, "_write_again", build)


@bug(CRASHES)
def a_sync_that_failed_is_tried_again() -> None:
    def build(sync: Any) -> Any:
        def again(self: OpenFile) -> None:
            try:
                sync(self)
            except OSError:
                sync(self)

        return again

    replace(OpenFile, "sync", build)


@bug(CRASHES)
def the_mark_is_ahead_of_what_is_safe() -> None:
    def build(write: Any) -> Any:
        return lambda disk, place: write(disk, place._replace(last=place.last + 1))

    replace(log, "write_mark", build)


@bug("spool/test_log_damage.py::test_a_lost_tail_is_told_from_a_torn_one_and_its_numbers_are_not_used_again")
def a_lost_tail_is_taken_for_a_torn_one() -> None:
    replace(log, "read_mark", lambda read: lambda disk: None)


# --- settling and trimming


@bug(CRASHES)
def segments_go_before_the_journal_is_synced() -> None:
    replace(Journal, "sync", lambda sync: lambda self: self.write())


@bug("spool/test_journal.py::test_a_sync_that_failed_is_not_repeated_on_the_same_file[0]")
def a_failed_sync_of_the_journal_is_repeated() -> None:
    def build(sync: Any) -> Any:
        def repeat(self: Journal) -> None:
            try:
                sync(self)
            finally:
                self._spoiled = False

        return repeat

    replace(Journal, "sync", build)


@bug("spool/test_journal.py::test_a_write_that_was_torn_hides_nothing_that_follows[1]")
def the_journal_goes_on_behind_a_torn_write() -> None:
    def build(write: Any) -> Any:
        def careless(self: Journal) -> None:
            try:
                write(self)
            finally:
                self._spoiled = False

        return careless

    replace(Journal, "write", build)


@bug("spool/test_journal.py::test_any_damage_costs_what_follows_it_at_most_and_is_noticed")
def what_follows_damage_in_the_journal_is_believed() -> None:
    def build(entries: Any) -> Any:
        def all_of_them(data: bytes) -> Any:
            at = 0
            while at + 6 <= len(data):
                end = at + 6 + data[at]
                yield end, data[at + 1 : at + 2], data[at + 2 : end - 4]
                at = end

        return all_of_them

    replace(journal, "_entries", build)


@bug(CRASHES)
def trimmed_segments_go_together() -> None:
    """One that zq has had: of two the first came back without the second, which looked like a loss."""

    def build(drop_below: Any) -> Any:
        def at_once(self: Log, number: int) -> int:
            sync, self._disk.sync = self._disk.sync, nothing  # type: ignore[method-assign]
            try:
                gone = drop_below(self, number)
            finally:
                self._disk.sync = sync  # type: ignore[method-assign]
            self._disk.sync()
            return int(gone)

        return at_once

    replace(Log, "drop_below", build)


@bug("spool/test_shrinking.py::test_a_power_cut_while_it_is_written_anew_loses_nothing_that_is_not_settled")
def a_segment_is_written_anew_without_a_sync() -> None:
    def build(replace_segment: Any) -> Any:
        def hasty(self: Log, *arguments: Any) -> None:
            opened, self._disk.open = self._disk.open, lambda name: Unsynced(opened(name))  # type: ignore[method-assign,assignment,return-value]
            try:
                replace_segment(self, *arguments)
            finally:
                self._disk.open = opened  # type: ignore[method-assign]

        return hasty

    replace(Log, "_replace", build)


@bug("spool/test_shrinking.py::test_one_message_that_nobody_settles_keeps_no_segment")
def what_was_settled_is_forgotten_when_a_segment_shrinks() -> None:
    """And is stored once more when it comes again."""

    def build(footer_of: Any) -> Any:
        return lambda held: footer_of(held)._replace(origins=())

    replace(log, "footer_of", build)


@bug("spool/test_shrinking.py::test_a_power_cut_while_it_is_written_anew_loses_nothing_that_is_not_settled")
def what_is_left_of_a_segment_has_a_message_too_few() -> None:
    def build(without: Any) -> Any:
        def lossy(records: Any, settled: Any, part: Any) -> Any:
            kept = list(without(records, settled, part))
            at = next((at for at, batch in enumerate(kept) if not batch.flags & stored.TRIMMED), None)
            if at is not None:
                kept[at] = kept[at]._replace(flags=stored.TRIMMED, runs=(), body=b"")
            return kept

        return lossy

    replace(log, "without", build)


# --- dead letters


@bug(
    "core/test_spooling.py::test_a_letter_is_on_the_disk_before_its_message_is_settled_and_has_reason_and_history_after_a_crash"
)
def a_message_is_settled_before_its_dead_letter_is_safe() -> None:
    def build(append: Any) -> Any:
        def early(self: Storing, spooled: Any, what: Any, is_safe: Any, *rest: Any) -> None:
            if not spooled.is_queue:
                is_safe(spooled.safe + 1)
            append(self, spooled, what, nothing if not spooled.is_queue else is_safe, *rest)

        return early

    replace(Storing, "append", build)


# --- the directory


@bug("spool/test_store.py::test_no_power_cut_lets_an_epoch_be_used_twice")
def the_epoch_is_not_synced() -> None:
    replace(sealed, "write_whole", lambda write: lambda disk, name, packed: write(Lazy(disk), name, packed))


class Lazy:
    """A disk that syncs no name and no file."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def open(self, name: str) -> Unsynced:
        return Unsynced(self._inner.open(name))

    def sync(self) -> None:
        pass


@bug("spool/test_store.py::test_a_copy_is_noticed_and_gets_an_identity_of_its_own")
def a_restored_backup_goes_on_under_its_name() -> None:
    def build(read: Any) -> Any:
        def blind(inner: Any, at: Any, here: Any, seen: Any, notes: Any, draw: Any) -> Any:
            if store.SPOOL in inner.names():
                here = store._SPOOL.unpack_from(inner.read(store.SPOOL, 0, 256))[3:]
            return read(inner, at, here, None, notes, draw)

        return blind

    replace(store, "_read_identity", build)


@bug("spool/test_small_disk.py::test_nothing_is_confirmed_once_its_files_are_removed_underneath")
def what_is_written_to_a_removed_file_is_confirmed() -> None:
    class Linked(NamedTuple):
        st_size: int
        st_nlink: int = 1

    class System:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def fstat(self, descriptor: int) -> Any:
            return Linked(os.fstat(descriptor).st_size)

    disk.os = System()  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(garden.main(sys.argv[1:]))
