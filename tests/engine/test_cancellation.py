"""asyncio cancels at any await: what was not received is still there, what was not sent was not taken."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

import zq
import zq.aio
from tests.waiting import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:.*without being settled:ResourceWarning")


@pytest.mark.parametrize("kind", ["topic", "queue"])
@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_cancelled_receives_loses_nothing(kind: str, seed: int) -> None:
    chance = random.Random(seed)

    async def main() -> None:
        async with zq.aio.Peer("alone") as peer:
            sender = peer.publisher("a") if kind == "topic" else peer.pusher("a")
            receiver = peer.subscriber("a") if kind == "topic" else peer.puller("a")
            got: list[int] = []
            cancelled = 0

            async def receive() -> None:
                message = await receiver.receive(timeout=None if chance.random() < 0.5 else 5)
                got.append(message.data)
                message.ack()

            for number in range(1_000):
                tasks = [asyncio.create_task(receive()) for _ in range(2)]
                if chance.random() < 0.5:
                    await asyncio.sleep(0)
                await sender.send(number)
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    cancelled += isinstance(result, asyncio.CancelledError)
                    assert result is None or isinstance(result, asyncio.CancelledError)
            await sender.flush(timeout=PATIENCE) if kind == "topic" else None
            while len(got) < 1_000:
                await asyncio.wait_for(receive(), PATIENCE)
            assert sorted(got) == list(range(1_000))
            assert got == sorted(got)
            assert cancelled > 200
            assert not receiver._waiters
            assert (await peer.ledger()).balanced

    asyncio.run(main())


def test_a_cancelled_send_was_not_taken() -> None:
    async def main() -> None:
        async with zq.aio.Peer("alone") as peer:
            pusher = peer.pusher("a", window=5)
            await pusher.send_many(range(5))
            waiting = [asyncio.create_task(pusher.send(f"never {number}")) for number in range(20)]
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            assert all(
                isinstance(result, asyncio.CancelledError)
                for result in await asyncio.gather(*waiting, return_exceptions=True)
            )
            puller = peer.puller("a")
            last = asyncio.create_task(pusher.send("last"))
            data = []
            for _ in range(6):
                with await puller.receive(timeout=PATIENCE) as message:
                    data.append(message.data)
            await last
            assert data == [*range(5), "last"]

    asyncio.run(main())


def test_a_cancelled_with_block_gives_the_message_back() -> None:
    async def main() -> None:
        async with zq.aio.Peer("alone") as peer:
            puller = peer.puller("a")
            await peer.push("a", 1)

            async def work() -> None:
                with await puller.receive():
                    started.set()
                    await asyncio.sleep(PATIENCE)

            started = asyncio.Event()
            task = asyncio.create_task(work())
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with await puller.receive(timeout=PATIENCE) as message:
                assert (message.attempt, message.redelivered) == (1, True)

    asyncio.run(main())


def test_a_cancelled_run_gives_back_what_is_at_hand() -> None:
    async def main() -> None:
        async with zq.aio.Peer("alone") as peer:
            puller = peer.puller("a")
            await peer.pusher("a").send_many(range(10))
            all_at_work = asyncio.Barrier(4)

            async def handle(message: zq.Message) -> None:
                await all_at_work.wait()
                await asyncio.sleep(PATIENCE)

            task = asyncio.create_task(puller.run(handle, concurrency=3))
            await asyncio.wait_for(all_at_work.wait(), PATIENCE)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            got = {}
            while len(got) < 10:
                with await puller.receive(timeout=PATIENCE) as message:
                    got[message.data] = message.redelivered
            assert got == {number: number < 3 for number in range(10)}

    asyncio.run(main())


def test_cancelling_a_program_closes_its_peer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.aio.closing.LEAVING", 6 * PATIENCE)  # what another exception would give it
    pushed = asyncio.Event()

    async def main() -> None:
        async with zq.aio.Peer("alone") as peer:
            await peer.push("a", 1)  # nobody will ever confirm it
            pushed.set()
            await asyncio.sleep(PATIENCE)

    async def cancel() -> None:
        task = asyncio.create_task(main())
        await pushed.wait()
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert time.monotonic() - started < 3 * PATIENCE
        assert "1 message not confirmed" in caught.value.__notes__[0]

    asyncio.run(cancel())


def test_a_send_that_finds_room_lets_others_run_now_and_then() -> None:
    async def main() -> None:
        async with zq.aio.Peer("alone") as peer:
            turns = 0

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            for number in range(4 * zq.aio.YIELD_EVERY):
                await peer.publish("a", number)
            assert turns >= 4
            counting.cancel()

    asyncio.run(main())
