"""The baselines: what a good programmer writes by hand with pyzmq and msgpack. No receipts, no discovery, no repair.

They get the best they can have: one frame a message, a Packer that is kept, no high-water marks (libzmq then never
blocks and never drops), the address of the other side. Receivers bind, so that senders know where to connect.
"""

from __future__ import annotations

import time

import msgpack
import zmq

from benchmarks.process import Running, Say, finish
from benchmarks.workload import READING, Scale, Values

LOOPBACK = "tcp://127.0.0.1:*"
NO_CURVE = (b"", b"")  # public and secret key of both ends; none


def receive(say: Say, kind: int, count: int, warm_up: int, keys: tuple[bytes, bytes] = NO_CURVE) -> float:
    """Messages a second between the last of `warm_up` and the last of `count` messages that follow."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.rcvhwm = 0
        if kind == zmq.SUB:
            socket.subscribe(b"")
        _lock(socket, keys, server=True)
        socket.bind(LOOPBACK)
        say(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        unpack = msgpack.unpackb
        for _ in range(warm_up):
            unpack(socket.recv())
        started = time.perf_counter()
        for _ in range(count):
            unpack(socket.recv())
        return count / (time.perf_counter() - started)


def send(say: Say, kind: int, endpoint: str, count: int, keys: tuple[bytes, bytes] = NO_CURVE) -> None:
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.sndhwm = 0
        _lock(socket, keys, server=False)
        socket.connect(endpoint)
        if kind == zmq.XPUB:
            socket.recv()  # the subscription: before it, everything sent is dropped
        pack = msgpack.Packer(autoreset=True).pack
        for _ in range(count):
            socket.send(pack(READING))


def _lock(socket: zmq.Socket[bytes], keys: tuple[bytes, bytes], *, server: bool) -> None:
    """CURVE with one pair for both ends, which costs what two pairs cost."""
    public, secret = keys
    if not public:
        return
    socket.curve_publickey, socket.curve_secretkey = public, secret
    if server:
        socket.curve_server = True
    else:
        socket.curve_serverkey = public


def publish_subscribe(scale: Scale) -> Values:
    return _one_way(zmq.SUB, zmq.XPUB, scale)


def publish_subscribe_curve(scale: Scale) -> Values:
    return _one_way(zmq.SUB, zmq.XPUB, scale, zmq.curve_keypair())


def push_pull(scale: Scale) -> Values:
    return _one_way(zmq.PULL, zmq.PUSH, scale)


def _one_way(receiving: int, sending: int, scale: Scale, keys: tuple[bytes, bytes] = NO_CURVE) -> Values:
    with Running(receive, receiving, scale.messages, scale.warm_up, keys) as receiver:
        endpoint = receiver.hear()
        with Running(send, sending, endpoint, scale.messages + scale.warm_up, keys) as sender:
            return {"msg/s": finish(receiver, sender)}


def reply(say: Say, count: int) -> None:
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        socket.bind(LOOPBACK)
        say(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        pack, unpack = msgpack.Packer(autoreset=True).pack, msgpack.unpackb
        for _ in range(count):
            socket.send(pack(unpack(socket.recv())))


def request(say: Say, endpoint: str, count: int) -> list[float]:
    """The seconds each of `count` round trips took."""
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.connect(endpoint)
        pack, unpack = msgpack.Packer(autoreset=True).pack, msgpack.unpackb
        times = []
        for _ in range(count):
            started = time.perf_counter()
            socket.send(pack(READING))
            unpack(socket.recv())
            times.append(time.perf_counter() - started)
        return times


def pull_one(say: Say) -> float:
    """When the first message arrived, by the clock all processes of this machine share."""
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.bind(LOOPBACK)
        say(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        msgpack.unpackb(socket.recv())
        return time.monotonic()
