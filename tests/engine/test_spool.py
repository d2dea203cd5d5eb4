"""A spool's disk and the engine beside it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import zq
from tests.waiting import PATIENCE, disk_at_rest, eventually
from zq.handles.spool import SpoolCore
from zq.spool import keeper as keeper_module
from zq.spool.log import Log
from zq.spool.shelf import holder_of


class HangingDisk:
    """In place of os.fdatasync: one that syncs nothing until it may."""

    def __init__(self) -> None:
        self.may_sync, self.asked = threading.Event(), threading.Event()
        self.syncs = 0  # asked for
        self._fdatasync = os.fdatasync

    def sync(self, descriptor: int) -> None:
        self.syncs += 1
        self.asked.set()
        assert self.may_sync.wait(6 * PATIENCE)
        self._fdatasync(descriptor)


def test_a_disk_that_hangs_holds_up_nothing_but_its_receipts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> None:
    """What is not synced is not confirmed, and everything else goes on: other queues, other peers, new messages."""
    disk = HangingDisk()

    with zq.Peer("keeper") as keeper, zq.Peer("sender") as sender:
        spool = keeper.spool(tmp_path / "spool", queues=["jobs"])
        jobs, others = sender.pusher("jobs"), sender.pusher("others")
        jobs.wait_for_pullers()
        monkeypatch.setattr(os, "fdatasync", disk.sync)
        jobs.send("slow")
        assert disk.asked.wait(PATIENCE)
        with keeper.puller("others") as puller:
            for number in range(100):
                others.send(number)
                with puller.receive(timeout=PATIENCE) as message:
                    assert message.data == number
        with pytest.raises(zq.Undelivered):
            jobs.flush(timeout=3.0)  # longer than a peer that is deaf would be thought to be here
        eventually(lambda: [peer.state for peer in sender.peers()] == ["up"])
        disk.may_sync.set()
        jobs.flush(timeout=PATIENCE)
        assert spool.queues()[0].depth == 1


def test_all_that_came_while_the_disk_was_busy_is_synced_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> None:
    disk = HangingDisk()

    with zq.Peer("keeper") as keeper, zq.Peer("sender") as sender:
        keeper.spool(tmp_path / "spool", queues=["jobs"])
        jobs = sender.pusher("jobs")
        jobs.wait_for_pullers()
        jobs.send("first")
        jobs.flush(timeout=PATIENCE)  # its segment and its mark are there
        engine = keeper._engine
        assert engine is not None
        monkeypatch.setattr("zq.spool.upkeep.MARK_EVERY", 3_600.0)
        monkeypatch.setattr(os, "fdatasync", disk.sync)
        jobs.send("second")
        assert disk.asked.wait(PATIENCE)
        for number in range(50):
            jobs.send(number)
            eventually(lambda: sender.ledger().held[0].waiting == 0)
        (spooled,) = [spooled for spooled in engine.node.spooling if spooled.name == "jobs"]

        def at_the_disk() -> int:
            return sum(len(coming.stored.items) for coming in spooled.storing if coming.stored is not None)

        eventually(lambda: engine.call(at_the_disk) == 51)
        disk.syncs = 0
        disk.may_sync.set()
        jobs.flush(timeout=PATIENCE)
        assert 1 <= disk.syncs <= 3


def test_a_spool_that_was_idle_writes_nothing(tmp_path: Path, clean_environment: None) -> None:
    with zq.Peer("keeper") as keeper, zq.Peer("sender") as sender:
        spool = keeper.spool(tmp_path / "spool", queues=["jobs"])
        jobs = sender.pusher("jobs")
        jobs.send(1)
        jobs.flush(timeout=PATIENCE)

        def files() -> dict[str, tuple[int, int]]:
            # What is written aside, to be renamed, may be gone before it has been looked at.
            found = [path for path in (tmp_path / "spool").rglob("*") if path.is_file() and path.suffix != ".new"]
            return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in found}

        eventually(lambda: any(name.endswith("/mark") for name in files()))
        disk_at_rest(spool._keeper)
        before = files()
        threading.Event().wait(1.5)  # nothing is what this waits for
        assert files() == before


def test_a_disk_thread_that_ends_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> None:
    """Publishers, whoever opens one more outbox there, and whoever waits for it to be synced."""

    def fail(log: Log) -> int:
        raise RuntimeError("a bug")

    with zq.Peer("keeper") as keeper, zq.Peer("sender") as sender:
        spool = keeper.spool(tmp_path / "spool", topics=["t/**"])
        news = sender.publisher("t/a")
        news.wait_for_subscribers()
        jobs = sender.pusher("jobs", outbox=tmp_path / "outbox")
        monkeypatch.setattr(Log, "commit", fail)
        news.send(1)
        eventually(lambda: not spool.topics()[0].stored)
        news.flush(timeout=PATIENCE)
        with pytest.raises(zq.SpoolDamaged):
            jobs.send(1, timeout=PATIENCE)
        with pytest.raises(zq.SpoolDamaged):
            sender.pusher("others", outbox=tmp_path / "outbox")
        told: list[str] = []
        spool._keeper.sync(b"", told.append)  # as one who purges does
        assert len(told) == 1
        assert "has ended" in told[0]


def test_a_disk_that_hangs_keeps_nobody_who_opens_one_more_outbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> None:
    disk = HangingDisk()

    with zq.Peer("sender") as sender:
        jobs = sender.pusher("jobs", outbox=tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fdatasync", disk.sync)
            patched.setattr(keeper_module, "OPENING", 0.2)
            while not disk.asked.is_set():  # what it has not begun to write by then is withdrawn
                with pytest.raises(zq.Timeout):
                    jobs.send(1, timeout=1.0)
            with pytest.raises(zq.Timeout, match="has not answered"):
                sender.pusher("others", outbox=tmp_path)
        disk.may_sync.set()
        sender.pusher("others", outbox=tmp_path).send(2, timeout=PATIENCE)


def test_closing_waits_no_longer_than_its_timeout_for_those_who_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> None:
    may_read, asked = threading.Event(), threading.Event()

    def hang(directory: Path) -> None:
        asked.set()
        assert may_read.wait(6 * PATIENCE)
        raise zq.Refused("too late")

    with zq.Peer("keeper") as keeper:
        spool = keeper.spool(tmp_path / "spool", queues=["jobs"])
        monkeypatch.setattr("zq.handles.look.Shelf", hang)
        monkeypatch.setattr("zq.handles.spool.LEAVING", 6 * PATIENCE)
        assert keeper.spooled_messages("jobs", holder=keeper.id, timeout=0.1).unknown
        assert asked.wait(PATIENCE)
        closed = threading.Thread(target=lambda: spool.close(timeout=0.2))
        closed.start()
        closed.join(PATIENCE)
        assert not closed.is_alive()
        may_read.set()


def test_closing_that_is_cancelled_does_not_stop_the_loop_for_a_disk_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> None:
    disk = HangingDisk()

    async def close_in_vain() -> float:
        async with zq.aio.Peer("keeper") as keeper, zq.aio.Peer("sender") as sender:
            spool, jobs = await keeper.spool(tmp_path / "spool", queues=["jobs"]), sender.pusher("jobs")
            await jobs.wait_for_pullers()
            with monkeypatch.context() as patched:
                patched.setattr(os, "fdatasync", disk.sync)
                await jobs.send(1)
                assert await asyncio.to_thread(disk.asked.wait, PATIENCE)
                began = time.monotonic()
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(spool.close(timeout=3 * PATIENCE), 0.2)
                took = time.monotonic() - began
                disk.may_sync.set()
            async with keeper.puller("jobs") as puller:
                (await puller.receive(timeout=PATIENCE)).ack()
        return took

    assert asyncio.run(close_in_vain()) < PATIENCE


def test_of_two_directories_with_outboxes_of_one_queue_a_peer_opens_one(
    tmp_path: Path, clean_environment: None
) -> None:
    """The other one keeps what it has, though its directory is open for another queue."""
    for directory, other in (("one", "jobs"), ("two", "news")):
        with zq.Peer("before") as peer:
            peer.pusher(other, outbox=tmp_path / directory)
            peer.pusher("mail", outbox=tmp_path / directory).send(directory)
    with zq.Peer("sender") as sender, zq.Peer("reader") as reader:
        sender.pusher("jobs", outbox=tmp_path / "one")
        sender.pusher("news", outbox=tmp_path / "two").send("new")
        with pytest.raises(zq.Refused, match="another directory"):
            sender.pusher("mail", outbox=tmp_path / "two")
        with reader.puller("mail") as puller, puller.receive(timeout=PATIENCE) as message:
            assert message.data == "one"
    with zq.Peer("sender") as sender, zq.Peer("reader") as reader, reader.puller("mail") as puller:
        sender.pusher("news", outbox=tmp_path / "two")
        with puller.receive(timeout=PATIENCE) as message:
            assert message.data == "two"


def test_a_spool_that_cannot_begin_lets_go_of_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> None:
    def fail(*_: object) -> None:
        raise zq.Closed("the peer is being closed")

    with zq.Peer("keeper") as keeper:
        for place, make in (
            ("spool", lambda: keeper.spool(tmp_path / "spool", queues=["jobs"])),
            ("outbox", lambda: keeper.pusher("mail", outbox=tmp_path / "outbox")),
        ):
            make().close()
            with monkeypatch.context() as patched:
                patched.setattr("zq.core.spooling.Spooling.open", fail)
                patched.setattr("zq.core.spooling.Spooling.open_outbox", fail)
                with pytest.raises(zq.Closed):
                    make()
            assert holder_of(tmp_path / place) is None
            make()


def test_an_engine_that_is_late_for_its_spool_misses_nothing_that_was_published_since_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> None:
    """Of a topic that the spool has never heard of: how long it was away is all that tells what it lacks."""
    bind = SpoolCore._bind

    def bind_and_stand_still(spool: SpoolCore, bound: Sequence[tuple[str, ...]]) -> None:
        """The engine does once it has done this, and while it is asked for more."""
        bind(spool, bound)
        node = spool._engine.node
        node.timers.set("stall", node.now, lambda now: time.sleep(1.0))

    with zq.Peer("keeper") as keeper, zq.Peer("sender") as sender:
        keeper.spool(tmp_path / "spool", topics=["t/**"]).close()
        sender.publish("t/new", "meanwhile")
        monkeypatch.setattr(SpoolCore, "_bind", bind_and_stand_still)
        spool = keeper.spool(tmp_path / "spool", topics=["t/**"])
        eventually(lambda: spool.topics()[0].messages == 1)
