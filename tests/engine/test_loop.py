"""An event loop that was closed with a coroutine waiting: that waiter's end, not the engine's."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import zq
import zq.aio
from tests.waiting import PATIENCE, eventually
from zq.engine.wake import ThreadToken


def abandon(loop: asyncio.AbstractEventLoop) -> None:
    """Closes it with whatever is still waiting in it."""
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_the_engine_survives_a_loop_that_is_closed_under_a_waiter(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    with zq.Peer("other") as other:
        pusher = other.pusher("jobs")
        peer = zq.aio.Peer("left")
        puller: Any = None

        async def begin() -> asyncio.Task[zq.Message]:
            nonlocal puller
            await peer.open()
            puller = peer.puller("jobs")
            task = asyncio.get_running_loop().create_task(puller.receive())
            await asyncio.sleep(0)
            return task

        task = loop.run_until_complete(begin())
        assert puller._waiters
        abandon(loop)
        token = ThreadToken()  # another waiter behind the one whose loop is closed
        puller._waiters.add(token)
        pusher.send(1)
        assert token.wait(PATIENCE)
        engine = peer._engine
        assert engine is not None
        assert engine.failed is None
        other.wait_for_peers(1, timeout=PATIENCE)
        engine.stop()
        eventually(lambda: other.peers() == [])
        with pytest.raises(zq.Undelivered):
            other.close(timeout=0)
        del task
        gc.collect()  # its destruction is logged by asyncio, and must not disturb another test


def test_a_peer_left_in_a_closed_loop_says_what_to_do() -> None:
    peer = zq.aio.Peer("left")
    loop = asyncio.new_event_loop()
    loop.run_until_complete(peer.open())
    abandon(loop)
    with pytest.raises(zq.Refused, match="event loop"):
        peer.peers()
    with pytest.raises(zq.Refused, match="event loop"):
        asyncio.run(peer.close())
    assert peer._engine is not None
    peer._engine.stop()
