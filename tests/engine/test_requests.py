"""Requests that are cancelled or interrupted while they wait: nothing is left over, and nobody answers them."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

import zq
import zq.aio
from tests.waiting import PATIENCE, eventually


def leftovers(peer: Any) -> list[Any]:
    engine = peer._engine
    asking = engine.node.requesting
    waiting = [waiters for waiters in list(engine.everyone) if waiters]
    return [asking.pile, asking._sent, asking._lines, asking._apart, waiting]


def test_a_cancelled_request_is_given_up() -> None:
    async def main() -> None:
        async with zq.aio.Peer("asker") as asker:
            replier, engine = asker.replier("sum"), asker._engine
            assert engine is not None
            await asker.wait_for_repliers("sum", timeout=PATIENCE)
            tasks = [asyncio.create_task(asker.request("sum", number, timeout=None)) for number in range(50)]
            first = await replier.receive(timeout=PATIENCE)
            await asyncio.to_thread(eventually, lambda: len(engine.node.replying._held) == 50)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            first.reply("too late")
            await asyncio.to_thread(eventually, lambda: engine.node.requesting._tally("sum").late)
            (row,) = (await asker.ledger()).requested
            assert (row.asked, row.abandoned, row.sent) == (50, 50, 0)
            assert not any(leftovers(asker))

    asyncio.run(main())


def test_many_requests_of_one_loop_get_their_replies() -> None:
    async def main() -> None:
        async with zq.aio.Peer("asker") as asker, zq.aio.Peer("server") as server:
            replier = server.replier("sum")
            serving = asyncio.create_task(replier.run(lambda request: request.data * 2, concurrency=3))
            await asker.wait_for_repliers("sum", timeout=PATIENCE)
            replies = await asyncio.gather(*(asker.request("sum", number, timeout=40.0) for number in range(3_000)))
            assert [reply.data for reply in replies] == [2 * number for number in range(3_000)]
            await replier.close()
            await serving
            assert not any(leftovers(asker))

    asyncio.run(main())


def test_an_interrupted_request_is_given_up() -> None:
    with zq.Peer("asker") as asker, asker.replier("sum") as replier:
        asker.wait_for_repliers("sum", timeout=PATIENCE)
        main = threading.main_thread().ident
        assert main is not None

        def interrupt() -> None:
            eventually(lambda: asker._engine.node.requesting._sent)  # type: ignore[union-attr]
            signal.pthread_kill(main, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            asker.request("sum", timeout=None)
        thread.join()
        replier.receive(timeout=PATIENCE).reply("too late")
        eventually(lambda: asker.ledger().requested[0].late == 1)
        assert not any(leftovers(asker))


def test_a_peer_that_closes_waits_until_its_answers_are_on_their_way() -> None:
    with zq.Peer("asker") as asker, zq.Peer("server") as server:
        replier = server.replier("sum")
        asker.wait_for_repliers("sum", timeout=PATIENCE)
        replies: list[Any] = []
        asking = threading.Thread(target=lambda: replies.append(asker.request("sum", timeout=PATIENCE).data))
        asking.start()
        request = replier.receive(timeout=PATIENCE)
        assert server._engine is not None
        replying = server._engine.node.replying
        send, replying._send_now = replying._send_now, lambda peer, parts: False  # as a full connection does
        request.reply(7)
        eventually(lambda: not replying.is_flushed())
        closing = threading.Thread(target=server.close)
        closing.start()
        eventually(lambda: replier.closed)
        replying._send_now = send
        closing.join(PATIENCE)
        asking.join(PATIENCE)
        assert replies == [7]


def test_every_requester_hears_that_the_engine_has_failed() -> None:
    with zq.Peer("asker") as peer:
        replier = peer.replier("sum")
        peer.wait_for_repliers("sum", timeout=PATIENCE)
        errors: list[BaseException] = []

        def ask() -> None:
            try:
                peer.request("sum", timeout=PATIENCE)
            except zq.Error as error:
                errors.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        request = replier.receive(timeout=PATIENCE)
        engine = peer._engine
        assert engine is not None

        def fail() -> None:
            raise RuntimeError("planted")

        engine.later(fail)
        thread.join(PATIENCE)
        assert isinstance(errors[0], zq.EngineFailed)
        request.reply("nobody hears it")
        with pytest.raises(zq.EngineFailed):
            replier.receive()
