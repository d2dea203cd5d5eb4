"""NATS by nats-py: core subjects, which forget, and JetStream work queues, which keep and acknowledge.

JetStream's publisher waits for the server's answer to each of up to 256 messages at a time, its consumer fetches 500
and acknowledges each. Its files are not synced: that is its default.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median

import msgpack
import nats
from nats.aio.client import Client
from nats.errors import TimeoutError as NothingYet
from nats.js.api import RetentionPolicy

from benchmarks import fan, servers
from benchmarks.alternatives.figures import ages, percentiles
from benchmarks.process import Running, Say, finish
from benchmarks.schedule import RATES, WARM_UP
from benchmarks.workload import READING, Scale, Values

THERE, JOBS = "benchmark.there", "benchmark.jobs"
STREAM = "benchmark"
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
    asyncio.run(_send(port, count))


async def _send(port: int, count: int) -> None:
    client = await _connect(port)
    pack = msgpack.Packer(autoreset=True).pack
    for _ in range(count):
        await client.publish(THERE, pack(READING))
    await client.flush(timeout=60)
    await client.close()


def one_way(scale: Scale) -> Values:
    port = servers.port_of("nats")
    with Running(receive, port, scale.messages, scale.warm_up) as receiver:
        receiver.hear()
        with Running(send, port, scale.messages + scale.warm_up) as sender:
            return {"msg/s": finish(receiver, sender)}


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


def round_trip(scale: Scale) -> Values:
    port = servers.port_of("nats")
    warm_up = scale.trips // 10
    with Running(echo, port, scale.trips + warm_up) as other:
        other.hear()
        with Running(travel, port, scale.trips + warm_up) as traveller:
            return percentiles(finish(traveller, other)[warm_up:])


def pull(say: Say, port: int, count: int, warm_up: int) -> float:
    return asyncio.run(_pull(say, port, count, warm_up))


async def _pull(say: Say, port: int, count: int, warm_up: int) -> float:
    client = await _connect(port)
    stream = client.jetstream()
    try:
        await stream.delete_stream(STREAM)
    except nats.js.errors.NotFoundError:
        pass  # the first round
    await stream.add_stream(name=STREAM, subjects=[JOBS], retention=RetentionPolicy.WORK_QUEUE)
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
    asyncio.run(_push(port, count))


async def _push(port: int, count: int) -> None:
    client = await _connect(port)
    stream = client.jetstream()
    pack = msgpack.Packer(autoreset=True).pack
    for at in range(0, count, IN_FLIGHT):
        await asyncio.gather(*(stream.publish(JOBS, pack(READING)) for _ in range(min(IN_FLIGHT, count - at))))
    await client.close()


def work_queue(scale: Scale) -> Values:
    port = servers.port_of("nats")
    count = min(scale.messages, JETSTREAM_MOST)
    warm_up = min(scale.warm_up, count // 5)
    with Running(pull, port, count, warm_up) as puller:
        puller.hear()
        with Running(push, port, count + warm_up) as pusher:
            return {"msg/s": finish(puller, pusher)}


def receive_ages(say: Say, port: int, count: int) -> list[float]:
    return asyncio.run(_receive_ages(say, port, count))


async def _receive_ages(say: Say, port: int, count: int) -> list[float]:
    client = await _connect(port)
    subscription = await client.subscribe(THERE, pending_msgs_limit=-1, pending_bytes_limit=-1)
    await client.flush()
    say("open")
    found: list[float] = []
    async for message in subscription.messages:
        found.append(time.monotonic() - msgpack.unpackb(message.data)["t"])
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


def latency(scale: Scale) -> Values:
    port = servers.port_of("nats")
    values: dict[str, float] = {}
    for name, rate in RATES.items():
        count = int(rate * (scale.seconds + WARM_UP))
        with Running(receive_ages, port, count) as receiver:
            receiver.hear()
            with Running(send_on_schedule, port, count, rate) as sender:
                values.update(ages(name, finish(receiver, sender)[int(rate * WARM_UP) :]))
    return values


def fan_out(scale: Scale) -> Values:
    return fan.fan_out(scale, receive, send, servers.port_of("nats"))


def fan_in(scale: Scale) -> Values:
    return fan.fan_in(scale, receive, send, servers.port_of("nats"))


async def _store(port: int, count: int, alone: int) -> Values:
    client = await _connect(port)
    stream = client.jetstream()
    try:
        await stream.delete_stream(STREAM)
    except nats.js.errors.NotFoundError:
        pass  # the first round
    await stream.add_stream(name=STREAM, subjects=[JOBS], retention=RetentionPolicy.WORK_QUEUE)
    pack = msgpack.Packer(autoreset=True).pack
    started = time.perf_counter()
    for at in range(0, count, IN_FLIGHT):
        await asyncio.gather(*(stream.publish(JOBS, pack(READING)) for _ in range(min(IN_FLIGHT, count - at))))
    rate = count / (time.perf_counter() - started)
    times = []
    for _ in range(alone):
        started = time.perf_counter()
        await stream.publish(JOBS, pack(READING))
        times.append(time.perf_counter() - started)
    await client.close()
    return {"one by one msg/s": rate, "in lists msg/s": rate, "one alone us": median(times) * 1e6}


def durable(scale: Scale) -> Values:
    """Publishing has no lists: its figure is that of messages one by one."""
    stored = asyncio.run(_store(servers.port_of("nats"), min(scale.messages, JETSTREAM_MOST), min(200, scale.trips)))
    return {**stored, "to a consumer msg/s": work_queue(scale)["msg/s"]}
