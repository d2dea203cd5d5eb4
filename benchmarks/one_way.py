"""One way, publish to subscribe: 100-byte maps, one by one, two processes over TCP on the loopback interface."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from itertools import islice

import zq
from benchmarks import alternatives, peers, raw
from benchmarks.process import Running, Say, finish
from benchmarks.workload import READING, Contender, Scale, Values, Workload, rates

TOPIC = "benchmark/readings"
CHUNK = 1_000  # messages a send_many


def subscribe(say: Say, count: int, warm_up: int, key_file: str | None = None) -> float:
    """Messages a second between the last of `warm_up` and the last of `count` messages that follow."""
    with peers.blocking("subscriber", key_file) as peer, peer.subscriber(TOPIC) as subscriber:
        say("open")
        messages = iter(subscriber)
        for message in islice(messages, warm_up):
            _ = message.data
        started = time.perf_counter()
        for message in islice(messages, count):
            _ = message.data
        return count / (time.perf_counter() - started)


def publish(say: Say, count: int, key_file: str | None = None) -> None:
    with peers.blocking("publisher", key_file) as peer, peer.publisher(TOPIC) as publisher:
        publisher.wait_for_subscribers()
        peers.require_tcp(peer.peers())
        for _ in range(count):
            publisher.send(READING)
        publisher.flush()


def publish_many(say: Say, count: int) -> None:
    with peers.blocking("publisher") as peer, peer.publisher(TOPIC) as publisher:
        publisher.wait_for_subscribers()
        peers.require_tcp(peer.peers())
        for left in range(count, 0, -CHUNK):
            publisher.send_many([READING] * min(CHUNK, left))
        publisher.flush()


def subscribe_asynchronously(say: Say, count: int, warm_up: int) -> float:
    """As `subscribe`, with `async for`."""
    return asyncio.run(_subscribe(say, count, warm_up))


async def _subscribe(say: Say, count: int, warm_up: int) -> float:
    async with peers.asynchronous("subscriber") as peer, peer.subscriber(TOPIC) as subscriber:
        say("open")
        messages = aiter(subscriber)
        await _take(messages, warm_up)
        started = time.perf_counter()
        await _take(messages, count)
        return count / (time.perf_counter() - started)


async def _take(messages: AsyncIterator[zq.Message], count: int) -> None:
    async for message in messages:
        _ = message.data
        count -= 1
        if not count:
            return


def publish_asynchronously(say: Say, count: int) -> None:
    asyncio.run(_publish(count))


async def _publish(count: int) -> None:
    async with peers.asynchronous("publisher") as peer, peer.publisher(TOPIC) as publisher:
        await publisher.wait_for_subscribers()
        peers.require_tcp(peer.peers())
        for _ in range(count):
            await publisher.send(READING)
        await publisher.flush()


def between(send: Callable[..., None], receive: Callable[..., float], *options: str) -> Callable[[Scale], Values]:
    """A contender's run: the rate of messages from one role to the other, both with these options."""

    def run(scale: Scale) -> Values:
        with Running(receive, scale.messages, scale.warm_up, *options) as receiver:
            receiver.hear()
            with Running(send, scale.messages + scale.warm_up, *options) as sender:
                return {"msg/s": finish(receiver, sender)}

    return run


ONE_WAY = Workload(
    name="one-way",
    title="publish to subscribe, 100-byte map, one by one, two processes over TCP",
    rounds=5,
    contenders=(
        Contender(name="pyzmq PUB/SUB", run=raw.publish_subscribe),
        Contender(name="zq", run=between(publish, subscribe)),
        Contender(name="zq, send_many", run=between(publish_many, subscribe)),
        Contender(name="zq.aio", run=between(publish_asynchronously, subscribe_asynchronously)),
        *alternatives.ONE_WAY,
    ),
    targets=(
        *rates("zq", {"pyzmq PUB/SUB": 1.2, "Zenoh": 2.0, "NATS": 4.0}),
        *rates("zq, send_many", {"pyzmq PUB/SUB": 1.6}),
        *rates("zq.aio", {"zq": 0.9, "zmq.asyncio": 10.0}),
    ),
)
