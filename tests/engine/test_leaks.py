"""What was opened is closed: threads, descriptors, files."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

import zq
import zq.aio
from tests.waiting import PATIENCE

TCP: dict[str, Any] = {"insecure": True, "interfaces": ["127.0.0.1"], "discovery": ["host"]}


def in_use() -> tuple[int, set[threading.Thread]]:
    gc.collect()
    return len(os.listdir("/proc/self/fd")), set(threading.enumerate())  # noqa: PTH208 - their number is all


def use(number: int, settings: dict[str, Any]) -> None:
    with zq.Peer("a", **settings) as a, zq.Peer("b", **settings) as b:
        pusher, puller = a.pusher("jobs"), b.puller("jobs")
        subscriber, publisher = a.subscriber("news"), b.publisher("news")
        pusher.send(number)
        publisher.send(bytes(20_000))
        with puller.receive(timeout=PATIENCE) as message:
            assert message.data == number
        assert len(subscriber.receive(timeout=PATIENCE).data) == 20_000


@pytest.mark.parametrize("settings", [{}, TCP], ids=["ipc", "tcp"])
def test_peers_leave_no_thread_no_descriptor_and_no_file(settings: dict[str, Any], host_directory: Path) -> None:
    use(0, settings)
    before = in_use()
    for number in range(25):
        use(number, settings)
    assert in_use() == before
    assert list(host_directory.iterdir()) == []


def test_asyncio_peers_leave_nothing_either() -> None:
    async def main() -> tuple[int, set[threading.Thread]]:
        before = None
        for number in range(20):
            async with zq.aio.Peer("a") as peer:
                puller = peer.puller("jobs")
                await peer.push("jobs", number)
                with await puller.receive(timeout=PATIENCE) as message:
                    assert message.data == number
            before = before or in_use()  # the executor's threads come with the first
        assert before is not None
        count, threads = in_use()
        assert count == before[0]
        assert not [thread for thread in threads - before[1] if thread.name.startswith("zq-")]
        return before

    asyncio.run(main())


def test_handles_leave_nothing_in_the_engine() -> None:
    with zq.Peer("alone") as peer:
        engine = peer._engine
        assert engine is not None
        peer.settle()
        before = len(engine.everyone), len(engine.piles), len(engine._conditions)
        for number in range(50):
            handles: list[Any] = [
                peer.publisher("a"),
                peer.subscriber("a"),
                peer.pusher("b"),
                peer.puller("b"),
            ]
            handles[0].send(number)
            handles[2].send(number)
            assert handles[1].receive(timeout=PATIENCE).data == number
            handles[3].receive(timeout=PATIENCE).ack()
            for handle in handles:
                handle.close()
        peer.ledger()
        assert (len(engine.everyone), len(engine.piles), len(engine._conditions)) == before
        node = engine.node
        assert [*node.pulling, *node.pushing, *node.receptions] == []


def test_an_open_that_fails_leaves_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(zq.Refused):
            zq.Peer("a", port=port, **TCP).open()
        before = in_use()
        for _ in range(20):
            with pytest.raises(zq.Refused):
                zq.Peer("a", port=port, **TCP).open()
        assert in_use() == before


def test_a_peer_that_is_forgotten_warns() -> None:
    peers = [zq.Peer("forgotten").open()]
    engine = peers[0]._engine
    assert engine is not None
    with pytest.warns(ResourceWarning, match="forgotten .* was not closed"):
        forget(peers)
    engine.stop()


def forget(peers: list[zq.Peer]) -> None:
    peers.clear()
    gc.collect()
