"""Damaged files: always noticed, and never worth more than the records that are hit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from zlib import crc32

import pytest

from tests.spool.simulated_disk import SimulatedDisk
from zq.spool.log import Log
from zq.spool.mark import MARK
from zq.spool.record import MARKER, Damage, Record, encode, scan
from zq.spool.segment import HEADER, decode_header, name_of, seed_of
from zq.spool.survey import Missing
from zq.wire.batch import Run

STREAM = b"s" * 16
FLIPS = 2_000  # of 524,288 and more

Files = dict[str, bytes]


def opened(files: Files) -> tuple[Log, SimulatedDisk]:
    disk = SimulatedDisk()
    for name, data in files.items():
        file = disk.open(name)
        file.write(data)
        file.sync()
    disk.sync()
    log = Log(disk, STREAM, wall=lambda: 1.0, segment_bytes=20_000)
    log.open()
    return log, disk


def files_of(disk: SimulatedDisk) -> Files:
    return {name: bytes(content.seen) for name, content in disk.files.items()}


def written(*, clean: bool, commits: int = 60) -> tuple[Files, dict[int, Record]]:
    """A log of about 64 KiB in four segments, and its records."""
    disk = SimulatedDisk()
    log = Log(disk, STREAM, wall=lambda: 1.0, segment_bytes=20_000)
    log.open()
    made = random.Random(1)
    for number in range(commits):
        for _ in range(made.randint(1, 3)):
            count = made.choice([1, 3, 50])
            body = made.randbytes(made.randint(1, 1_000)) + (MARKER if number % 7 == 0 else b"")
            log.append(count, [Run(b"o" * 16, log.next, count, 1.0)], body)
        log.commit()
        if number % 10 == 0:
            log.write_mark(clean=False)
    if clean:
        log.close()
    else:
        log.write_mark(clean=False)
    return files_of(disk), {record.first: record for record in everything(log) if isinstance(record, Record)}


def everything(log: Log, at_once: int = 5_000) -> Iterator[Record | Missing]:
    at = log.first
    while items := log.read(at, at_once):
        for item in items:
            yield item
            at = item.last + 1


@pytest.fixture(scope="module", params=[True, False], ids=["closed", "killed"])
def log(request: pytest.FixtureRequest) -> tuple[Files, dict[int, Record]]:
    return written(clean=request.param)


def hit(files: Files, records: dict[int, Record], name: str, first: int, last: int) -> set[int]:
    """The records that have bytes in first..last of a file."""
    hits = set()
    for item in scan(files[name], HEADER, seed_of(STREAM, int(name[:16], 16))) if name.endswith(".log") else ():
        if isinstance(item, Record) and item.offset <= last and item.end > first and item.first in records:
            hits.add(item.first)
    return hits


def check(files: Files, records: dict[int, Record], may_lose: set[int], what: str) -> None:
    log, _ = opened(files)
    found: dict[int, Record] = {}
    missing: list[Missing] = list(log.lost)
    for item in everything(log, 1 << 20):
        if isinstance(item, Record):
            found[item.first] = item
        else:
            missing.append(item)
    lost = {first for first in records if first not in found}
    assert lost <= may_lose, what
    for first, record in found.items():
        assert record.body == records[first].body, what
        assert record.runs == records[first].runs, what
    for first in lost:
        assert any(hole.first <= first and records[first].last <= hole.last for hole in missing), (
            f"{what}: not reported"
        )
    assert missing or log.found or log.verify(), f"{what}: not noticed"


def places(files: Files) -> list[tuple[str, int]]:
    """Every bit."""
    return [(name, bit) for name, data in files.items() for bit in range(len(data) * 8)]


def check_flipped(log: tuple[Files, dict[int, Record]], name: str, bit: int) -> None:
    files, records = log
    flipped = bytearray(files[name])
    flipped[bit // 8] ^= 1 << bit % 8
    may_lose = hit(files, records, name, bit // 8, bit // 8)
    check({**files, name: bytes(flipped)}, records, may_lose, f"{name} bit {bit}")


def test_every_bit_that_flips_is_noticed_and_costs_its_record_at_most(log: tuple[Files, dict[int, Record]]) -> None:
    """Some of them; `make proof-spool-bits` flips all."""
    for name, bit in random.Random(2).sample(places(log[0]), FLIPS // 2):
        check_flipped(log, name, bit)


def test_headers_footers_and_marks_cost_nothing_bit_by_bit(log: tuple[Files, dict[int, Record]]) -> None:
    files, records = log
    for name in (MARK, name_of(1), max(name for name in files if name.endswith(".log"))):
        for bit in range(0, min(len(files[name]), HEADER) * 8, 3):
            flipped = bytearray(files[name])
            flipped[bit // 8] ^= 1 << bit % 8
            check({**files, name: bytes(flipped)}, records, set(), f"{name} bit {bit}")


def test_a_zeroed_page_costs_what_it_holds(log: tuple[Files, dict[int, Record]]) -> None:
    files, records = log
    for name, data in files.items():
        for at in range(0, len(data), 4_096):
            end = min(at + 4_096, len(data))
            zeroed = data[:at] + bytes(end - at) + data[end:]
            check({**files, name: zeroed}, records, hit(files, records, name, at, end - 1), f"{name} page {at}")


def test_a_last_segment_that_is_cut_short_loses_what_was_cut(log: tuple[Files, dict[int, Record]]) -> None:
    files, records = log
    name = max(name for name in files if name.endswith(".log"))
    size = len(files[name])
    for length in {*range(0, size, 97), *range(max(size - 400, 0), size)}:
        cut = {**files, name: files[name][:length]}
        check(cut, records, hit(files, records, name, length, size), f"cut at {length}")


@pytest.mark.parametrize("clean", [True, False], ids=["closed", "killed"])
def test_every_length_to_which_a_log_can_be_cut_loses_what_was_cut(clean: bool) -> None:
    files, records = written(clean=clean, commits=4)
    (name,) = [name for name in files if name.endswith(".log")]
    size = len(files[name])
    for length in range(size):
        check({**files, name: files[name][:length]}, records, hit(files, records, name, length, size), f"at {length}")


def changed(files: Files, change: Callable[[Files], None]) -> Files:
    copy = dict(files)
    change(copy)
    return copy


def test_a_missing_segment_is_reported_and_the_others_are_read(log: tuple[Files, dict[int, Record]]) -> None:
    files, records = log
    for name in [name for name in files if name.endswith(".log")][:-1]:
        if name == name_of(1):
            continue  # as if it had been trimmed: nothing tells
        lost = hit(files, records, name, 0, len(files[name]))
        check(changed(files, lambda files, name=name: files.pop(name)), records, lost, name)


def test_a_copied_or_swapped_segment_is_left_alone_and_said(log: tuple[Files, dict[int, Record]]) -> None:
    files, records = log
    check({**files, name_of(99): files[name_of(2)]}, records, set(), "copied")
    swapped = {**files, name_of(2): files[name_of(3)], name_of(3): files[name_of(2)]}
    lost = hit(files, records, name_of(2), 0, 1 << 30) | hit(files, records, name_of(3), 0, 1 << 30)
    check(swapped, records, lost, "swapped")
    _, disk = opened(swapped)
    assert files_of(disk)[name_of(2)] == files[name_of(3)]


def test_a_tail_that_does_not_verify_is_kept_aside() -> None:
    files, records = written(clean=False)
    name = max(name for name in files if name.endswith(".log"))
    log, disk = opened({**files, name: files[name] + b"half a record"})
    aside = [bad for bad in disk.names() if bad.endswith(".bad")]
    assert [bytes(disk.files[bad].seen) for bad in aside] == [b"half a record"]
    assert log.lost == []
    assert {item.first for item in everything(log)} == set(records)


def test_bytes_of_another_segment_or_stream_are_not_records() -> None:
    files, _ = written(clean=True)
    stale = files[name_of(1)][HEADER : HEADER + 3_000]
    assert any(isinstance(item, Record) for item in scan(stale, 0, seed_of(STREAM, 1)))
    for seed in (seed_of(STREAM, 2), seed_of(b"t" * 16, 1)):
        assert list(scan(stale, 0, seed)) == [Damage(0, len(stale))]


def test_a_record_inside_a_message_is_not_taken_for_one() -> None:
    seed = seed_of(STREAM, 1)
    inner = encode(7, 7, 1, 0, [], b"forged", seed)
    outer = encode(1, 1, 1, 0, [Run(b"o" * 16, 1, 1, 0.0)], inner, seed)
    behind = encode(2, 2, 1, 0, [], b"behind", seed)
    damaged = bytearray(outer)
    damaged[-1] ^= 1
    assert [item.first for item in scan(bytes(damaged) + behind, 0, seed) if isinstance(item, Record)] == [2]


def test_a_lost_tail_is_told_from_a_torn_one_and_its_numbers_are_not_used_again() -> None:
    files, records = written(clean=True)
    name = max(name for name in files if name.endswith(".log"))
    last = max(records)
    before = records[last].first - 1
    log, _ = opened({**files, name: files[name][: records[last].offset + 5]})
    assert log.lost == [Missing(before + 1, records[last].last)]
    assert log.append(1, [], b"new") == records[last].last + 1
    log.commit()
    assert list(everything(log))[-2:-1] == [Missing(before + 1, records[last].last)]


def test_a_segment_of_a_newer_format_is_refused_and_untouched() -> None:
    files, _ = written(clean=True)
    newer = bytearray(files[name_of(2)])
    newer[7] += 1
    newer[HEADER - 4 : HEADER] = crc32(newer[: HEADER - 4]).to_bytes(4, "big")
    disk = SimulatedDisk()
    for name, data in {**files, name_of(2): bytes(newer)}.items():
        disk.open(name).write(data)
    before = files_of(disk)
    with pytest.raises(Exception, match=r"0000000000000002\.log has a format that this version does not know"):
        Log(disk, STREAM, wall=lambda: 1.0).open()
    assert files_of(disk) == before


def test_the_header_names_its_stream() -> None:
    files, _ = written(clean=True)
    header = decode_header(files[name_of(1)])
    assert header is not None
    assert (header.stream, header.segment, header.first, header.previous) == (STREAM, 1, 1, 0)
