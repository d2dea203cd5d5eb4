"""Latency at a fixed rate: how old a message is when it arrives, while so many are sent a second.

An open loop: message i is due at start + i / rate whatever became of those before it, and its age is counted from then,
so that a sender which was held up pays for all that it sent late. The sender sleeps between messages, as a program does
that waits for its sensor; the kernel's slack for that is set to 1 us.
"""

from __future__ import annotations

import time
from itertools import islice

import msgpack
import zmq

from benchmarks import alternatives, peers
from benchmarks.alternatives.figures import ages
from benchmarks.process import Running, Say, finish
from benchmarks.raw import LOOPBACK
from benchmarks.schedule import RATES, WARM_UP, on_schedule
from benchmarks.workload import Compare, Contender, Scale, Target, Values, Workload

TOPIC = "benchmark/readings"


def subscribe(say: Say, count: int) -> list[float]:
    with peers.blocking("subscriber") as peer, peer.subscriber(TOPIC) as subscriber:
        say("open")
        return [time.monotonic() - message.data["t"] for message in islice(subscriber, count)]


def publish(say: Say, count: int, rate: int) -> None:
    with peers.blocking("publisher") as peer, peer.publisher(TOPIC) as publisher:
        publisher.wait_for_subscribers()
        peers.require_tcp(peer.peers())
        on_schedule(count, rate, publisher.send)
        publisher.flush()


def receive_raw(say: Say, count: int) -> list[float]:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.rcvhwm = 0
        socket.subscribe(b"")
        socket.bind(LOOPBACK)
        say(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        found = []
        for _ in range(count):
            data = msgpack.unpackb(socket.recv())
            found.append(time.monotonic() - data["t"])
        return found


def send_raw(say: Say, endpoint: str, count: int, rate: int) -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.sndhwm = 0
        socket.connect(endpoint)
        socket.recv()
        pack = msgpack.Packer(autoreset=True).pack
        on_schedule(count, rate, lambda data: socket.send(pack(data)))


def zq_topics(scale: Scale) -> Values:
    values: dict[str, float] = {}
    for name, rate in RATES.items():
        count = int(rate * (scale.seconds + WARM_UP))
        with Running(subscribe, count) as receiver:
            receiver.hear()
            with Running(publish, count, rate) as sender:
                values.update(ages(name, finish(receiver, sender)[int(rate * WARM_UP) :]))
    return values


def raw_pub_sub(scale: Scale) -> Values:
    values: dict[str, float] = {}
    for name, rate in RATES.items():
        count = int(rate * (scale.seconds + WARM_UP))
        with Running(receive_raw, count) as receiver:
            endpoint = receiver.hear()
            with Running(send_raw, endpoint, count, rate) as sender:
                values.update(ages(name, finish(receiver, sender)[int(rate * WARM_UP) :]))
    return values


LATENCY = Workload(
    name="latency",
    title="age of a 100-byte map at arrival, open loop at 1,000, 10,000 and 100,000 a second, two processes over TCP",
    rounds=3,
    contenders=(
        Contender(name="pyzmq PUB/SUB", run=raw_pub_sub),
        Contender(name="zq", run=zq_topics),
        *alternatives.LATENCY,
    ),
    targets=(Target(contender="zq", metric="10k p99 us", compare=Compare.VALUE, limit=2_000.0),),
)
