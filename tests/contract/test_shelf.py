"""What is on the disk of a running spool: looked at by its own program and by other peers, purged, verified."""

from __future__ import annotations

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, take
from zq.core.inspection import Found
from zq.spool.log import Log
from zq.spool.segment import HEADER
from zq.spool.shelf import View
from zq.spool.store import TOPIC, open_store
from zq.wire.batch import GAP, Run
from zq.wire.data import pack
from zq.wire.kept import Kept, KeptGap, encode, encode_gap, run_of_gap


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def keeper(face: Face) -> Any:
    return face.peer("keeper")


@pytest.fixture
def spool(keeper: Any, directory: Path) -> Any:
    return keeper.spool(directory, queues=["jobs", "others"])


def push(face: Face, count: int, queue: str = "jobs", **options: Any) -> Any:
    pusher = face.peer(f"sender-of-{queue}").pusher(queue)
    pusher.wait_for_pullers()
    pusher.send_many(range(count), **options)
    pusher.flush()
    return pusher


def row_of(rows: Any, name: str = "jobs") -> Any:
    [row] = [row for row in rows if row.name == name]
    return row


def test_streams_and_messages_are_told_while_it_runs(face: Face, spool: Any) -> None:
    pusher = push(face, 20, headers={"x": "y"}, key="k")  # of which each waits for the one before it to be synced
    pusher.send_many(range(20, 1_000))
    pusher.flush()
    with face.peer("receiver").puller("jobs", prefetch=1) as puller:
        for _ in range(10):
            puller.receive(timeout=PATIENCE).ack()
    eventually(lambda: row_of(spool.streams()).depth == 990)
    assert [(row.kind, row.name) for row in spool.streams()] == [
        ("queue", "jobs"),
        ("queue", "jobs.dead"),
        ("queue", "others"),
        ("queue", "others.dead"),
    ]
    row = row_of(spool.streams())
    assert (row.first, row.last, row.lag, row.damaged, row.problems) == (11, 1_000, 990, (), ())
    assert row.open_in == os.getpid()
    assert 0 <= row.oldest < 600
    messages = list(spool.export("jobs"))
    assert [message.data for message in messages] == list(range(10, 1_000))
    assert (dict(messages[0].headers), messages[0].key, messages[0].queue) == ({"x": "y"}, "k", "jobs")
    assert [message.data for message in spool.export("jobs", first=999)] == [998, 999]
    assert spool.cursors() == []
    report = spool.verify()
    assert (report.problems, report.streams) == ((), 4)
    eventually(lambda: spool.verify().bytes == sum(row.bytes for row in spool.streams()))
    with pytest.raises(zq.Refused, match="no queue or topic 'nope'; it has jobs"):
        list(spool.export("nope"))


def test_another_peer_asks_for_the_same(face: Face, keeper: Any, spool: Any) -> None:
    push(face, 3_000)
    push(face, 1, "others", headers={"x": "y"})
    asker = face.peer("asker")
    eventually(lambda: len(asker.spooled_streams().rows) == 4)
    answer = asker.spooled_streams()
    assert (answer.unknown, answer.problems) == ((), ())
    row = row_of(answer.rows)
    assert (row.depth, row.holder, row.holder_id) == (3_000, "keeper", keeper.id)
    # What is behind the last mark counts with the header of the segment that it would be recovered to.
    eventually(lambda: row_of(spool.streams()).bytes == row_of(asker.spooled_streams().rows).bytes)
    found: list[Any] = []
    number = 1
    while number:
        page = asker.spooled_messages("jobs", holder=keeper.id, first=number)
        assert (page.unknown, page.problems, page.damaged) == ((), (), ())
        found += page.rows
        number = page.next
    assert [message.data for message in found] == list(range(3_000))
    [other] = asker.spooled_messages("others", holder=keeper.id).rows
    [own] = spool.export("others")
    assert (other.data, other.id, dict(other.headers), other.sent_at) == (0, own.id, {"x": "y"}, own.sent_at)
    assert asker.spooled_messages("nope", holder=keeper.id).rows == ()
    assert asker.spooled_cursors().rows == ()
    answer = asker.verify_spools()
    assert (answer.rows, answer.problems, answer.unknown) == ((), (), ())
    eventually(lambda: asker.verify_spools().count == spool.verify().bytes)


def exported(asker: Any, holder: bytes, stream: str = "jobs") -> tuple[list[Any], list[zq.Gap]]:
    """All that another peer is told of a stream."""
    found: list[Any] = []
    gaps: list[zq.Gap] = []
    number = 1
    while number:
        page = asker.spooled_messages(stream, holder=holder, first=number)
        assert (page.unknown, page.problems) == ((), ())
        found += page.rows
        gaps += page.gaps
        number = page.next
    return found, gaps


def test_a_stream_that_is_read_page_by_page_is_opened_once_and_let_go_of(
    face: Face, keeper: Any, spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(face, 5_000)
    asker = face.peer("asker")
    eventually(lambda: asker.spooled_streams().rows)
    opened: list[View] = []
    closed: list[View] = []
    init, close = View.__init__, View.close
    monkeypatch.setattr(View, "__init__", lambda view, *about: opened.append(view) or init(view, *about))  # type: ignore[func-returns-value]
    monkeypatch.setattr("zq.handles.look.KEEP", 600.0)
    monkeypatch.setattr(View, "close", lambda view: closed.append(view) or close(view))  # type: ignore[func-returns-value]
    found, _ = exported(asker, keeper.id)
    assert [message.data for message in found] == list(range(5_000))
    assert len(opened) == 1
    assert closed == opened
    monkeypatch.setattr("zq.handles.look.KEEP", 0.05)
    assert asker.spooled_messages("jobs", holder=keeper.id).next == 1_001
    eventually(lambda: len(closed) == 2)
    monkeypatch.setattr("zq.handles.look.KEEP", 600.0)
    assert asker.spooled_messages("jobs", holder=keeper.id).next == 1_001
    spool.close()
    eventually(lambda: len(closed) == len(opened) == 3)


def test_a_message_of_any_size_is_told_whole(face: Face, keeper: Any, spool: Any) -> None:
    pusher = push(face, 1)
    sent = [b"x" * 100_000, bytes(range(256)) * 10_000, {"a": b"y" * 700_000, "b": [b"z" * 900_000]}, "w" * 600_000]
    for data in [*sent, "last"]:
        pusher.send(data)
    pusher.flush()
    asker = face.peer("asker")
    eventually(lambda: asker.spooled_streams().rows)
    found, _ = exported(asker, keeper.id)
    assert [message.complete for message in found] == [True] * 6
    assert [message.data for message in found] == [0, *sent, "last"]
    assert [message.data for message in found] == [message.data for message in spool.export("jobs")]
    assert found[2].size > 2_560_000


def test_a_listing_that_does_not_fit_into_a_frame_is_told_whole(
    face: Face, keeper: Any, spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = face.peer("asker")
    eventually(lambda: asker.spooled_streams().rows)
    made = [
        zq.SpoolProblem(
            kind="queue", stream="jobs", file="f" * 200, offset=number, end=number + 1, first=number, last=number,
            what="it is damaged",
        )
        for number in range(1, 10_001)
    ]  # fmt: skip
    report = zq.SpoolReport(streams=1, bytes=17, problems=tuple(made))
    monkeypatch.setattr("zq.handles.look.verify_shelf", lambda shelf, note: report)
    answer = asker.verify_spools()
    assert (answer.unknown, answer.problems, answer.count) == ((), (), 17)
    assert [(row.first, row.holder) for row in answer.rows] == [(number, "keeper") for number in range(1, 10_001)]
    monkeypatch.setattr("zq.handles.look.ROWS", 3_000)
    answer = asker.verify_spools()
    assert len(answer.rows) == 3_000
    assert len(answer.problems) == 1
    assert "7,000 more problems are not told here" in answer.problems[0]


def test_what_never_came_to_a_topic_stream_is_told_with_it(face: Face, keeper: Any, tmp_path: Path) -> None:
    place, gap = tmp_path / "topics", zq.Gap(publisher=b"p" * 16, topic="t/a", first=2, last=7)
    vanished = zq.Gap(publisher=b"p" * 16, topic="t/a", first=9, last=None)
    store = open_store(place)
    stream, disk = store.stream(TOPIC, "t/**")
    log = Log(disk, stream.uuid, wall=time.time)
    log.open()
    for number in (1, 8):
        run = Run(b"p" * 16, number, 1, 1.7e9)
        kept = Kept(1.7e9, number, 1, 0, run, "t/a", bytes(pack({"number": number})), ())
        log.append(1, [run], encode(kept), kept.flags)
        hole = KeptGap(1.7e9, gap if number == 1 else vanished)
        log.append(1, [run_of_gap(hole)], encode_gap(hole), GAP)
    log.close()
    store.close()
    told: list[zq.Gap] = []
    stopped = list(zq.SpoolDirectory(place).export("t/**", on_gap=told.append))
    assert ([message.data["number"] for message in stopped], told) == ([1, 8], [gap, vanished])
    told.clear()
    spool = keeper.spool(place, topics=["t/**"])
    own = list(spool.export("t/**", on_gap=told.append))
    assert ([message.id for message in own], told) == ([message.id for message in stopped], [gap, vanished])
    asker = face.peer("asker")
    eventually(lambda: asker.spooled_streams().rows)
    found, gaps = exported(asker, keeper.id, "t/**")
    assert ([message.id for message in found], gaps) == ([message.id for message in stopped], [gap, vanished])


@pytest.mark.parametrize("remotely", [False, True])
def test_purge_is_answered_once_it_is_on_the_disk(
    face: Face, keeper: Any, spool: Any, monkeypatch: pytest.MonkeyPatch, remotely: bool
) -> None:
    push(face, 100)
    asker = face.peer("asker")
    eventually(lambda: asker.spooled_streams().rows)
    asked, may_sync, fdatasync = threading.Event(), threading.Event(), os.fdatasync

    def hang(descriptor: int) -> None:
        asked.set()
        assert may_sync.wait(6 * PATIENCE)
        fdatasync(descriptor)

    eventually(lambda: not any(stream.unmarked for stream in keeper_streams(spool)))
    monkeypatch.setattr(os, "fdatasync", hang)
    if remotely:
        assert asker.purge_spools("jobs", timeout=2.0).unknown == ("keeper",)
        assert asked.wait(PATIENCE)
        purged = face.background(asker.purge_spools, "jobs", timeout=PATIENCE)
        may_sync.set()
        assert (purged.result().count, purged.result().problems) == (0, ())
    else:
        with pytest.raises(zq.Timeout, match="has not said yet"):
            spool.purge("jobs", timeout=0.3)
        may_sync.set()
        assert spool.purge("jobs") == 0
    assert row_of(spool.streams()).depth == 0


@pytest.mark.parametrize("remotely", [False, True])
def test_a_purge_that_the_disk_has_not_taken_says_so(
    face: Face, keeper: Any, spool: Any, monkeypatch: pytest.MonkeyPatch, remotely: bool
) -> None:
    push(face, 100)
    asker = face.peer("asker")
    eventually(lambda: asker.spooled_streams().rows)
    eventually(lambda: not any(stream.unmarked for stream in keeper_streams(spool)))

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        if remotely:
            answer = asker.purge_spools("jobs")
            assert answer.count == 100
            assert len(answer.problems) == 1
            assert "may be back when the spool is opened again" in answer.problems[0]
        else:
            with pytest.raises(zq.SpoolDamaged, match=r"jobs: 100 messages are purged, and may be back .* error"):
                spool.purge("jobs")
    assert spool.queues()[0].depth == 0
    assert spool.purge("jobs") == 0  # and now it is there
    assert row_of(spool.streams()).depth == 0


def test_a_cursor_is_forgotten_once_that_is_on_the_disk(
    face: Face, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = face.peer("keeper").spool(directory / "topics", topics=["t/**"])
    readers = [face.peer("reader").subscriber("t/**", durable=name, since="beginning") for name in ("one", "other")]
    eventually(lambda: len(spool.cursors()) == len(readers))
    for reader in readers:
        reader.close()
    eventually(lambda: not any(stream.unmarked for stream in keeper_streams(spool)))
    may_sync, fdatasync = threading.Event(), os.fdatasync

    def hang(descriptor: int) -> None:
        assert may_sync.wait(6 * PATIENCE)
        fdatasync(descriptor)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", hang)
        with pytest.raises(zq.Timeout, match="has not said yet"):
            spool.forget("t/**", "one", timeout=0.3)
        may_sync.set()
        patched.setattr(os, "fdatasync", fail)
        with pytest.raises(zq.SpoolDamaged, match=r"other is forgotten, and may be back .* error"):
            spool.forget("t/**", "other")
    assert spool.topics()[0].cursors == ()


def keeper_streams(spool: Any) -> list[Any]:
    """Of its disk thread."""
    return list(spool._keeper._streams.values())


@pytest.mark.parametrize("remotely", [False, True])
def test_purge_removes_all_that_waits_wherever_it_waits(
    face: Face, keeper: Any, spool: Any, directory: Path, remotely: bool
) -> None:
    """More than a window of it, some delayed, some behind their key, some with a ttl."""
    pusher = push(face, 20_000)
    for number in range(10):
        pusher.send(number, delay=3_600.0)
        pusher.send(number, key="k", ttl=3_600.0)
        pusher.send(number, lane="high")
    pusher.flush()
    push(face, 5, "others")
    if remotely:
        asker = face.peer("asker")
        eventually(lambda: asker.spooled_streams().rows)
        assert asker.purge_spools("jobs").count == 20_030
    else:
        assert spool.purge("jobs") == 20_030
    assert row_of(spool.streams()).depth == 0
    assert [row.depth for row in spool.queues()] == [0, 5]
    assert list(spool.export("jobs")) == []
    [row] = [row for row in keeper.ledger().held if row.queue == "jobs"]
    assert row.balanced
    assert (row.taken, row.waiting, row.dropped) == (20_030, 0, {"purged": 20_030})
    assert spool.purge("jobs") == 0
    pusher.send("new")
    assert take(face.peer("receiver").puller("jobs"), 1) == ["new"]
    eventually(lambda: [row.depth for row in spool.queues()] == [0, 5])
    spool.close()
    again = keeper.spool(directory, queues=["jobs", "others"])
    eventually(lambda: [row.depth for row in again.queues()] == [0, 5])


def test_purge_of_what_is_in_flight_is_refused_and_touches_nothing(face: Face, spool: Any) -> None:
    push(face, 100)
    puller = face.peer("receiver").puller("jobs", prefetch=5)
    message = puller.receive(timeout=PATIENCE)
    eventually(lambda: spool.queues()[0].depth == 100)
    with pytest.raises(zq.Refused, match=r"messages of jobs are in flight, at receiver: .* nothing was purged"):
        spool.purge("jobs")
    asker = face.peer("asker")
    eventually(lambda: asker.spooled_streams().rows)
    answer = asker.purge_spools("jobs")
    assert answer.count == 0
    assert len(answer.problems) == 1
    assert answer.problems[0].startswith("keeper: ")
    assert "in flight, at receiver" in answer.problems[0]
    assert row_of(spool.streams()).depth == 100
    message.ack()
    eventually(lambda: row_of(spool.streams()).depth == 99)
    puller.close()

    def is_purged() -> bool:
        try:
            return bool(spool.purge("jobs") == 99)
        except zq.Refused:
            return False  # what the puller has given back is on its way

    eventually(is_purged)


def test_what_is_not_there_is_refused_by_name(face: Face, spool: Any) -> None:
    asker = face.peer("asker")
    eventually(lambda: asker.spooled_streams().rows)
    with pytest.raises(zq.Refused, match="no queue 'nope'; it has jobs"):
        spool.purge("nope")
    with pytest.raises(zq.Refused, match="no spool of this realm has a queue 'nope'"):
        asker.purge_spools("nope")
    with pytest.raises(zq.Refused, match="no spool of this realm has a cursor 'nope' of 'jobs'"):
        asker.forget_cursor("jobs", "nope")


def test_letters_are_purged_as_well_and_only_these(face: Face, spool: Any) -> None:
    push(face, 3)
    puller = face.peer("receiver").puller("jobs", prefetch=1)
    puller.receive(timeout=PATIENCE).reject("no")
    puller.close()
    eventually(lambda: spool.queues()[0].dead == 1)
    [letter] = spool.export("jobs.dead")
    assert letter.headers["dead-reason"] == "no"
    assert spool.purge("jobs.dead") == 1
    assert row_of(spool.streams(), "jobs.dead").depth == 0
    assert row_of(spool.streams()).depth == 2
    assert face.peer("asker").dead_letters("jobs").letters == ()


def test_damage_is_told_while_it_runs(face: Face, keeper: Any, spool: Any, directory: Path) -> None:
    push(face, 1_000)
    spool.close()
    [inner] = {path.parent for path in directory.glob("*/*.log")}
    segment = inner / "0000000000000001.log"
    data = bytearray(segment.read_bytes())
    data[HEADER + 100] ^= 1
    segment.write_bytes(data)
    spool = keeper.spool(directory, queues=["jobs"])
    problems = spool.verify().problems
    assert [(problem.stream, problem.file, problem.first) for problem in problems] == [("jobs", str(segment), 1)]
    damaged: list[tuple[int, int]] = []
    left = list(spool.export("jobs", on_damage=lambda *lost: damaged.append(lost)))
    assert damaged in ([], [(1, problems[0].last)])  # the spool has noted already that they are lost
    assert [message.number for message in left] == list(range(problems[0].last + 1, 1_001))
    asker = face.peer("asker")
    eventually(lambda: asker.spooled_streams().rows)
    [told] = asker.verify_spools().rows
    assert (told.file, told.offset, told.end, told.first, told.last) == (
        str(segment), problems[0].offset, problems[0].end, 1, problems[0].last
    )  # fmt: skip
    assert told.holder == "keeper"


@pytest.mark.parametrize("face", [Face], indirect=True, ids=["blocking"])  # a peer of zq.aio belongs to its loop
def test_it_may_be_looked_at_from_many_threads_while_messages_come_and_go(face: Face, spool: Any) -> None:
    pusher = push(face, 1_000)
    puller = face.peer("receiver").puller("jobs")

    def look(kind: int) -> int:
        looks = 0
        for _ in range(10):
            looks += len(spool.streams()) if kind == 0 else 0
            assert kind != 1 or spool.verify().problems == ()
            assert kind != 2 or all(message.queue == "jobs" for message in spool.export("jobs"))
        return looks

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(look, number % 3) for number in range(6)]
        for number in range(2_000):
            pusher.send(number)
            puller.receive(timeout=PATIENCE).ack()
        assert sum(one.result(PATIENCE) for one in running) == 80


def test_a_closed_spool_says_how_it_can_be_looked_at(spool: Any, directory: Path) -> None:
    spool.close()
    for look in (
        spool.streams,
        spool.cursors,
        spool.verify,
        lambda: spool.purge("jobs"),
        lambda: list(spool.export("jobs")),
    ):
        with pytest.raises(zq.Closed, match="SpoolDirectory"):
            look()
    assert len(zq.SpoolDirectory(directory).streams()) == 4


def test_lies_of_a_peer_are_told_as_such(face: Face, keeper: Any, spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that make no sense are none, whoever sends them."""
    push(face, 3)
    asker = face.peer("asker")
    eventually(lambda: asker.spooled_streams().rows)
    lies = [{}, {"number": -1, "item": b"\xc1"}, {"first": [], "last": None}, {"kind": 7}]
    monkeypatch.setattr("zq.handles.look.SpoolLook._look", lambda self, question: Found(lies, next=5))
    for answer in (
        asker.spooled_streams(),
        asker.spooled_cursors(),
        asker.verify_spools(),
        asker.spooled_messages("jobs", holder=keeper.id),
    ):
        assert (answer.rows, answer.damaged) == ((), ())
        assert len(answer.problems) == len(lies)
        assert all(problem.startswith("keeper: its answer makes no sense") for problem in answer.problems)
