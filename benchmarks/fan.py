"""Fans: one publisher with eight subscribers, and eight publishers with one subscriber; a process each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import zmq

from benchmarks import alternatives, peers
from benchmarks.one_way import TOPIC, subscribe
from benchmarks.process import READY, Running, Say, begin_together, finish, finish_at
from benchmarks.raw import receive
from benchmarks.workload import READING, Contender, Scale, Values, Workload, rates


def fan_out(scale: Scale, receive: Callable[..., float], send: Callable[..., None], *where: Any) -> Values:
    """All receivers together, the slowest of them counted for each."""
    count, warm_up = scale.messages // scale.blades, scale.warm_up // scale.blades
    with contextlib.ExitStack() as stack:
        receivers = [stack.enter_context(Running(receive, *where, count, warm_up)) for _ in range(scale.blades)]
        said = [receiver.hear() for receiver in receivers]
        sender = stack.enter_context(Running(send, *(where or (said,)), count + warm_up))
        slowest = min(finish(receiver) for receiver in receivers)
        finish(sender)
        return {"msg/s": slowest * scale.blades}


def fan_in(scale: Scale, receive: Callable[..., float], send: Callable[..., None], *where: Any) -> Values:
    """The one receiver's rate, of senders that all begin at once; and the rate of all messages from when those began.

    Who lets senders run ahead receives little at first, and has the processors to himself once they are done.
    """
    count, warm_up = scale.messages, scale.warm_up
    share = (count + warm_up) // scale.blades
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(Running(receive, *where, share * scale.blades - warm_up, warm_up))
        said = receiver.hear()
        senders = [
            stack.enter_context(Running(send, *(where or ([said],)), share, held=True)) for _ in range(scale.blades)
        ]
        begin_together(senders)
        began = time.perf_counter()
        rate, ended = finish_at(receiver, *senders)
        return {"msg/s": rate, "start to end msg/s": share * scale.blades / (ended - began)}


# --- zq


def publish_to_all(say: Say, said: Sequence[Any], count: int) -> None:
    with peers.blocking("publisher") as peer, peer.publisher(TOPIC) as publisher:
        publisher.wait_for_subscribers(len(said))
        peers.require_tcp(peer.peers())
        say(READY)
        for _ in range(count):
            publisher.send(READING)
        publisher.flush(timeout=60)


# --- by hand


def receive_by_hand(say: Say, count: int, warm_up: int) -> float:
    return receive(say, zmq.SUB, count, warm_up)


def send_by_hand(say: Say, endpoints: Sequence[str], count: int) -> None:
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.sndhwm = 0
        socket.xpub_verbose = True  # every subscription, not only the first
        for endpoint in endpoints:
            socket.connect(endpoint)
        for _ in endpoints:
            socket.recv()
        say(READY)
        pack = msgpack.Packer(autoreset=True).pack
        for _ in range(count):
            socket.send(pack(READING))


AHEAD = {"pyzmq PUB/SUB": 1.0, "Zenoh": 1.0, "NATS": 1.0, "Redis pub/sub": 1.0, "MQTT": 1.0}

FAN_OUT = Workload(
    name="fan-out",
    title="one publisher, eight subscribers, 100-byte maps, a process each over TCP; all deliveries a second",
    rounds=3,
    contenders=(
        Contender(name="pyzmq PUB/SUB", run=lambda scale: fan_out(scale, receive_by_hand, send_by_hand)),
        Contender(name="zq", run=lambda scale: fan_out(scale, subscribe, publish_to_all)),
        *alternatives.FAN_OUT,
    ),
    targets=rates("zq", AHEAD),
)
FAN_IN = Workload(
    name="fan-in",
    title="eight publishers, one subscriber, 100-byte maps, a process each over TCP",
    rounds=3,
    contenders=(
        Contender(name="pyzmq PUB/SUB", run=lambda scale: fan_in(scale, receive_by_hand, send_by_hand)),
        Contender(name="zq", run=lambda scale: fan_in(scale, subscribe, publish_to_all)),
        *alternatives.FAN_IN,
    ),
    targets=rates("zq", AHEAD),
)
