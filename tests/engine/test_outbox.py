"""An outbox on disk beside an event loop, a fork and an idle process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

import zq
import zq.aio
from tests.waiting import PATIENCE, disk_at_rest, eventually


def test_a_disk_that_hangs_stops_no_event_loop_and_a_cancelled_send_has_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> None:
    may_sync, asked, fdatasync = threading.Event(), threading.Event(), os.fdatasync

    def sync(descriptor: int) -> None:
        asked.set()
        assert may_sync.wait(2 * PATIENCE)
        fdatasync(descriptor)

    async def play() -> None:
        async with zq.aio.Peer("receiver") as receiver, zq.aio.Peer("sender") as sender:
            puller = receiver.puller("jobs")
            pusher = sender.pusher("jobs", outbox=tmp_path / "outbox")
            monkeypatch.setattr(os, "fdatasync", sync)
            sends = [asyncio.create_task(pusher.send(number)) for number in range(20)]
            cancelled = asyncio.create_task(pusher.send("cancelled"))
            assert await asyncio.to_thread(asked.wait, PATIENCE)  # the loop runs: that is what this is about
            cancelled.cancel()
            await asyncio.wait([cancelled])
            with pytest.raises(zq.Timeout):
                await pusher.send("late", timeout=0.1)
            assert not any(send.done() for send in sends)
            may_sync.set()
            await asyncio.gather(*sends)
            got = [await puller.receive(timeout=PATIENCE) for _ in range(20)]
            for message in got:
                message.ack()
            assert [message.data for message in got] == list(range(20))
            await pusher.flush(until="processed", timeout=PATIENCE)
            with pytest.raises(zq.Timeout):
                await puller.receive(timeout=0.2)

    asyncio.run(play())


FORK = """
import os, sys, time, warnings
import zq

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
peer = zq.Peer("parent").open()
pusher = peer.pusher("jobs", outbox=sys.argv[1])
pusher.send(1)
if os.fork() == 0:
    try:
        pusher.send(2)
    except zq.Forked:
        os.write(1, b"refused ")
    os.write(1, b"child %d\\n" % os.getpid())
    sys.stdin.read()  # outlives its parent
    os._exit(0)
os.read(0, 1)
os._exit(0)  # as if killed
"""


def test_a_forked_child_can_use_nothing_of_an_outbox_and_holds_no_lock_when_its_parent_is_dead(
    tmp_path: Path, clean_environment: None
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FORK, str(tmp_path / "outbox")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline().startswith("refused child ")
        process.kill()
        process.wait(PATIENCE)
        with zq.Peer("next") as peer, peer.puller("jobs") as puller:
            peer.pusher("jobs", outbox=tmp_path / "outbox")
            with puller.receive(timeout=PATIENCE) as message:
                assert (message.data, message.redelivered) == (1, True)
        process.stdin.close()


def test_an_outbox_that_is_idle_writes_nothing(tmp_path: Path, clean_environment: None) -> None:
    with zq.Peer("sender") as sender:
        pusher = sender.pusher("jobs", outbox=tmp_path / "outbox")
        pusher.send(1)

        def files() -> dict[str, tuple[int, int]]:
            found: dict[str, tuple[int, int]] = {}
            for path in (tmp_path / "outbox").rglob("*"):
                with suppress(FileNotFoundError):  # a new mark has taken the place of the old one meanwhile
                    if path.is_file():
                        found[str(path)] = (path.stat().st_mtime_ns, path.stat().st_size)
            return found

        eventually(lambda: sum(name.endswith("/mark") for name in files()) == 2)
        disk_at_rest(pusher._stream.deposits.spooled.disk)  # type: ignore[union-attr]
        before = files()
        threading.Event().wait(1.5)  # nothing is what this waits for
        assert files() == before
