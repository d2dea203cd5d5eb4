"""A bug in the engine: everybody is told, nobody waits for ever, and others see the peer gone at once."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import zq
import zq.aio
from tests.waiting import PATIENCE, eventually


class Bug(Exception):
    """What the engine meets."""


def break_engine(peer: Any) -> None:
    """Its next turn raises."""
    engine = peer._engine

    def turn(*_: object) -> None:
        raise Bug("on purpose")

    engine.node.turn = turn
    engine.wake()
    eventually(lambda: engine.closed)


def test_every_handle_and_every_waiter_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with zq.Peer("broken") as peer:
        publisher, subscriber = peer.publisher("a"), peer.subscriber("a")
        pusher, puller = peer.pusher("b", window=1), peer.puller("c")
        pusher.send(1)
        with ThreadPoolExecutor(8) as threads:
            waiting = [
                threads.submit(subscriber.receive),
                threads.submit(puller.receive_many, 3),
                threads.submit(pusher.flush),
                threads.submit(pusher.send_many, [2, 3, 4]),
                threads.submit(publisher.wait_for_subscribers, 5),
                threads.submit(peer.wait_for_peers, 5),
            ]
            assert peer._engine is not None
            everyone = peer._engine.everyone
            eventually(lambda: len([waiters for waiters in list(everyone) if waiters]) == len(waiting))
            with caplog.at_level(logging.CRITICAL, "zq"):
                break_engine(peer)
            for future in waiting:
                with pytest.raises(zq.EngineFailed) as caught:
                    future.result(PATIENCE)
                assert isinstance(caught.value.__cause__, Bug)
        uses: list[Any] = [
            lambda: publisher.send(1),
            publisher.flush,
            lambda: pusher.send(1),
            lambda: subscriber.receive(timeout=0),
            puller.receive,
            lambda: peer.publisher("new"),
            lambda: peer.subscriber("new"),
            lambda: peer.publish("a", 1),
            peer.peers,
            peer.ledger,
            lambda: list(peer.watch()),
        ]
        for use in uses:
            with pytest.raises(zq.EngineFailed, match="on purpose"):
                use()
        assert "failed" in repr(peer)
        (record,) = caplog.records
        assert (record.levelname, record.name) == ("CRITICAL", "zq.engine")
        assert record.exc_info is not None
        assert "broken" in record.message
        for handle in (publisher, subscriber, pusher, puller, peer):
            handle.close()  # nothing is left to wait for


def test_others_see_it_gone_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.core.liveness.SUSPECT_FOR", 600.0)  # nobody waits until it is thought to be gone
    with zq.Peer("watcher") as watcher, zq.Peer("broken") as peer:
        watcher.wait_for_peers(1)
        break_engine(peer)
        eventually(lambda: watcher.peers() == [])


def test_coroutines_are_told_as_well() -> None:
    async def main() -> None:
        async with zq.aio.Peer("broken") as peer:
            puller = peer.puller("a")
            waiting = [asyncio.create_task(puller.receive()) for _ in range(3)]
            await asyncio.sleep(0)
            await asyncio.to_thread(break_engine, peer)
            for task in waiting:
                with pytest.raises(zq.EngineFailed):
                    await asyncio.wait_for(task, PATIENCE)

    asyncio.run(main())


def test_an_engine_that_cannot_open_says_why_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise Bug("on purpose")

    monkeypatch.setattr("zq.engine.lookout.Lookout.start", start)
    peer = zq.Peer("broken")
    with pytest.raises(Bug):
        peer.open()
    assert peer._engine is not None
    assert not peer._engine._thread.is_alive()
    with pytest.raises(zq.Error):
        peer.peers()
    peer.close()
