"""RabbitMQ by pika's BlockingConnection: a queue in memory, an acknowledgement each, 500 prefetched.

Its publisher does not wait for confirms, which would take a round trip each: it may lose what the broker loses.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgpack
import pika

from benchmarks import servers, sharing
from benchmarks.alternatives.jobs import fewer, rate, trips
from benchmarks.process import READY, Say
from benchmarks.sharing import STOP, Share
from benchmarks.workload import READING, Scale, Values

JOBS, BACK, SHARED = "benchmark-jobs", "benchmark-back", "benchmark-shared"
PREFETCH = 500
MOST = 100_000  # messages counted
TRIPS_MOST = 2_000


def _connect(port: int) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.ConnectionParameters(servers.HOST, port))


def pull(say: Say, port: int, count: int, warm_up: int) -> float:
    with _connect(port) as connection:
        channel = connection.channel()
        channel.queue_delete(JOBS)
        channel.queue_declare(JOBS)
        channel.basic_qos(prefetch_count=PREFETCH)
        say("open")
        started = 0.0
        for done, (method, _, body) in enumerate(channel.consume(JOBS), 1):
            msgpack.unpackb(body)
            channel.basic_ack(method.delivery_tag)
            if done == warm_up:
                started = time.perf_counter()
            elif done == warm_up + count:
                break
        taken = time.perf_counter() - started
        channel.cancel()
        return count / taken


def push(say: Say, port: int, count: int) -> None:
    pack = msgpack.Packer(autoreset=True).pack
    with _connect(port) as connection:
        channel = connection.channel()
        for _ in range(count):
            channel.basic_publish("", JOBS, pack(READING))


def work_queue(scale: Scale) -> Values:
    return rate(fewer(scale, MOST), pull, push, servers.port_of("rabbitmq"))


def echo(say: Say, port: int, count: int) -> None:
    pack = msgpack.Packer(autoreset=True).pack
    with _connect(port) as connection:
        channel = connection.channel()
        channel.queue_delete(JOBS)
        channel.queue_declare(JOBS)
        channel.queue_delete(BACK)
        channel.queue_declare(BACK)
        say("open")
        for method, _, body in channel.consume(JOBS, auto_ack=True):
            channel.basic_publish("", BACK, pack(msgpack.unpackb(body)))
            if method.delivery_tag == count:
                break
        channel.cancel()


def travel(say: Say, port: int, count: int) -> list[float]:
    pack = msgpack.Packer(autoreset=True).pack
    with _connect(port) as connection:
        channel = connection.channel()
        answers = channel.consume(BACK, auto_ack=True)
        times = []
        for _ in range(count):
            started = time.perf_counter()
            channel.basic_publish("", JOBS, pack(READING))
            msgpack.unpackb(next(answers)[2])
            times.append(time.perf_counter() - started)
        channel.cancel()
        return times


def round_trip(scale: Scale) -> Values:
    scale = replace(scale, trips=min(scale.trips, TRIPS_MOST))
    return trips(scale, echo, travel, servers.port_of("rabbitmq"))


def share(say: Say, port: int, pushers: int) -> Share:
    """A worker. What it was sent beyond its stop goes back to the queue when its connection ends."""
    done, first, last = 0, 0.0, 0.0
    with _connect(port) as connection:
        channel = connection.channel()
        channel.queue_declare(SHARED)
        channel.basic_qos(prefetch_count=PREFETCH)
        say("open")
        for method, _, body in channel.consume(SHARED):
            stop = "stop" in msgpack.unpackb(body)
            channel.basic_ack(method.delivery_tag)
            if stop:
                break
            last = time.monotonic()
            first = first or last
            done += 1
        channel.cancel()
        return Share(done, first, last)


def push_shared(say: Say, port: int, said: Sequence[Any], count: int) -> None:
    pack = msgpack.Packer(autoreset=True).pack
    with _connect(port) as connection:
        channel = connection.channel()
        say(READY)
        for _ in range(count):
            channel.basic_publish("", SHARED, pack(READING))


def stop(say: Say, port: int, workers: int) -> None:
    with _connect(port) as connection:
        channel = connection.channel()
        for _ in range(workers):
            channel.basic_publish("", SHARED, msgpack.packb(STOP))


def one_to_four(scale: Scale) -> Values:
    return sharing.shared(scale, 1, share, push_shared, servers.port_of("rabbitmq"), stop=stop, most=MOST)


def four_to_four(scale: Scale) -> Values:
    return sharing.shared(scale, 4, share, push_shared, servers.port_of("rabbitmq"), stop=stop, most=MOST)
