"""pyzmq's own asyncio sockets, by hand."""

from __future__ import annotations

import asyncio
import time

import msgpack
import zmq
import zmq.asyncio

from benchmarks.process import Running, Say, finish
from benchmarks.raw import LOOPBACK
from benchmarks.workload import READING, Scale, Values

MOST = 100_000  # messages counted; it takes ten times as long for each as the others


def receive(say: Say, count: int, warm_up: int) -> float:
    return asyncio.run(_receive(say, count, warm_up))


async def _receive(say: Say, count: int, warm_up: int) -> float:
    with zmq.asyncio.Context() as context, context.socket(zmq.SUB) as socket:
        socket.rcvhwm = 0
        socket.subscribe(b"")
        socket.bind(LOOPBACK)
        say(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        for _ in range(warm_up):
            msgpack.unpackb(await socket.recv())
        started = time.perf_counter()
        for _ in range(count):
            msgpack.unpackb(await socket.recv())
        return count / (time.perf_counter() - started)


def send(say: Say, endpoint: str, count: int) -> None:
    asyncio.run(_send(endpoint, count))


async def _send(endpoint: str, count: int) -> None:
    with zmq.asyncio.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.sndhwm = 0
        socket.connect(endpoint)
        await socket.recv()
        pack = msgpack.Packer(autoreset=True).pack
        for _ in range(count):
            await socket.send(pack(READING))


def one_way(scale: Scale) -> Values:
    count = min(scale.messages, MOST)
    warm_up = min(scale.warm_up, count // 5)
    with Running(receive, count, warm_up) as receiver:
        endpoint = receiver.hear()
        with Running(send, endpoint, count + warm_up) as sender:
            return {"msg/s": finish(receiver, sender)}
