"""Opening what is on a disk that hangs: an event loop goes on, and nobody is left with an open directory."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import zq
import zq.aio
from tests.waiting import PATIENCE, eventually
from zq.spool.shelf import holder_of


class Hanging:
    """A disk whose syncs wait until they may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.may_go_on = threading.Event(), threading.Event()
        self._fsync, self._fdatasync = os.fsync, os.fdatasync
        monkeypatch.setattr(os, "fsync", lambda descriptor: self._sync(self._fsync, descriptor))
        monkeypatch.setattr(os, "fdatasync", lambda descriptor: self._sync(self._fdatasync, descriptor))

    def _sync(self, really: Callable[[int], None], descriptor: int) -> None:
        self.asked.set()
        assert self.may_go_on.wait(6 * PATIENCE)
        really(descriptor)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Iterator[Hanging]:
    disk = Hanging(monkeypatch)
    yield disk
    disk.may_go_on.set()


KINDS: dict[str, Callable[[zq.aio.Peer, Path], Any]] = {
    "spool": lambda peer, directory: peer.spool(directory, queues=["jobs"], topics=["t/**"]),
    "outbox": lambda peer, directory: peer.pusher("jobs", outbox=directory),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def disk_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("zq-opening", "zq-disk"))]


async def when_asked(disk: Hanging) -> None:
    assert await asyncio.to_thread(disk.asked.wait, PATIENCE)


@every_kind
def test_the_loop_goes_on_while_the_disk_hangs_and_it_is_open_then(kind: str, tmp_path: Path, hanging: Hanging) -> None:
    async def play() -> None:
        async with zq.aio.Peer("keeper") as peer:
            made = KINDS[kind](peer, tmp_path / "disk")
            waiting = asyncio.ensure_future(made)
            await when_asked(hanging)
            for _ in range(100):
                await asyncio.sleep(0)  # the loop runs
            assert "being opened" in repr(made)
            assert not waiting.done()
            hanging.may_go_on.set()
            assert await waiting is made
            assert "being opened" not in repr(made)
            await made.close()
        assert holder_of(tmp_path / "disk") is None

    asyncio.run(play())


def test_what_does_not_wait_says_that_a_spool_is_not_open_yet(tmp_path: Path, hanging: Hanging) -> None:
    async def play() -> None:
        async with zq.aio.Peer("keeper") as peer:
            spool = peer.spool(tmp_path / "spool", queues=["jobs"])
            await when_asked(hanging)
            with pytest.raises(zq.Error, match="still being opened: await it first"):
                spool.queues()
            hanging.may_go_on.set()
            assert [row.name for row in await spool.streams()] == ["jobs", "jobs.dead"]
            assert spool.queues()[0].depth == 0

    asyncio.run(play())


def test_who_sends_to_an_outbox_waits_for_it_as_long_as_he_says(tmp_path: Path, hanging: Hanging) -> None:
    async def play() -> None:
        async with zq.aio.Peer("sender") as peer:
            pusher = peer.pusher("jobs", outbox=tmp_path / "outbox")
            other = peer.pusher("jobs", outbox=tmp_path / "outbox")
            await when_asked(hanging)
            for late in (pusher.send(1, timeout=0.1), pusher.send_many([1], timeout=0.1), pusher.flush(timeout=0.1)):
                with pytest.raises(zq.Timeout, match="still being opened"):
                    await late
            sent = asyncio.ensure_future(pusher.send(2))
            hanging.may_go_on.set()
            await sent
            await other.send(3)
            assert (await peer.pusher("jobs", outbox=tmp_path / "outbox")).closed is False
            async with peer.puller("jobs") as puller:
                for number in (2, 3):
                    async with asyncio.timeout(PATIENCE):
                        message = await puller.receive()
                    message.ack()
                    assert message.data == number
            with pytest.raises(zq.Refused, match="is open with"):
                peer.pusher("jobs")

    asyncio.run(play())


@every_kind
@pytest.mark.parametrize("how", ["cancelled", "closed", "peer closed"])
def test_what_nobody_wants_any_more_is_closed_when_the_disk_is_back(
    kind: str, how: str, tmp_path: Path, hanging: Hanging
) -> None:
    async def play() -> None:
        async with zq.aio.Peer("keeper") as peer:
            made = KINDS[kind](peer, tmp_path / "disk")
            waiting = asyncio.ensure_future(made)
            await when_asked(hanging)
            began = time.monotonic()
            if how == "cancelled":
                waiting.cancel()
                await asyncio.wait([waiting])
                assert waiting.cancelled()
            elif how == "closed":
                await made.close()
            else:
                await peer.close(timeout=0.5)
            if how != "cancelled":
                with pytest.raises((zq.Closed, asyncio.CancelledError)):
                    await asyncio.wait_for(waiting, PATIENCE)
            assert time.monotonic() - began < PATIENCE / 2
            hanging.may_go_on.set()
            await asyncio.to_thread(eventually, lambda: not disk_threads())
            assert holder_of(tmp_path / "disk") is None
            if how != "peer closed":
                again = await KINDS[kind](peer, tmp_path / "disk")  # nothing of it was left with the peer
                await again.close()

    asyncio.run(play())


@every_kind
def test_what_is_wrong_is_told_to_whoever_awaits_it(kind: str, tmp_path: Path, clean_environment: None) -> None:
    async def play() -> None:
        (tmp_path / "letter").write_text("somebody's")
        async with zq.aio.Peer("keeper") as peer:
            made = KINDS[kind](peer, tmp_path)
            with pytest.raises(zq.Refused, match=f"holds other things and is no {kind}"):
                await made
            with pytest.raises(zq.Error):
                async with made:
                    raise AssertionError("it was entered")
            await made.close()
            if kind == "outbox":
                with pytest.raises(zq.Refused, match="holds other things"):
                    await peer.pusher("jobs", outbox=tmp_path).send(1)

    asyncio.run(play())
