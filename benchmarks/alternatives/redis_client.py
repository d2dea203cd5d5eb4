"""Redis by redis-py: pub/sub, which forgets, and a stream with a consumer group, which acknowledges. In memory only.

Commands go in pipelines of 500, because one by one each waits for the server's answer; a consumer of the group reads
500 at a time and acknowledges each.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import msgpack
import redis

from benchmarks import servers, sharing
from benchmarks.alternatives.jobs import PubSub, fewer, rate
from benchmarks.process import READY, Say
from benchmarks.schedule import on_schedule
from benchmarks.sharing import STOP, Share
from benchmarks.workload import READING, Scale, Values

THERE, BACK, JOBS, SHARED, GROUP = "there", "back", "jobs", "shared", "workers"
PIPELINE = 500
DURABLE_MOST = 100_000  # messages counted where each pipeline is synced
DURABLE_ALONE = 200  # messages that are waited for one by one


def _connect(port: int) -> redis.Redis:
    return redis.Redis(host=servers.HOST, port=port)


def receive(say: Say, port: int, count: int, warm_up: int) -> float:
    with _connect(port) as client, client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(THERE)
        subscription.get_message(timeout=5)
        say("open")
        unpack = msgpack.unpackb
        messages = subscription.listen()
        for _ in range(warm_up):
            unpack(next(messages)["data"])
        started = time.perf_counter()
        for _ in range(count):
            unpack(next(messages)["data"])
        return count / (time.perf_counter() - started)


def send(say: Say, port: int, count: int) -> None:
    pack = msgpack.Packer(autoreset=True).pack
    with _connect(port) as client, client.pipeline(transaction=False) as pipeline:
        client.ping()
        say(READY)
        for number in range(1, count + 1):
            pipeline.publish(THERE, pack(READING))
            if number % PIPELINE == 0 or number == count:
                pipeline.execute()


def echo(say: Say, port: int, count: int) -> None:
    pack = msgpack.Packer(autoreset=True).pack
    with _connect(port) as client, client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(THERE)
        subscription.get_message(timeout=5)
        say("open")
        messages = subscription.listen()
        for _ in range(count):
            client.publish(BACK, pack(msgpack.unpackb(next(messages)["data"])))


def travel(say: Say, port: int, count: int) -> list[float]:
    pack = msgpack.Packer(autoreset=True).pack
    with _connect(port) as client, client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(BACK)
        subscription.get_message(timeout=5)
        messages = subscription.listen()
        times = []
        for _ in range(count):
            started = time.perf_counter()
            client.publish(THERE, pack(READING))
            msgpack.unpackb(next(messages)["data"])
            times.append(time.perf_counter() - started)
        return times


def pull(say: Say, port: int, count: int, warm_up: int) -> float:
    with _connect(port) as client, client.pipeline(transaction=False) as acks:
        client.delete(JOBS)
        client.xgroup_create(JOBS, GROUP, id="0", mkstream=True)
        say("open")
        done, started, total = 0, 0.0, warm_up + count
        while done < total:
            for _, messages in client.xreadgroup(GROUP, "worker", {JOBS: ">"}, count=PIPELINE, block=1_000):
                for id, fields in messages:
                    msgpack.unpackb(fields[b"d"])
                    acks.xack(JOBS, GROUP, id)
                    done += 1
                    if done == warm_up:
                        started = time.perf_counter()
                acks.execute()
        return count / (time.perf_counter() - started)


def push(say: Say, port: int, count: int) -> None:
    _add(say, port, JOBS, count)


def _add(say: Say, port: int, stream: str, count: int) -> None:
    pack = msgpack.Packer(autoreset=True).pack
    with _connect(port) as client, client.pipeline(transaction=False) as pipeline:
        client.ping()
        say(READY)
        for number in range(1, count + 1):
            pipeline.xadd(stream, {"d": pack(READING)})
            if number % PIPELINE == 0 or number == count:
                pipeline.execute()


def work_queue(scale: Scale) -> Values:
    return rate(scale, pull, push, servers.port_of("redis"))


def share(say: Say, port: int, pushers: int) -> Share:
    """A worker of the group. Of the stops it reads at once it puts back all but its own."""
    done, first, last = 0, 0.0, 0.0
    with _connect(port) as client, client.pipeline(transaction=False) as acks:
        me = f"worker-{os.getpid()}"
        _prepare(client)
        say("open")
        stops = 0
        while not stops:
            for _, messages in client.xreadgroup(GROUP, me, {SHARED: ">"}, count=PIPELINE, block=1_000):
                first, before = first or time.monotonic(), done
                for id, fields in messages:
                    if "stop" in msgpack.unpackb(fields[b"d"]):
                        stops += 1
                    else:
                        done += 1
                    acks.xack(SHARED, GROUP, id)
                acks.execute()
                last = time.monotonic() if done > before else last
        for _ in range(stops - 1):
            client.xadd(SHARED, {"d": msgpack.packb(STOP)})
    return Share(done, first if done else 0.0, last)


def _prepare(client: redis.Redis) -> None:
    """The stream and its group, whoever is first; there is nothing in it after a round."""
    with contextlib.suppress(redis.ResponseError):  # the group is there
        client.xgroup_create(SHARED, GROUP, id="$", mkstream=True)


def push_shared(say: Say, port: int, said: Sequence[Any], count: int) -> None:
    _add(say, port, SHARED, count)


def stop(say: Say, port: int, workers: int) -> None:
    with _connect(port) as client:
        for _ in range(workers):
            client.xadd(SHARED, {"d": msgpack.packb(STOP)})


def one_to_four(scale: Scale) -> Values:
    return sharing.shared(scale, 1, share, push_shared, servers.port_of("redis"), stop=stop)


def four_to_four(scale: Scale) -> Values:
    return sharing.shared(scale, 4, share, push_shared, servers.port_of("redis"), stop=stop)


def durable(scale: Scale) -> Values:
    """With a server that syncs what a pipeline has brought before it answers."""
    port = servers.port_of("redis-durable")
    count = min(scale.messages, DURABLE_MOST)
    pack = msgpack.Packer(autoreset=True).pack
    values: dict[str, float] = {}
    with _connect(port) as client, client.pipeline(transaction=False) as pipeline:
        for metric, at_once in (("one by one msg/s", PIPELINE), ("in lists msg/s", 20 * PIPELINE)):
            client.delete(JOBS)
            started = time.perf_counter()
            for number in range(1, count + 1):
                pipeline.xadd(JOBS, {"d": pack(READING)})
                if number % at_once == 0 or number == count:
                    pipeline.execute()
            values[metric] = count / (time.perf_counter() - started)
        times = []
        for _ in range(min(DURABLE_ALONE, scale.trips)):
            started = time.perf_counter()
            client.xadd(JOBS, {"d": pack(READING)})
            times.append(time.perf_counter() - started)
        values["one alone us"] = median(times) * 1e6
        client.delete(JOBS)
    values["to a consumer msg/s"] = rate(fewer(scale, DURABLE_MOST), pull, push, port)["msg/s"]
    return values


def look(say: Say, port: int, count: int, see: Callable[[bytes], float]) -> list[float]:
    with _connect(port) as client, client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(THERE)
        subscription.get_message(timeout=5)
        say("open")
        messages = subscription.listen()
        return [see(next(messages)["data"]) for _ in range(count)]


def send_on_schedule(say: Say, port: int, count: int, rate: int) -> None:
    """One by one: a pipeline would have to wait until it is full."""
    pack = msgpack.Packer(autoreset=True).pack
    with _connect(port) as client:
        on_schedule(count, rate, lambda data: client.publish(THERE, pack(data)))


PUB_SUB = PubSub(
    where=partial(servers.port_of, "redis"),
    server="redis",
    receive=receive,
    send=send,
    echo=echo,
    travel=travel,
    look=look,
    send_on_schedule=send_on_schedule,
)
