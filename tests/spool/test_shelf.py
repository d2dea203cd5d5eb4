"""A spool looked at: what is told is what recovery would find, and nothing is changed, whoever has it open."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zq
from tests.spool.tree import tree
from zq.spool import clock
from zq.spool.bound import write_bound
from zq.spool.disk import DirectoryDisk
from zq.spool.journal import Journal
from zq.spool.log import Log
from zq.spool.record import Record
from zq.spool.segment import name_of
from zq.spool.store import QUEUE, TOPIC, open_store
from zq.spool.upkeep import _part
from zq.wire.batch import Run
from zq.wire.data import pack
from zq.wire.stored import Stored, encode

ORIGIN = b"o" * 16
BATCH = 10  # messages a record


class Made:
    """A spool that was made here; `log` and `journal` are those of its queue jobs."""

    def __init__(self, directory: Path, segment_bytes: int = 1 << 20) -> None:
        self.directory = directory
        self.store = open_store(directory)
        stream, self.disk = self.store.stream(QUEUE, "jobs")
        self.inner = directory / stream.uuid.hex()
        self.log = Log(self.disk, stream.uuid, wall=time.time, segment_bytes=segment_bytes)
        self.log.open()
        self.journal = Journal(self.disk, stream.uuid)
        self.journal.open()

    def add(self, count: int, size: int = 10) -> None:
        for _ in range(count // BATCH):
            first = self.log.next
            items = [bytes(pack({"number": first + place, "text": "x" * size})) for place in range(BATCH)]
            run = Run(ORIGIN, first, BATCH, 1.7e9)
            stored = Stored(clock.stamp(), 1, 5, 0, (run,), None, items, ())
            self.log.append(BATCH, stored.runs, encode(stored), 0)
            self.log.commit()

    def close(self) -> None:
        self.journal.close()
        self.log.close()
        self.disk.close()
        self.store.close()

    def crash(self) -> None:
        """Nothing is written any more."""
        self.journal.write()
        self.disk.close()
        self.store.close()

    def flip(self, segment: int, offset: int) -> None:
        path = self.inner / name_of(segment)
        data = bytearray(path.read_bytes())
        data[offset] ^= 1
        path.write_bytes(data)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "spool")


def numbers(directory: Path, **options: bool) -> list[int]:
    return [message.data["number"] for message in zq.SpoolDirectory(directory).export("jobs", **options)]


def test_a_stopped_spool_is_told_and_left_as_it_is(made: Made) -> None:
    made.add(100)
    made.journal.settle(1, 30)
    made.journal.settle(51, 60)
    made.journal.charge(31, 3)
    made.close()
    before = tree(made.directory)
    looked = zq.SpoolDirectory(made.directory)
    [row] = looked.streams()
    assert (row.kind, row.name, row.depth, row.lag, row.first, row.last) == ("queue", "jobs", 60, 60, 31, 100)
    assert (row.damaged, row.problems, row.open_in, row.cursors) == ((), (), None, 0)
    assert row.bytes == made.log.size
    assert row.oldest is not None
    assert 0 <= row.oldest < 60
    found = list(looked.export("jobs"))
    assert [message.number for message in found] == [*range(31, 51), *range(61, 101)]
    assert [message.data["number"] for message in found] == [message.number for message in found]
    assert (found[0].attempt, found[0].redelivered, found[1].attempt) == (3, True, 1)
    assert found[0].id == f"{ORIGIN.hex()}-31"
    assert numbers(made.directory, settled=True) == list(range(1, 101))
    assert [message.number for message in looked.export("jobs", first=99)] == [99, 100]
    assert looked.verify().problems == ()
    assert looked.verify().bytes == row.bytes
    assert tree(made.directory) == before


def test_a_spool_that_was_killed_is_read_as_it_would_be_recovered_and_left_as_it_is(made: Made) -> None:
    made.add(100)
    made.log.write_mark(clean=False)
    made.add(50)
    made.journal.settle(1, 10)
    made.crash()
    with (made.inner / name_of(1)).open("ab") as file:
        file.write(b"torn" * 10)
    before = tree(made.directory)
    looked = zq.SpoolDirectory(made.directory)
    [row] = looked.streams()
    assert (row.depth, row.last) == (140, 150)
    assert numbers(made.directory) == list(range(11, 151))
    assert len(looked.verify().problems) == len(row.problems) == 1
    assert "it was being written" in row.problems[0] or "damaged" in row.problems[0]
    assert tree(made.directory) == before
    again = Made(made.directory)
    assert (again.log.first, again.log.safe) == (1, 150)
    again.close()


def test_one_that_is_open_elsewhere_is_read_meanwhile(made: Made) -> None:
    """Appended to, trimmed, and with a record half written."""
    made.add(100)
    looked = zq.SpoolDirectory(made.directory)
    assert [row.open_in for row in looked.streams()] == [os.getpid()]
    made.log.write_mark(clean=False)
    with (made.inner / name_of(1)).open("ab") as file:
        file.write(b"half a record")
    before = tree(made.directory)
    [row] = looked.streams()
    assert (row.depth, row.problems, row.damaged) == (100, (), ())
    assert looked.verify().problems == ()
    assert numbers(made.directory) == list(range(1, 101))
    assert tree(made.directory) == before
    with pytest.raises(zq.SpoolLocked, match=f"process {os.getpid()}.*leave out --dir"):
        looked.purge("jobs")
    assert tree(made.directory) == before
    made.crash()


CALLS = 90  # that reading such a spool makes of its disk, and some more


@pytest.mark.parametrize("call", range(1, CALLS, 5))
def test_segments_that_are_removed_at_any_moment_make_it_look_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Right before the disk is asked for the n-th time."""
    made = Made(tmp_path / "spool", segment_bytes=2_000)
    made.add(500)
    assert len(made.log.segments) > 5
    made.journal.settle(1, 300)
    made.journal.sync()
    made.log.write_mark(clean=False)
    calls = [0]

    def trims(method: str) -> None:
        before = getattr(DirectoryDisk, method)

        def act(self: DirectoryDisk, *arguments: Any) -> Any:
            if self is not made.disk:
                calls[0] += 1
                if calls[0] == call:
                    made.log.drop_below(301)
            return before(self, *arguments)

        monkeypatch.setattr(DirectoryDisk, method, act)

    trims("read")
    trims("names")
    looked = zq.SpoolDirectory(made.directory)
    assert looked.verify().problems == ()
    [row] = looked.streams()
    assert (row.depth, row.damaged, row.problems) == (200, (), ())
    assert [message.number for message in looked.export("jobs")] == list(range(301, 501))
    assert call < calls[0]
    made.close()


def test_a_segment_that_is_written_anew_meanwhile_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stragglers: all but a few messages of a segment are settled, and it is made smaller while it is exported."""
    monkeypatch.setattr("zq.handles.shelf.PAGE", 10)
    made = Made(tmp_path / "spool", segment_bytes=20_000)
    made.add(2_000)
    made.log.write_mark(clean=False)
    damaged: list[tuple[int, int]] = []
    messages = zq.SpoolDirectory(made.directory).export("jobs", on_damage=lambda *lost: damaged.append(lost))
    assert next(messages).number == 1
    kept = [1, 2, 300]
    made.journal.settle(3, 299)
    made.journal.settle(301, 1_500)
    made.journal.write()
    assert made.log.shrink(made.journal.settled, _part)
    assert [message.number for message in messages if message.number > 10] == [kept[2], *range(1_501, 2_001)]
    assert damaged == []
    assert zq.SpoolDirectory(made.directory).verify().problems == ()
    made.close()


def test_damage_is_named_by_file_bytes_and_messages_wherever_it_is(tmp_path: Path) -> None:
    made = Made(tmp_path / "spool", segment_bytes=2_000)
    made.add(300)
    made.journal.settle(1, 10)
    [record] = [item for item in made.log.read(41, 1) if isinstance(item, Record)]
    made.close()
    segment = next(one for one in made.log.segments if one.header.first <= 41 <= one.last)
    made.flip(segment.header.segment, record.offset + 60)
    before = tree(made.directory)
    looked = zq.SpoolDirectory(made.directory)
    report = looked.verify()
    [problem] = report.problems
    assert (problem.file, problem.stream) == (str(made.inner / segment.name), "jobs")
    assert (problem.offset, problem.end) == (record.offset, record.end)
    assert (problem.first, problem.last) == (41, 50)
    assert f"from byte {record.offset:,} to {record.end:,}" in problem.text
    assert "messages 41 to 50 of queue jobs" in problem.text
    damaged: list[tuple[int, int]] = []
    found = [message.number for message in looked.export("jobs", on_damage=lambda *lost: damaged.append(lost))]
    assert found == [*range(11, 41), *range(51, 301)]
    assert damaged == [(41, 50)]
    assert tree(made.directory) == before


@pytest.mark.parametrize("part", ["header", "footer", "trailer", "mark", "journal", "stream", "a segment"])
def test_damage_of_any_file_is_a_problem_of_verify(tmp_path: Path, part: str) -> None:
    made = Made(tmp_path / "spool", segment_bytes=2_000)
    made.add(300)
    made.journal.settle(1, 10)
    made.close()
    first = made.inner / name_of(1)
    if part == "a segment":
        (made.inner / name_of(2)).unlink()
    else:
        path = first if part in ("header", "footer", "trailer") else made.inner / part
        data = bytearray(path.read_bytes())
        at = {"header": 30, "footer": made.log.segments[0].end + 20, "trailer": len(data) - 2}.get(part, len(data) - 2)
        data[at] ^= 1
        path.write_bytes(data)
    before = tree(made.directory)
    report = zq.SpoolDirectory(made.directory).verify()
    assert report.problems
    if part == "a segment":
        lost = made.log.segments[1]
        assert [(one.first, one.last) for one in report.problems] == [(lost.header.first, lost.last)]
    else:
        assert all(problem.file.endswith((part, name_of(1), made.inner.name)) for problem in report.problems)
    assert tree(made.directory) == before


def test_purging_a_stopped_queue_removes_all_that_waits_and_its_segments(tmp_path: Path) -> None:
    made = Made(tmp_path / "spool", segment_bytes=2_000)
    made.add(300)
    made.journal.settle(5, 5)
    made.close()
    looked = zq.SpoolDirectory(made.directory)
    assert looked.purge("jobs") == 299
    assert looked.purge("jobs") == 0
    [row] = looked.streams()
    assert (row.depth, row.last, row.damaged) == (0, 300, ())
    assert len(list(made.inner.glob("*.log"))) == 1
    again = Made(made.directory)
    again.add(10)
    again.close()
    assert numbers(made.directory) == list(range(301, 311))


def test_cursors_are_listed_with_their_lag_and_forgotten(made: Made) -> None:
    stream, disk = made.store.stream(TOPIC, "sensors/**")
    journal = Journal(disk, stream.uuid)
    journal.open()
    journal.move("dashboard", 1)
    journal.move("old", 1)
    journal.close()
    made.close()
    looked = zq.SpoolDirectory(made.directory)
    assert [(row.kind, row.stream, row.cursor, row.position, row.lag) for row in looked.cursors()] == [
        ("topic", "sensors/**", "dashboard", 1, 0),
        ("topic", "sensors/**", "old", 1, 0),
    ]
    before = tree(made.directory)
    with pytest.raises(zq.Refused, match="no cursor 'nope'; there are 'dashboard', 'old'"):
        looked.forget("sensors/**", "nope")
    with pytest.raises(zq.Refused, match="no queue or topic 'nope'; it has jobs, sensors"):
        looked.forget("nope", "old")
    with pytest.raises(zq.Refused, match="trimmed by age and size"):
        looked.purge("sensors/**")
    assert tree(made.directory) == before
    looked.forget("sensors/**", "old")
    assert [row.cursor for row in looked.cursors()] == ["dashboard"]


def test_a_cursor_of_a_topic_is_none_of_the_queue_of_that_name(made: Made) -> None:
    stream, disk = made.store.stream(TOPIC, "jobs")
    journal = Journal(disk, stream.uuid)
    journal.open()
    journal.begin("dashboard", 1)
    journal.close()
    made.close()
    with pytest.raises(zq.Refused, match="there are none"):
        zq.SpoolDirectory(made.directory).forget("queue:jobs", "dashboard")


# --- bad input: the error names the file and what to do, and nothing is touched

Look = Callable[[Path], object]
LOOKS: dict[str, Look] = {
    "streams": lambda directory: zq.SpoolDirectory(directory).streams(),
    "export": lambda directory: list(zq.SpoolDirectory(directory).export("jobs")),
    "verify": lambda directory: zq.SpoolDirectory(directory).verify(),
    "purge": lambda directory: zq.SpoolDirectory(directory).purge("jobs"),
    "open": lambda directory: open_store(directory).close(),
}


@pytest.fixture(params=LOOKS)
def look(request: pytest.FixtureRequest) -> Look:
    return LOOKS[request.param]


@pytest.fixture
def whole(tmp_path: Path) -> Made:
    made = Made(tmp_path / "spool")
    made.add(100)
    made.close()
    return made


@pytest.mark.parametrize("name", ["spool", "stream", "mark", "bound", "segment"])
def test_a_newer_format_of_any_file_is_refused_by_name(whole: Made, look: Look, name: str) -> None:
    disk = DirectoryDisk(whole.inner)
    write_bound(disk, bytes(16), ["orders/**"])
    disk.close()
    inner = {"spool": whole.directory / "spool", "segment": whole.inner / name_of(1)}
    path = inner.get(name, whole.inner / name)
    data = bytearray(path.read_bytes())
    data[7] += 1
    path.write_bytes(data)
    before = tree(whole.directory)
    with pytest.raises(zq.Refused, match=f"{path.name} has the format of a newer version"):
        look(whole.directory)
    assert tree(whole.directory) == before


def test_a_damaged_identity_is_refused_by_name(whole: Made, look: Look) -> None:
    path = whole.directory / "spool"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    before = tree(whole.directory)
    with pytest.raises(zq.SpoolDamaged, match="spool does not verify; move it aside"):
        look(whole.directory)
    assert tree(whole.directory) == before


def test_what_is_no_spool_is_refused(tmp_path: Path, look: Look) -> None:
    (tmp_path / "letters").mkdir(mode=0o700)
    (tmp_path / "letters" / "dear").write_text("friend")
    before = tree(tmp_path)
    with pytest.raises(zq.Refused, match="is no spool"):
        look(tmp_path / "letters")
    assert tree(tmp_path) == before


def test_a_directory_that_is_not_there_is_said_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(zq.Refused, match="there is no spool directory"):
        zq.SpoolDirectory(tmp_path / "nothing")
    assert tree(tmp_path) == {}


def test_a_stream_and_a_segment_of_another_spool_are_said_and_left_alone(whole: Made, tmp_path: Path) -> None:
    other = Made(tmp_path / "other")
    other.add(20)
    other.close()
    shutil.copytree(other.inner, whole.directory / ("f" * 32))
    shutil.copy(other.inner / name_of(1), whole.inner / name_of(7))
    before = tree(whole.directory)
    looked = zq.SpoolDirectory(whole.directory)
    [row] = looked.streams()
    assert row.depth == 100
    said = [problem.text for problem in looked.verify().problems]
    assert len(said) == 2
    assert "no stream that this version understands" in said[0]
    assert "a segment of another stream; left alone" in said[1]
    assert tree(whole.directory) == before
    again = Made(whole.directory)
    assert (again.log.safe, (whole.inner / name_of(7)).exists()) == (100, True)
    again.close()


def test_one_that_is_open_elsewhere_is_refused_by_process(whole: Made) -> None:
    code = (
        "import sys, pathlib, zq.spool.store as s; s.open_store(pathlib.Path(sys.argv[1])); print(1); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-uc", code, str(whole.directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        before = tree(whole.directory)
        for name in ("open", "purge"):
            with pytest.raises(zq.SpoolLocked, match=f"open in process {holder.pid}"):
                LOOKS[name](whole.directory)
        assert len(LOOKS["export"](whole.directory)) == 100  # type: ignore[arg-type]
        assert tree(whole.directory) == before
    finally:
        holder.communicate(b"")


@pytest.mark.parametrize("name", ["purge", "open"])
def test_on_a_full_disk_nothing_is_changed(whole: Made, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(whole.directory)

    def is_full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("zq.spool.disk.os.write", is_full)
        with pytest.raises(zq.AccessDenied, match="No space left"):
            LOOKS[name](whole.directory)
    assert tree(whole.directory) == before
    assert len(LOOKS["export"](whole.directory)) == 100  # type: ignore[arg-type]


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A directory of the user that we are from now on."""
    if os.geteuid() != 0:
        pytest.skip("root can become somebody else")
    directory = Path(tempfile.mkdtemp())
    os.chown(directory, 65534, 65534)
    os.seteuid(65534)
    try:
        yield directory / "spool"
    finally:
        os.seteuid(0)
        shutil.rmtree(directory)


def test_without_rights_the_file_is_named(nobody: Path, look: Look) -> None:
    made = Made(nobody)
    made.add(10)
    made.close()
    os.seteuid(0)
    before = tree(nobody)
    (nobody / "spool").chmod(0)
    (nobody / "lock").chmod(0)
    os.seteuid(65534)
    with pytest.raises(zq.AccessDenied, match=f"{nobody}.*(cannot be read|cannot be written)"):
        look(nobody)
    os.seteuid(0)
    (nobody / "spool").chmod(0o600)
    (nobody / "lock").chmod(0o600)
    assert tree(nobody) == before
