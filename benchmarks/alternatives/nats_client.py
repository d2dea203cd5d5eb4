"""NATS by nats-py: core subjects, which forget, and JetStream work queues, which keep and acknowledge.

JetStream's publisher waits for the server's answer to each of up to 256 messages at a time, its consumer fetches 500
and acknowledges each. Its files are not synced: that is its default.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import msgpack
import nats
from nats.aio.client import Client
from nats.errors import TimeoutError as NothingYet
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, RetentionPolicy

from benchmarks import servers, sharing
from benchmarks.alternatives.jobs import PubSub, fewer, rate
from benchmarks.process import READY, Say
from benchmarks.sharing import STOP, WORKERS, Share
from benchmarks.workload import READING, Scale, Values

THERE, JOBS, SHARED = "benchmark.there", "benchmark.jobs", "benchmark.shared"
STREAM, SHARED_STREAM = "benchmark", "benchmark-shared"
JETSTREAM_MOST = 50_000  # messages counted; a hundredth of a second more each than the others take
IN_FLIGHT = 256
FETCH = 500


async def _connect(port: int) -> Client:
    return await nats.connect(f"nats://{servers.HOST}:{port}", pending_size=64 << 20)


def receive(say: Say, port: int, count: int, warm_up: int) -> float:
    return asyncio.run(_receive(say, port, count, warm_up))


async def _receive(say: Say, port: int, count: int, warm_up: int) -> float:
    client = await _connect(port)
    subscription = await client.subscribe(THERE, pending_msgs_limit=-1, pending_bytes_limit=-1)
    await client.flush()
    say("open")
    left, started, unpack = warm_up, 0.0, msgpack.unpackb
    async for message in subscription.messages:
        unpack(message.data)
        left -= 1
        if left == 0:
            if started:
                break
            started, left = time.perf_counter(), count
    taken = time.perf_counter() - started
    await client.close()
    return count / taken


def send(say: Say, port: int, count: int) -> None:
    asyncio.run(_send(say, port, count))


async def _send(say: Say, port: int, count: int) -> None:
    client = await _connect(port)
    say(READY)
    pack = msgpack.Packer(autoreset=True).pack
    for _ in range(count):
        await client.publish(THERE, pack(READING))
    await client.flush(timeout=60)
    await client.close()


def echo(say: Say, port: int, count: int) -> None:
    asyncio.run(_echo(say, port, count))


async def _echo(say: Say, port: int, count: int) -> None:
    client = await _connect(port)
    subscription = await client.subscribe(THERE)
    await client.flush()
    say("open")
    pack = msgpack.Packer(autoreset=True).pack
    async for message in subscription.messages:
        await message.respond(pack(msgpack.unpackb(message.data)))
        count -= 1
        if not count:
            break
    await client.drain()


def travel(say: Say, port: int, count: int) -> list[float]:
    return asyncio.run(_travel(port, count))


async def _travel(port: int, count: int) -> list[float]:
    client = await _connect(port)
    pack = msgpack.Packer(autoreset=True).pack
    times = []
    for _ in range(count):
        started = time.perf_counter()
        answer = await client.request(THERE, pack(READING), timeout=10)
        msgpack.unpackb(answer.data)
        times.append(time.perf_counter() - started)
    await client.close()
    return times


async def _new_stream(client: Client) -> JetStreamContext:
    """A work queue with nothing in it."""
    stream = client.jetstream()
    try:
        await stream.delete_stream(STREAM)
    except nats.js.errors.NotFoundError:
        pass  # the first round
    await stream.add_stream(name=STREAM, subjects=[JOBS], retention=RetentionPolicy.WORK_QUEUE)
    return stream


def pull(say: Say, port: int, count: int, warm_up: int) -> float:
    return asyncio.run(_pull(say, port, count, warm_up))


async def _pull(say: Say, port: int, count: int, warm_up: int) -> float:
    client = await _connect(port)
    stream = await _new_stream(client)
    subscription = await stream.pull_subscribe(JOBS, durable="worker")
    say("open")
    done, started, total = 0, 0.0, warm_up + count
    while done < total:
        try:
            messages = await subscription.fetch(min(FETCH, total - done), timeout=5)
        except NothingYet:
            continue
        for message in messages:
            msgpack.unpackb(message.data)
            await message.ack()
            done += 1
            if done == warm_up:
                started = time.perf_counter()
    taken = time.perf_counter() - started
    await client.flush(timeout=60)
    await client.close()
    return count / taken


def push(say: Say, port: int, count: int) -> None:
    asyncio.run(_push(say, port, JOBS, count))


async def _push(say: Say, port: int, subject: str, count: int) -> None:
    client = await _connect(port)
    say(READY)
    await _publish(client.jetstream(), subject, count)
    await client.close()


async def _publish(stream: JetStreamContext, subject: str, count: int) -> None:
    """Returns when the server has confirmed all of them."""
    pack = msgpack.Packer(autoreset=True).pack
    for at in range(0, count, IN_FLIGHT):
        await asyncio.gather(*(stream.publish(subject, pack(READING)) for _ in range(min(IN_FLIGHT, count - at))))


def work_queue(scale: Scale) -> Values:
    return rate(fewer(scale, JETSTREAM_MOST), pull, push, servers.port_of("nats"))


def look(say: Say, port: int, count: int, see: Callable[[bytes], float]) -> list[float]:
    return asyncio.run(_look(say, port, count, see))


async def _look(say: Say, port: int, count: int, see: Callable[[bytes], float]) -> list[float]:
    client = await _connect(port)
    subscription = await client.subscribe(THERE, pending_msgs_limit=-1, pending_bytes_limit=-1)
    await client.flush()
    say("open")
    found: list[float] = []
    async for message in subscription.messages:
        found.append(see(message.data))
        if len(found) == count:
            break
    await client.close()
    return found


def send_on_schedule(say: Say, port: int, count: int, rate: int) -> None:
    asyncio.run(_send_on_schedule(port, count, rate))


async def _send_on_schedule(port: int, count: int, rate: int) -> None:
    """The loop's clock counts in milliseconds: at higher rates what is due goes out together."""
    client = await _connect(port)
    pack = msgpack.Packer(autoreset=True).pack
    start = time.monotonic() + 0.05
    for number in range(count):
        due = start + number / rate
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        data = {"id": number, "t": due, "name": "sensor-kitchen", "payload": b"x" * 50}
        await client.publish(THERE, pack(data))
    await client.flush(timeout=60)
    await client.close()


PUB_SUB = PubSub(
    where=partial(servers.port_of, "nats"),
    server="nats",
    receive=receive,
    send=send,
    echo=echo,
    travel=travel,
    look=look,
    send_on_schedule=send_on_schedule,
)


def share(say: Say, port: int, pushers: int) -> Share:
    return asyncio.run(_share(say, port))


async def _share(say: Say, port: int) -> Share:
    """A worker at the consumer that all share. Of the stops it fetches at once it puts back all but its own."""
    client = await _connect(port)
    stream = client.jetstream()
    # Whoever is first makes them; they are empty after a round.
    await stream.add_stream(name=SHARED_STREAM, subjects=[SHARED], retention=RetentionPolicy.WORK_QUEUE)
    limits = ConsumerConfig(max_ack_pending=2 * WORKERS * FETCH)  # 1,000 by itself: too few for four that fetch 500
    subscription = await stream.pull_subscribe(SHARED, durable="workers", config=limits)
    say("open")
    done, stops, first, last = 0, 0, 0.0, 0.0
    while not stops:
        try:
            messages = await subscription.fetch(FETCH, timeout=1)
        except NothingYet:
            continue
        first, before = first or time.monotonic(), done
        for message in messages:
            if "stop" in msgpack.unpackb(message.data):
                stops += 1
            else:
                done += 1
            await message.ack()
        last = time.monotonic() if done > before else last
    for _ in range(stops - 1):
        await stream.publish(SHARED, msgpack.packb(STOP))
    await client.flush(timeout=60)
    await client.close()
    return Share(done, first if done else 0.0, last)


def push_shared(say: Say, port: int, said: Sequence[Any], count: int) -> None:
    asyncio.run(_push(say, port, SHARED, count))


def stop(say: Say, port: int, workers: int) -> None:
    asyncio.run(_stop(port, workers))


async def _stop(port: int, workers: int) -> None:
    client = await _connect(port)
    for _ in range(workers):
        await client.jetstream().publish(SHARED, msgpack.packb(STOP))
    await client.close()


def one_to_four(scale: Scale) -> Values:
    return sharing.shared(scale, 1, share, push_shared, servers.port_of("nats"), stop=stop, most=JETSTREAM_MOST)


def four_to_four(scale: Scale) -> Values:
    return sharing.shared(scale, 4, share, push_shared, servers.port_of("nats"), stop=stop, most=JETSTREAM_MOST)


async def _store(port: int, count: int, alone: int) -> Values:
    client = await _connect(port)
    stream = await _new_stream(client)
    started = time.perf_counter()
    await _publish(stream, JOBS, count)
    a_second = count / (time.perf_counter() - started)
    pack = msgpack.Packer(autoreset=True).pack
    times = []
    for _ in range(alone):
        started = time.perf_counter()
        await stream.publish(JOBS, pack(READING))
        times.append(time.perf_counter() - started)
    await client.close()
    return {"one by one msg/s": a_second, "in lists msg/s": a_second, "one alone us": median(times) * 1e6}


def durable(scale: Scale) -> Values:
    """Publishing has no lists: its figure is that of messages one by one."""
    stored = asyncio.run(_store(servers.port_of("nats"), min(scale.messages, JETSTREAM_MOST), min(200, scale.trips)))
    return {**stored, "to a consumer msg/s": work_queue(scale)["msg/s"]}
