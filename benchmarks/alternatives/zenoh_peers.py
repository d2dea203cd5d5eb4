"""Zenoh: two peers, no router. Publishers block when the other side is behind, so that nothing is dropped."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import msgpack
import zenoh

from benchmarks import fan, servers
from benchmarks.alternatives.figures import ages, percentiles
from benchmarks.process import Running, Say, finish
from benchmarks.schedule import RATES, WARM_UP, on_schedule
from benchmarks.workload import READING, Scale, Values

THERE, BACK = "benchmark/there", "benchmark/back"


def _session(*, listen: str = "", connect: Sequence[str] = ()) -> zenoh.Session:
    config = zenoh.Config()
    config.insert_json5("mode", json.dumps("peer"))
    config.insert_json5("scouting/multicast/enabled", "false")
    config.insert_json5("listen/endpoints", json.dumps([listen] if listen else []))
    config.insert_json5("connect/endpoints", json.dumps(list(connect)))
    return zenoh.open(config)


def _publisher(session: zenoh.Session, key: str) -> zenoh.Publisher:
    publisher = session.declare_publisher(key, congestion_control=zenoh.CongestionControl.BLOCK)
    deadline = time.monotonic() + 10.0
    while not _matches(publisher.matching_status):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody subscribes to {key}")
        time.sleep(0.01)
    return publisher


def _matches(status: object) -> bool:
    """Some versions return an object that says so."""
    return bool(getattr(status, "matching", status))


def receive(say: Say, endpoint: str, count: int, warm_up: int) -> float:
    with _session(listen=endpoint) as session:
        subscriber = session.declare_subscriber(THERE, zenoh.handlers.FifoChannel(65_536))
        say("open")
        unpack = msgpack.unpackb
        for _ in range(warm_up):
            unpack(subscriber.recv().payload.to_bytes())
        started = time.perf_counter()
        for _ in range(count):
            unpack(subscriber.recv().payload.to_bytes())
        return count / (time.perf_counter() - started)


def send(say: Say, endpoint: str, count: int) -> None:
    with _session(connect=[endpoint]) as session:
        publisher = _publisher(session, THERE)
        pack = msgpack.Packer(autoreset=True).pack
        for _ in range(count):
            publisher.put(pack(READING))


def one_way(scale: Scale) -> Values:
    endpoint = f"tcp/{servers.HOST}:{servers.free_port()}"
    with Running(receive, endpoint, scale.messages, scale.warm_up) as receiver:
        receiver.hear()
        with Running(send, endpoint, scale.messages + scale.warm_up) as sender:
            return {"msg/s": finish(receiver, sender)}


def echo(say: Say, endpoint: str, count: int) -> None:
    with _session(listen=endpoint) as session:
        subscriber = session.declare_subscriber(THERE, zenoh.handlers.FifoChannel(64))
        say("open")
        publisher = _publisher(session, BACK)
        pack = msgpack.Packer(autoreset=True).pack
        for _ in range(count):
            publisher.put(pack(msgpack.unpackb(subscriber.recv().payload.to_bytes())))


def travel(say: Say, endpoint: str, count: int) -> list[float]:
    with _session(connect=[endpoint]) as session:
        subscriber = session.declare_subscriber(BACK, zenoh.handlers.FifoChannel(64))
        publisher = _publisher(session, THERE)
        pack = msgpack.Packer(autoreset=True).pack
        times = []
        for _ in range(count):
            started = time.perf_counter()
            publisher.put(pack(READING))
            msgpack.unpackb(subscriber.recv().payload.to_bytes())
            times.append(time.perf_counter() - started)
        return times


def round_trip(scale: Scale) -> Values:
    endpoint = f"tcp/{servers.HOST}:{servers.free_port()}"
    warm_up = scale.trips // 10
    with Running(echo, endpoint, scale.trips + warm_up) as other:
        other.hear()
        with Running(travel, endpoint, scale.trips + warm_up) as traveller:
            return percentiles(finish(traveller, other)[warm_up:])


def receive_ages(say: Say, endpoint: str, count: int) -> list[float]:
    with _session(listen=endpoint) as session:
        subscriber = session.declare_subscriber(THERE, zenoh.handlers.FifoChannel(65_536))
        say("open")
        found = []
        for _ in range(count):
            data = msgpack.unpackb(subscriber.recv().payload.to_bytes())
            found.append(time.monotonic() - data["t"])
        return found


def send_on_schedule(say: Say, endpoint: str, count: int, rate: int) -> None:
    with _session(connect=[endpoint]) as session:
        publisher = _publisher(session, THERE)
        pack = msgpack.Packer(autoreset=True).pack
        on_schedule(count, rate, lambda data: publisher.put(pack(data)))


def latency(scale: Scale) -> Values:
    values: dict[str, float] = {}
    for name, rate in RATES.items():
        endpoint = f"tcp/{servers.HOST}:{servers.free_port()}"
        count = int(rate * (scale.seconds + WARM_UP))
        with Running(receive_ages, endpoint, count) as receiver:
            receiver.hear()
            with Running(send_on_schedule, endpoint, count, rate) as sender:
                values.update(ages(name, finish(receiver, sender)[int(rate * WARM_UP) :]))
    return values


def receive_anywhere(say: Say, count: int, warm_up: int) -> float:
    endpoint = f"tcp/{servers.HOST}:{servers.free_port()}"
    return receive(lambda _: say(endpoint), endpoint, count, warm_up)


def send_to_all(say: Say, endpoints: Sequence[str], count: int) -> None:
    with _session(connect=endpoints) as session:
        publisher = _publisher(session, THERE)
        deadline = time.monotonic() + 10.0
        while len(session.info.peers_zid()) < len(endpoints):
            if time.monotonic() > deadline:
                raise TimeoutError("not all subscribers are connected")
            time.sleep(0.01)
        time.sleep(0.5)  # its subscriptions cannot be counted
        pack = msgpack.Packer(autoreset=True).pack
        for _ in range(count):
            publisher.put(pack(READING))


def fan_out(scale: Scale) -> Values:
    return fan.fan_out(scale, receive_anywhere, send_to_all)


def fan_in(scale: Scale) -> Values:
    return fan.fan_in(scale, receive_anywhere, send_to_all)
