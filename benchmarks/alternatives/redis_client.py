"""Redis by redis-py: pub/sub, which forgets, and a stream with a consumer group, which acknowledges. In memory only.

Commands go in pipelines of 500, because one by one each waits for the server's answer; a consumer of the group reads
500 at a time and acknowledges each.
"""

from __future__ import annotations

import time

import msgpack
import redis

from benchmarks import fan, servers
from benchmarks.alternatives.figures import percentiles
from benchmarks.process import Running, Say, finish
from benchmarks.workload import READING, Scale, Values

THERE, BACK, JOBS, GROUP = "there", "back", "jobs", "workers"
PIPELINE = 500


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
        for number in range(1, count + 1):
            pipeline.publish(THERE, pack(READING))
            if number % PIPELINE == 0 or number == count:
                pipeline.execute()


def one_way(scale: Scale) -> Values:
    port = servers.port_of("redis")
    with Running(receive, port, scale.messages, scale.warm_up) as receiver:
        receiver.hear()
        with Running(send, port, scale.messages + scale.warm_up) as sender:
            return {"msg/s": finish(receiver, sender)}


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


def round_trip(scale: Scale) -> Values:
    port = servers.port_of("redis")
    warm_up = scale.trips // 10
    with Running(echo, port, scale.trips + warm_up) as other:
        other.hear()
        with Running(travel, port, scale.trips + warm_up) as traveller:
            return percentiles(finish(traveller, other)[warm_up:])


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
    pack = msgpack.Packer(autoreset=True).pack
    with _connect(port) as client, client.pipeline(transaction=False) as pipeline:
        for number in range(1, count + 1):
            pipeline.xadd(JOBS, {"d": pack(READING)})
            if number % PIPELINE == 0 or number == count:
                pipeline.execute()


def work_queue(scale: Scale) -> Values:
    port = servers.port_of("redis")
    with Running(pull, port, scale.messages, scale.warm_up) as puller:
        puller.hear()
        with Running(push, port, scale.messages + scale.warm_up) as pusher:
            return {"msg/s": finish(puller, pusher)}


def fan_out(scale: Scale) -> Values:
    return fan.fan_out(scale, receive, send, servers.port_of("redis"))


def fan_in(scale: Scale) -> Values:
    return fan.fan_in(scale, receive, send, servers.port_of("redis"))
