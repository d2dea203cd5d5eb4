"""The format on disk: golden directories of every version are read, and that of this version is written byte for byte.

A golden directory is made once, by `python -m tests.spool.test_format`, and never again: a change that needs one made
anew is another format.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

import zq
from zq.core.loading import as_letters
from zq.info import Gap
from zq.spool import journal, log, mark, record, sealed, segment, store
from zq.spool.bound import read_bound, write_bound
from zq.spool.disk import DirectoryDisk
from zq.spool.heads import read_heads, write_heads
from zq.spool.journal import Journal
from zq.spool.log import Log
from zq.spool.record import Record
from zq.spool.store import QUEUE, TOPIC, Identity, encode_identity, open_store
from zq.wire.batch import EXTRA, NAMED, PARTS, REDELIVERED, RETAIN, Run
from zq.wire.kept import GAP, Kept, KeptGap, encode_gap, run_of_gap
from zq.wire.kept import decode as decode_kept
from zq.wire.kept import encode as encode_kept
from zq.wire.stored import TRIMMED, Stamp, Stored, decode, encode

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
DOCUMENT = HERE.parent.parent / "docs" / "spool-format.md"
VERSION = 1
UUID, JOBS, SENSORS = b"u" * 16, b"j" * 16, b"s" * 16
ORIGIN, OTHER = b"a" * 16, b"b" * 16
MADE = 1_790_000_000.0  # wall clock


def runs(*numbers: tuple[bytes, int, int]) -> tuple[Run, ...]:
    return tuple(Run(origin, first, count, MADE) for origin, first, count in numbers)


def came(after: float) -> Stamp:
    return Stamp(MADE + after, b"the boot", 5.0 + after)


PARTED = b"\x81\xa1d\xd5\x03\x00\x00"  # {"d": the one part}
TWO = runs((ORIGIN, 5, 1), (OTHER, 8, 1))
KEYED = b"\x92\x05\x96\xa4mine\xc0\xa3key\x01\xc0\xc0"  # 5, with an id, a key and the lane "high"
HEADED = b"\x92\x05\x96\xc0\x92\xa1x\xa1y\xc0\xc0\xc0\xc0"  # 5, with a header
BATCHES = [
    Stored(came(0.0), 1, 5, 0, runs((ORIGIN, 1, 3)), None, [b"\x01", b"\xa1x", b"\x81\xa1k\xc3"], ()),
    Stored(came(1.0), 2, 5, REDELIVERED | EXTRA, runs((OTHER, 7, 1)), None, [KEYED], ()),
    Stored(Stamp(MADE + 2, bytes(8), 0.0), 1, 3, PARTS, runs((ORIGIN, 4, 1)), None, [PARTED], (b"p" * 300,)),
    Stored(came(3.0), 1, 5, NAMED, TWO, "orders/new", [b"\x06", b"\x07"], ()),
]
PUBLISHED: list[Kept | KeptGap] = [
    Kept(MADE, 3, 2, 0, *runs((ORIGIN, 9, 2)), "sensors/kitchen", b"\x01\xa1x", ()),
    KeptGap(MADE + 1, Gap(publisher=ORIGIN, topic="sensors/kitchen", first=5, last=7)),
    Kept(MADE + 2, 8, 1, PARTS, *runs((ORIGIN, 14, 1)), "sensors/kitchen", PARTED, (b"p" * 300,)),
    Kept(MADE + 3, 1, 1, EXTRA, *runs((OTHER, 1, 1)), "sensors/hall", HEADED, ()),
]
RECORDS = {
    QUEUE: [
        *[(len(stored.items), stored.runs, encode(stored), stored.flags) for stored in BATCHES],
        (3, (), b"", TRIMMED),
    ],
    TOPIC: [
        (1, (run_of_gap(kept),), encode_gap(kept), GAP)
        if isinstance(kept, KeptGap)
        else (kept.length, (kept.run,), encode_kept(kept), kept.flags)
        for kept in PUBLISHED
    ],
}


def write(directory: Path) -> None:
    """A spool of one queue and one topic, closed in order: of the queue a sealed segment and one that was not full."""
    directory.mkdir(mode=0o700)
    (directory / "lock").write_bytes(b"4711 3 2 1790000000000000000\n")
    (directory / "spool").write_bytes(encode_identity(Identity(UUID, 3), (1, 2)))
    for uuid, kind, name in ((JOBS, QUEUE, "jobs"), (SENSORS, TOPIC, "sensors/kitchen")):
        inner = directory / uuid.hex()
        inner.mkdir(mode=0o700)
        disk = DirectoryDisk(inner)
        sealed.write_whole(disk, store.STREAM, store.encode_stream(store.StreamName(uuid, kind, name)))
        opened = Log(disk, uuid, wall=lambda: MADE, segment_bytes=600)
        opened.open()
        notes = Journal(disk, uuid)
        notes.open()
        for length, runs, body, flags in RECORDS[kind]:
            opened.append(length, runs, body, flags)
            opened.commit()
        if kind == QUEUE:
            write_bound(disk, uuid, ["orders/**", "returns/*"])
            notes.settle(1, 2)
            notes.settle(5, 5)
            notes.settle(8, 10)
            notes.charge(4, 2)
            notes.move("", 5)
        else:
            write_heads(disk, uuid, 5, {(ORIGIN, "sensors/kitchen"): 8, (OTHER, "sensors/hall"): 1}, {})
            notes.begin("dashboard", 2)
            notes.settle_at("dashboard", 3, 4)
            notes.charge_at("dashboard", 5, 2)
            notes.end("dashboard", 5)
            notes.begin("old", 1)
            notes.forget("old")
        notes.close()
        opened.close()
        disk.close()


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_this_version_is_written_byte_for_byte(tmp_path: Path) -> None:
    write(tmp_path / "spool")
    golden = files(GOLDEN / str(VERSION))
    assert len(golden) == 14
    assert files(tmp_path / "spool") == golden


@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.glob("*")))
def test_every_version_is_read(tmp_path: Path, version: str) -> None:
    shutil.copytree(GOLDEN / version, tmp_path / "spool")
    for path in (tmp_path / "spool", *(tmp_path / "spool").rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    opened = open_store(tmp_path / "spool")
    assert [note for note in opened.notes if "copy or was restored" not in note] == []
    assert [(stream.kind, stream.name) for stream in opened.streams()] == [("q", "jobs"), ("t", "sensors/kitchen")]
    for stream in opened.streams():
        _, disk = opened.stream(stream.kind, stream.name)
        messages = Log(disk, stream.uuid, wall=lambda: 0.0)
        messages.open()
        assert (messages.found, messages.lost, messages.first) == ([], [], 1)
        records = [item for item in messages.read(1) if isinstance(item, Record)]
        assert [(item.length, item.runs, item.body, item.flags) for item in records] == RECORDS[stream.kind]
        rows = [(item.body, item.length, item.flags, item.runs) for item in records[:4]]
        if stream.kind == QUEUE:
            found = [decode(*row) for row in rows]
            assert [stored._replace(items=list(stored.items)) for stored in found] == BATCHES
        else:
            kept = [decode_kept(*row) for row in rows]
            assert [one._replace(body=bytes(one.body)) if isinstance(one, Kept) else one for one in kept] == PUBLISHED
        notes = Journal(disk, stream.uuid)
        notes.open()
        assert not notes.damaged
        if stream.kind == QUEUE:
            assert (list(notes.settled), notes.attempts, notes.cursors) == (
                [(1, 2), (5, 5), (8, 10)],
                {4: 2},
                {"": 5},
            )
            assert read_bound(disk, stream.uuid) == ("orders/**", "returns/*")
            assert messages.safe == 10
        else:
            place = notes.places["dashboard"]
            assert (list(notes.settled), notes.cursors) == ([], {"dashboard": 2})
            assert (list(place.settled), place.attempts, place.sent) == ([(3, 4)], {5: 2}, 5)
            heads = read_heads(disk, stream.uuid)
            assert heads is not None
            assert (heads.number, heads.rows[ORIGIN, "sensors/kitchen"]) == (5, 8)
            assert messages.safe == 5
        notes.close()
        messages.close()
        disk.close()
    opened.close()
    looked = zq.SpoolDirectory(tmp_path / "spool")
    assert looked.verify().problems == ()
    assert [message.data for message in looked.export("jobs")] == [{"k": True}, 5, 6, 7]
    assert [message.data for message in looked.export("sensors/kitchen")] == [1, "x", {"d": b"p" * 300}, 5]
    assert [(row.cursor, row.position) for row in looked.cursors()] == [("dashboard", 2)]


def test_all_of_every_file_is_looked_at(tmp_path: Path) -> None:
    """One bit of any byte of the files that are read whole is noticed: they are not believed."""
    shutil.copytree(GOLDEN / str(VERSION), tmp_path / "spool")
    inner = tmp_path / "spool" / JOBS.hex()
    for path in (tmp_path / "spool", *(tmp_path / "spool").rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    readers = {"stream": lambda disk: store._read_stream(inner), "mark": mark.read_mark}
    readers["bound"] = lambda disk: read_bound(disk, JOBS) or None
    for name, read in readers.items():
        whole = (inner / name).read_bytes()
        for at in range(len(whole)):
            (inner / name).write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            disk = DirectoryDisk(inner)
            assert read(disk) is None, (name, at)
            disk.close()
        (inner / name).write_bytes(whole)


def test_the_document_draws_what_is_written() -> None:
    text = DOCUMENT.read_text()
    golden = files(GOLDEN / str(VERSION))
    queue = JOBS.hex()
    assert f"{len(golden['spool'])} bytes\n" in text
    assert f"{len(golden[f'{queue}/stream']) - len('jobs')} bytes and the name" in text
    assert f"{segment.HEADER} bytes\n" in text
    assert f"{segment.TRAILER} bytes, the last of a sealed segment" in text
    assert f"{len(golden[f'{queue}/mark'])} bytes\n" in text
    for magic in store.HEADS.values():
        assert f"`{magic[:-1].hex(' ')}`" in text, magic
        assert magic[-1] == VERSION
    for marker in (record.MARKER, segment.FOOTER_MARKER, segment.TRAILER_MARKER):
        assert f"`{marker.hex(' ')}`" in text
    kinds = re.findall(r"^\| ([A-Z]) \|", text, re.MULTILINE)
    known = [value.decode() for name, value in vars(journal).items() if isinstance(value, bytes) and len(value) == 1]
    assert sorted(kinds) == sorted(known)
    assert f"{TRIMMED}" in text
    assert f"the flag {GAP}: a gap" in text
    queues, topics = text.split("## Batches of queues")[1].split("## Batches of topics")
    for flag, means in ((PARTS, "there are parts"), (REDELIVERED, "it was"), (EXTRA, "each"), (NAMED, "the batch has")):
        assert f" {flag} {means}" in queues
    assert f"{PARTS} parts, {EXTRA} extra fields, {RETAIN} the last message is retained" in topics
    sealed = golden[f"{queue}/{segment.name_of(1)}"]
    assert sealed[: len(segment.MAGIC)] == segment.MAGIC
    assert sealed[segment.HEADER :][: len(record.MARKER)] == record.MARKER
    assert record.HEAD == 40
    assert "from 68 on" in text
    assert f"{log.SEGMENT >> 20} MiB" in text


def test_letters_are_messages_one_by_one() -> None:
    """What is read of a stream of dead letters: no plan of theirs is followed any more."""
    groups = as_letters(BATCHES[0])
    assert [(group.start, group.run.first, len(group.items), group.plan) for group in groups] == [
        (0, 1, 1, None),
        (1, 2, 1, None),
        (2, 3, 1, None),
    ]


if __name__ == "__main__":
    new = GOLDEN / str(VERSION)
    if new.exists():
        sys.exit(f"{new} is there; it is never written again")
    GOLDEN.mkdir(exist_ok=True)
    write(new)
