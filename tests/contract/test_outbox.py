"""A pusher with an outbox: what it has sent is on its own disk, and goes on its way whenever somebody is there."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, take

MANY = 20_000  # more than are in memory at once


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


def row_of(peer: Any) -> zq.HeldQueue:
    (row,) = (row for row in peer.ledger().held if not row.queue.endswith(".dead"))
    assert row.balanced
    return row


def fill(face: Face, directory: Path, messages: list[Any], **options: Any) -> None:
    """Sends them while nobody is there, and ends in order."""
    with face.unopened("filler") as filler:
        filler.pusher("jobs", outbox=directory).send_many(messages, **options)


def test_what_was_sent_outlives_its_sender_and_goes_on_its_way_from_one_that_sends_nothing(
    face: Face, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with face.unopened("sender") as sender:
        pusher = sender.pusher("jobs", outbox=directory)
        pusher.send(0)
        assert pusher.send_many(range(1, MANY)) == MANY - 1
        pusher.flush(timeout=0)
        row = row_of(sender)
        assert (row.taken, row.waiting, row.in_flight, row.stored) == (MANY, MANY, 0, 0)
        assert [(queue.name, queue.depth) for queue in sender.queues()] == [("jobs", MANY)]
        began = time.monotonic()
        sender.close(timeout=2 * PATIENCE)
    assert time.monotonic() - began < PATIENCE, "nobody is there to wait for"
    assert f"{MANY} messages of jobs wait in the outbox {directory}" in caplog.text
    puller = face.peer("receiver").puller("jobs")
    second = face.peer("second")
    second.pusher("jobs", outbox=directory)
    messages = [puller.receive(timeout=PATIENCE) for _ in range(3)]
    assert [(message.data, message.attempt, message.redelivered) for message in messages] == [
        (0, 1, False),
        (1, 1, False),
        (2, 1, False),
    ]
    for message in messages:
        message.ack()
    assert take(puller, MANY - 3) == list(range(3, MANY))
    eventually(lambda: row_of(second).acked == MANY)
    assert row_of(second).taken == MANY


def test_nothing_is_sent_before_it_is_synced_and_nothing_confirmed(
    face: Face, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    puller = face.peer("receiver").puller("jobs")
    sender = face.peer("sender")
    pusher = sender.pusher("jobs", outbox=directory)
    pusher.wait_for_pullers()
    may_sync, asked, fdatasync = threading.Event(), threading.Event(), os.fdatasync

    def sync(descriptor: int) -> None:
        asked.set()
        assert may_sync.wait(2 * PATIENCE)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    sent = face.background(pusher.send, "first")
    assert asked.wait(PATIENCE)
    others = [face.background(pusher.send, number) for number in range(8)]
    with pytest.raises(zq.Timeout):
        puller.receive(timeout=0.5)
    assert not sent.done()
    may_sync.set()
    for each in (sent, *others):
        each.result(PATIENCE)
    assert sorted(map(str, take(puller, 9))) == sorted(["first", *map(str, range(8))])


def test_a_spool_takes_what_is_in_an_outbox_and_pullers_do_when_it_is_gone(
    face: Face, directory: Path, tmp_path: Path
) -> None:
    fill(face, directory, list(range(100)))
    spool = face.peer("keeper").spool(tmp_path / "spool", queues=["jobs"])
    sender = face.peer("sender")
    pusher = sender.pusher("jobs", outbox=directory)
    eventually(lambda: row_of(sender).stored == 100)
    with pytest.raises(zq.Refused, match="stored"):
        pusher.flush(until="processed")
    puller = face.peer("receiver").puller("jobs")
    assert take(puller, 100) == list(range(100))
    spool.close()
    pusher.send("direct")
    assert take(puller, 1) == ["direct"]
    eventually(lambda: row_of(sender).acked == 1)


def test_all_that_its_sender_said_of_a_message_holds_through_an_outbox(face: Face, directory: Path) -> None:
    with face.unopened("first") as first:
        pusher = first.pusher("jobs", outbox=directory, max_attempts=3)
        pusher.send({"a": 1}, headers={"x": "y"}, key="k", id="mine")
        pusher.send("second of its key", key="k")
        pusher.send(b"b" * 100_000, lane="high")
        pusher.send("nobody gets it", ttl=0.01)
    sender, receiver = face.peer("sender"), face.peer("receiver")
    sender.pusher("jobs", outbox=directory, max_attempts=3)
    puller = receiver.puller("jobs", prefetch=10)
    got = [puller.receive(timeout=PATIENCE) for _ in range(2)]
    by_id = {message.id: message for message in got}
    mine = by_id.pop("mine")
    assert (mine.data, dict(mine.headers), mine.key, mine.attempt) == ({"a": 1}, {"x": "y"}, "k", 1)
    (high,) = by_id.values()
    assert high.data == b"b" * 100_000
    with pytest.raises(zq.Timeout):
        puller.receive(timeout=0.3)  # its key is taken
    high.ack()
    mine.nack()
    again = puller.receive(timeout=PATIENCE)
    assert (again.id, again.attempt, again.redelivered) == ("mine", 2, True)
    again.ack()
    assert take(puller, 1) == ["second of its key"]
    eventually(lambda: row_of(sender).acked == 3)


def test_what_is_to_come_later_comes_later_through_an_outbox_that_was_opened_again(face: Face, directory: Path) -> None:
    sent = time.monotonic()
    with face.unopened("first") as first:
        first.pusher("jobs", outbox=directory).send("later", delay=0.8)
    face.peer("sender").pusher("jobs", outbox=directory)
    assert take(face.peer("receiver").puller("jobs"), 1) == ["later"]
    assert time.monotonic() - sent >= 0.8


def test_attempts_and_dead_letters_are_on_its_disk(face: Face, directory: Path) -> None:
    puller = face.peer("receiver").puller("jobs")
    with face.unopened("first") as first:
        pusher = first.pusher("jobs", outbox=directory)
        pusher.send("poison")
        pusher.send("once")
        puller.receive(timeout=PATIENCE).reject("no")
        puller.receive(timeout=PATIENCE).nack(delay=30)
        eventually(lambda: row_of(first).waiting == 1)
        eventually(lambda: len(first.dead_letters("jobs").letters) == 1)
    sender = face.peer("sender")
    sender.pusher("jobs", outbox=directory)
    once = puller.receive(timeout=PATIENCE)
    assert (once.data, once.attempt, once.redelivered) == ("once", 2, True)
    once.ack()
    eventually(lambda: [letter.data for letter in sender.dead_letters("jobs").letters] == ["poison"])
    assert sender.retry_dead_letters("jobs").count == 1
    assert take(puller, 1) == ["poison"]
    eventually(lambda: row_of(sender).waiting == 0)


def test_a_directory_has_the_outboxes_of_several_queues_and_lets_all_of_them_go(face: Face, directory: Path) -> None:
    with face.unopened("first") as first:
        first.pusher("jobs", outbox=directory).send("a job")
        first.pusher("mails", outbox=str(directory)).send("a mail")
        with pytest.raises(zq.Refused, match="outbox"):
            first.pusher("jobs")
        first.push("jobs", "another")  # has the stream's outbox
    receiver = face.peer("receiver")
    jobs, mails = receiver.puller("jobs"), receiver.puller("mails")
    sender = face.peer("sender")
    pusher = sender.pusher("jobs", outbox=directory)
    assert take(jobs, 2) == ["a job", "another"]
    assert take(mails, 1) == ["a mail"]
    pusher.close()
    with sender.pusher("jobs", outbox=directory) as again:
        again.send("reopened")
        assert take(jobs, 1) == ["reopened"]


@pytest.mark.usefixtures("patient")
def test_closing_waits_for_those_who_are_there(face: Face, directory: Path) -> None:
    puller = face.peer("receiver").puller("jobs")
    got = face.background(take, puller, 1_000)
    with face.unopened("sender") as sender:
        sender.pusher("jobs", outbox=directory).send_many(range(1_000))
    assert got.result(PATIENCE) == list(range(1_000))
    with face.unopened("second") as second:
        pusher = second.pusher("jobs", outbox=directory)
        assert row_of(second).taken == 0, "all of it was acknowledged before the first had closed"
        pusher.flush(until="processed")
        pusher.send("left")
        message = puller.receive(timeout=PATIENCE)
        with pytest.raises(zq.Undelivered) as late:
            pusher.flush(until="processed", timeout=0.2)
        assert late.value.count == 1
        pusher.flush(timeout=0)
        message.ack()
        pusher.flush(until="processed")


def test_a_directory_that_cannot_be_an_outbox_is_refused(face: Face, directory: Path, tmp_path: Path) -> None:
    peer, other = face.peer("sender"), face.peer("other")
    peer.pusher("jobs", outbox=directory)
    with pytest.raises(zq.SpoolLocked, match=f"outbox directory .* is open in process {os.getpid()}"):
        other.pusher("jobs", outbox=directory)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(zq.AccessDenied, match="open to others"):
        peer.pusher("mails", outbox=tmp_path / "open")
    (tmp_path / "link").symlink_to(directory)
    with pytest.raises(zq.AccessDenied, match="symbolic link"):
        peer.pusher("mails", outbox=tmp_path / "link")
    with pytest.raises(zq.Refused, match="is a directory"):
        peer.pusher("mails", outbox=3)
    spool = other.spool(tmp_path / "spool", queues=["mails"])
    spool.close()
    with pytest.raises(zq.Refused, match="is a spool directory"):
        peer.pusher("mails", outbox=tmp_path / "spool")
    peer.pusher("jobs", outbox=directory).close()
    assert oct(directory.stat().st_mode & 0o777) == "0o700"
    assert {oct(file.stat().st_mode & 0o777) for file in directory.rglob("*") if file.is_file()} == {"0o600"}


def test_an_outbox_is_no_spool(face: Face, directory: Path) -> None:
    fill(face, directory, [1])
    with pytest.raises(zq.Refused, match="is an outbox directory"):
        face.peer("keeper").spool(directory, queues=["jobs"])


def test_an_outbox_can_be_looked_at_as_a_spool_can(face: Face, directory: Path) -> None:
    fill(face, directory, list(range(10)))
    shelf = zq.SpoolDirectory(directory)
    (row,) = [stream for stream in shelf.streams() if not stream.name.endswith(".dead")]
    assert (row.name, row.kind, row.depth) == ("jobs", "outbox", 10)
    assert [message.data for message in shelf.export("jobs")] == list(range(10))
    assert shelf.verify().problems == ()
    assert shelf.purge("jobs") == 10
    assert list(shelf.export("jobs")) == []


def test_a_disk_without_room_refuses_by_name_and_still_delivers(
    face: Face, directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = [1 << 40]
    monkeypatch.setattr("zq.spool.store.Store.free", lambda store: free[0])
    sender = face.peer("sender")
    pusher = sender.pusher("jobs", outbox=directory)
    pusher.send_many(range(10))
    free[0] = 1 << 20
    pusher.send("noticed with this one")
    eventually(lambda: "takes no more" in caplog.text)
    with pytest.raises(zq.SpoolFull, match="bytes free"):
        pusher.send("refused", timeout=0.2)
    with pytest.raises(zq.SpoolFull) as full:
        pusher.send_many(["refused"] * 5, timeout=0.2)
    assert full.value.sent == 0
    puller = face.peer("receiver").puller("jobs")
    assert take(puller, 11) == [*range(10), "noticed with this one"]
    free[0] = 1 << 40
    pusher.send("room again", timeout=PATIENCE)
    assert take(puller, 1) == ["room again"]


def test_what_a_disk_without_room_could_not_write_is_taken_once_there_is_some_or_is_not_taken(
    face: Face, directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("zq.core.filling.LOOK", 0.05)
    sender = face.peer("sender")
    pusher = sender.pusher("jobs", outbox=directory)
    pusher.send("before")
    full, write = threading.Event(), os.write

    def fail(descriptor: int, data: bytes) -> int:
        if full.is_set() and os.path.realpath(f"/proc/self/fd/{descriptor}").startswith(str(directory)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", fail)
    full.set()
    waiting = [face.background(pusher.send, number) for number in range(3)]
    eventually(lambda: "No space left" in caplog.text)
    with pytest.raises(zq.SpoolFull, match="No space left"):
        pusher.send("refused", timeout=0.3)
    with pytest.raises(zq.SpoolFull):
        pusher.send_many(["refused", "refused too"], timeout=0.3)
    full.clear()
    for each in waiting:
        each.result(PATIENCE)
    pusher.send("after")
    puller = face.peer("receiver").puller("jobs")
    got = take(puller, 5)
    assert (got[0], sorted(got[1:4]), got[4]) == ("before", [0, 1, 2], "after")
    eventually(lambda: row_of(sender).waiting == 0)
    assert row_of(sender).taken == 5


def test_who_waits_no_longer_for_a_disk_that_hangs_has_not_sent(
    face: Face, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = face.peer("sender")
    pusher = sender.pusher("jobs", outbox=directory)
    may_sync, asked, fdatasync = threading.Event(), threading.Event(), os.fdatasync

    def sync(descriptor: int) -> None:
        asked.set()
        assert may_sync.wait(2 * PATIENCE)
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    while not asked.is_set():  # what the disk has not begun to write by then it never gets
        with pytest.raises(zq.Timeout, match="not synced") as late:
            pusher.send("the disk has it", timeout=1.0)
        assert not isinstance(late.value, zq.SpoolFull)
    with pytest.raises(zq.Timeout) as late:
        pusher.send_many(["this is", "in the pile"], timeout=0.2)
    assert late.value.sent == 0
    patient = face.background(pusher.send, "patient")
    may_sync.set()
    patient.result(PATIENCE)
    puller = face.peer("receiver").puller("jobs")
    assert take(puller, 1) == ["patient"]
    eventually(lambda: row_of(sender).waiting == 0)
    assert row_of(sender).taken == 1
    sender.pusher("jobs", outbox=directory).close()


def test_a_disk_that_fails_is_an_error_that_says_so_and_what_is_there_is_delivered(
    face: Face, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = face.peer("sender")
    pusher = sender.pusher("jobs", outbox=directory)
    pusher.send_many(range(5))

    def sync(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", sync)
    with pytest.raises(zq.SpoolDamaged, match=r"Input/output error; what was not confirmed may be there"):
        pusher.send("in doubt", timeout=PATIENCE)
    with pytest.raises(zq.SpoolDamaged):
        pusher.send("at once", timeout=0)
    puller = face.peer("receiver").puller("jobs")
    assert take(puller, 5) == list(range(5))
    eventually(lambda: row_of(sender).waiting == 0)
    monkeypatch.undo()
    pusher.close()
    again = sender.pusher("jobs", outbox=directory)
    again.send("mended")
    got = puller.receive(timeout=PATIENCE)
    while got.data == "in doubt":
        got.ack()
        got = puller.receive(timeout=PATIENCE)
    assert got.data == "mended"
    got.ack()


def test_many_senders_share_a_sync(face: Face, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = face.peer("sender")
    pusher = sender.pusher("jobs", outbox=directory)
    pusher.send("the segment is there")
    monkeypatch.setattr("zq.spool.upkeep.MARK_EVERY", 3_600.0)
    syncs, expected, fdatasync = [0], [1 + 16], os.fdatasync
    intake = pusher._stream.deposits.intake

    def sync(descriptor: int) -> None:
        """A disk so slow that meanwhile everybody has left what he sends."""
        syncs[0] += 1
        eventually(lambda: intake.given >= expected[0])
        fdatasync(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    senders = [face.background(pusher.send, number) for number in range(16)]
    for each in senders:
        each.result(PATIENCE)
    one_by_one, syncs[0] = syncs[0], 0
    expected[0] += 1_500
    pusher.send_many(range(1_500))
    assert one_by_one <= 3
    assert syncs[0] <= 3


@pytest.mark.usefixtures("patient")
def test_an_outbox_that_was_set_back_says_so_and_uses_no_number_again(
    face: Face, directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Restored in place, as `cp -a` does; its spool must not take new messages for those it has."""
    keeper = face.peer("keeper")
    spool = keeper.spool(tmp_path / "spool", queues=["jobs"])
    fill(face, directory, ["old"])
    shutil.copytree(directory, tmp_path / "backup", copy_function=shutil.copy2)
    fill(face, directory, ["newer"])
    for file in (tmp_path / "backup").rglob("*"):
        if file.is_file():
            shutil.copy2(file, directory / file.relative_to(tmp_path / "backup"))
    caplog.set_level(logging.WARNING)
    fill(face, directory, ["after the restore"])
    assert "was restored from a backup" in caplog.text
    eventually(lambda: spool.queues()[0].depth >= 3)
    puller = face.peer("receiver").puller("jobs")
    assert take(puller, 3) == ["old", "newer", "after the restore"]


def test_closed_handles_and_peers_refuse(face: Face, directory: Path) -> None:
    with face.unopened("sender") as sender:
        pusher = sender.pusher("jobs", outbox=directory)
        pusher.close()
        with pytest.raises(zq.Closed):
            pusher.send(1)
        with pytest.raises(zq.Closed):
            pusher.send_many([1])
        again = sender.pusher("jobs", outbox=directory)
        with pytest.raises(zq.Refused):
            again.send(object())
        with pytest.raises(zq.Refused):
            again.send_many([1, object(), 2])
        assert row_of(sender).taken == 1
    with pytest.raises(zq.Closed):
        again.send(1)
