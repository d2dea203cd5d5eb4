"""Zenoh: two peers, no router. Publishers block when the other side is behind, so that nothing is dropped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import msgpack
import numpy
import zenoh

from benchmarks import arrays, fan, servers
from benchmarks.alternatives.jobs import PubSub
from benchmarks.process import READY, Say
from benchmarks.schedule import on_schedule
from benchmarks.workload import READING, Scale, Values

THERE, BACK, ARRAYS = "benchmark/there", "benchmark/back", "benchmark/arrays"
HELD = 4  # arrays that a worker has not looked at; its sender waits while there are more


def _endpoint() -> str:
    return f"tcp/{servers.HOST}:{servers.free_port()}"


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


def look(say: Say, endpoint: str, count: int, see: Callable[[bytes], float]) -> list[float]:
    with _session(listen=endpoint) as session:
        subscriber = session.declare_subscriber(THERE, zenoh.handlers.FifoChannel(65_536))
        say("open")
        return [see(subscriber.recv().payload.to_bytes()) for _ in range(count)]


def send_on_schedule(say: Say, endpoint: str, count: int, rate: int) -> None:
    with _session(connect=[endpoint]) as session:
        publisher = _publisher(session, THERE)
        pack = msgpack.Packer(autoreset=True).pack
        on_schedule(count, rate, lambda data: publisher.put(pack(data)))


def receive_anywhere(say: Say, count: int, warm_up: int) -> float:
    endpoint = _endpoint()
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
        say(READY)
        pack = msgpack.Packer(autoreset=True).pack
        for _ in range(count):
            publisher.put(pack(READING))


def pull_arrays(say: Say, share: int, size: int) -> tuple[float, float]:
    """With a key of its own, so that the sender says who is to get an array."""
    endpoint = _endpoint()
    key = f"{ARRAYS}/{endpoint.rpartition(':')[2]}"
    with _session(listen=endpoint) as session:
        subscriber = session.declare_subscriber(key, zenoh.handlers.FifoChannel(HELD))
        say((endpoint, key))
        first = 0.0
        for number in range(share + arrays.WARM_UP):
            sample = subscriber.recv()
            assert sample.attachment is not None
            header = msgpack.unpackb(sample.attachment.to_bytes())
            array = numpy.frombuffer(sample.payload.to_bytes(), header["dtype"]).reshape(header["shape"])
            assert array.nbytes == size
            _ = array[-1]
            if number == arrays.WARM_UP - 1:
                first = time.monotonic()
        return first, time.monotonic()


def push_arrays(say: Say, said: Sequence[tuple[str, str]], share: int, size: int) -> None:
    array = numpy.arange(size // 8, dtype=arrays.DTYPE)
    pack = msgpack.Packer(autoreset=True).pack
    with _session(connect=[endpoint for endpoint, _ in said]) as session:
        publishers = [_publisher(session, key) for _, key in said]
        for number in range(share + arrays.WARM_UP):
            for publisher in publishers:
                header = {"number": number, "dtype": array.dtype.str, "shape": array.shape}
                publisher.put(array.tobytes(), attachment=pack(header))


class Peers(PubSub):
    """Without a server between them: each receiver of a fan has an endpoint of its own."""

    __slots__ = ()

    def fan_out(self, scale: Scale) -> Values:
        return fan.fan_out(scale, receive_anywhere, send_to_all)

    def fan_in(self, scale: Scale) -> Values:
        return fan.fan_in(scale, receive_anywhere, send_to_all)


PUB_SUB = Peers(
    where=_endpoint,
    receive=receive,
    send=send,
    echo=echo,
    travel=travel,
    look=look,
    send_on_schedule=send_on_schedule,
)
arrays_one_to_one = arrays.carried(1, pull_arrays, push_arrays)
arrays_one_to_four = arrays.carried(4, pull_arrays, push_arrays)
