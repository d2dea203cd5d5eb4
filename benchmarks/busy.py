"""Receivers and senders that have work of their own, and what a message costs in processor time.

`busy`: the subscriber computes in Python for 100 us a message, and holds the interpreter meanwhile. What it reaches of
10,000 a second is what the library leaves it: its own threads need the interpreter too.

`processor`: seconds of processor time, of all threads and both ends, a million messages take one way, with those of the
server in between if there is one. Rates hide what a second core does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import msgpack
import zmq

from benchmarks import alternatives, one_way, peers, raw
from benchmarks.process import Running, Say, finish
from benchmarks.workload import Compare, Contender, Scale, Target, Values, Workload

WORK = 100e-6  # s of pure Python a message


def work() -> None:
    """Holds the interpreter, as a loop over numbers does, for WORK seconds of this thread's own processor time."""
    clock = time.thread_time
    until = clock() + WORK
    while clock() < until:
        pass


def subscribe_busily(say: Say, count: int) -> float:
    """Messages a second."""
    with peers.blocking("subscriber") as peer, peer.subscriber(one_way.TOPIC) as subscriber:
        say("open")
        messages = iter(subscriber)
        _ = next(messages).data
        started = time.perf_counter()
        for message in islice(messages, count - 1):
            _ = message.data
            work()
        return (count - 1) / (time.perf_counter() - started)


def receive_busily(say: Say, count: int) -> float:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.rcvhwm = 0
        socket.subscribe(b"")
        socket.bind(raw.LOOPBACK)
        say(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        unpack = msgpack.unpackb
        unpack(socket.recv())
        started = time.perf_counter()
        for _ in range(count - 1):
            unpack(socket.recv())
            work()
        return (count - 1) / (time.perf_counter() - started)


def busy(scale: Scale) -> Values:
    count = scale.messages // 20
    with Running(subscribe_busily, count) as receiver:
        receiver.hear()
        with Running(one_way.publish, count) as sender:
            return {"msg/s": finish(receiver, sender)}


def busy_by_hand(scale: Scale) -> Values:
    count = scale.messages // 20
    with Running(receive_busily, count) as receiver:
        endpoint = receiver.hear()
        with Running(raw.send, zmq.XPUB, endpoint, count) as sender:
            return {"msg/s": finish(receiver, sender)}


def costed(say: Say, role: Callable[..., Any], *arguments: Any) -> float:
    """Processor seconds of this process for the role alone, not for starting Python."""
    before = time.process_time()
    role(say, *arguments)
    return time.process_time() - before


def cost(scale: Scale) -> Values:
    with Running(costed, one_way.subscribe, scale.messages, scale.warm_up) as receiver:
        receiver.hear()
        with Running(costed, one_way.publish, scale.messages + scale.warm_up) as sender:
            return million(scale, receiver.result() + sender.result())


def cost_by_hand(scale: Scale) -> Values:
    with Running(costed, raw.receive, zmq.SUB, scale.messages, scale.warm_up) as receiver:
        endpoint = receiver.hear()
        with Running(costed, raw.send, zmq.XPUB, endpoint, scale.messages + scale.warm_up) as sender:
            return million(scale, receiver.result() + sender.result())


def million(scale: Scale, seconds: float) -> Values:
    return {"CPU s": seconds / (scale.messages + scale.warm_up) * 1e6}


BUSY = Workload(
    name="busy",
    title="a subscriber that computes in Python for 100 us a message; 10,000 a second is all there is",
    rounds=3,
    contenders=(
        Contender(name="pyzmq PUB/SUB", run=busy_by_hand),
        Contender(name="zq", run=busy),
        *alternatives.BUSY,
    ),
    targets=(
        Target(
            contender="zq", metric="msg/s", compare=Compare.RATIO, baseline="pyzmq PUB/SUB", at_least=True, limit=0.9
        ),
    ),
)
PROCESSOR = Workload(
    name="processor",
    title="processor time of both ends, and of a server between them, for a million messages, one way",
    rounds=3,
    contenders=(
        Contender(name="pyzmq PUB/SUB", run=cost_by_hand),
        Contender(name="zq", run=cost),
        *alternatives.PROCESSOR,
    ),
    targets=(),
)
