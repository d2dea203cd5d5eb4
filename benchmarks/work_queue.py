"""A queue with an acknowledgement for each message, one pusher and one puller over TCP on the loopback interface.

The baseline acknowledges nothing: PUSH/PULL forgets a message once it is sent. The target says how much of its
speed at-least-once may cost.
"""

from __future__ import annotations

import time
from itertools import islice

import zq
from benchmarks import alternatives, peers, raw
from benchmarks.process import Running, Say, finish
from benchmarks.workload import READING, Contender, Scale, Values, Workload, rates

CONFIRMED = 50.0  # s until what was sent has to be
QUEUE = "benchmark-jobs"
ACKNOWLEDGING = {
    "Redis streams": 3.0,
    "RabbitMQ": 20.0,
}  # those that acknowledge as well, and how much faster zq is to be


def pull(say: Say, count: int, warm_up: int) -> float:
    with peers.blocking("puller") as peer, peer.puller(QUEUE) as puller:
        return settled(say, puller, count, warm_up)


def settled(say: Say, source: zq.Puller | zq.Subscriber, count: int, warm_up: int) -> float:
    """Messages a second between the last of `warm_up` and the last of `count` messages that follow."""
    say("open")
    messages = iter(source)
    for message in islice(messages, warm_up):
        with message:
            pass
    started = time.perf_counter()
    for message in islice(messages, count):
        with message:
            pass
    return count / (time.perf_counter() - started)


def confirmed(sender: zq.Pusher | zq.Publisher, count: int, warm_up: int) -> float:
    """Messages a second, after `warm_up` others, until all of `count` are confirmed."""
    for _ in range(warm_up):
        sender.send(READING)
    sender.flush(timeout=CONFIRMED)
    started = time.perf_counter()
    for _ in range(count):
        sender.send(READING)
    sender.flush(timeout=CONFIRMED)
    return count / (time.perf_counter() - started)


def push(say: Say, count: int) -> None:
    with peers.blocking("pusher") as peer, peer.pusher(QUEUE) as pusher:
        pusher.wait_for_pullers()
        peers.require_tcp(peer.peers())
        for _ in range(count):
            pusher.send(READING)
        pusher.flush(until="processed")


def acknowledged(scale: Scale) -> Values:
    with Running(pull, scale.messages, scale.warm_up) as puller:
        puller.hear()
        with Running(push, scale.messages + scale.warm_up) as pusher:
            return {"msg/s": finish(puller, pusher)}


WORK_QUEUE = Workload(
    name="queue",
    title="push to pull, 100-byte map, one by one, each acknowledged by its with-block, 1:1 over TCP",
    rounds=5,
    contenders=(
        Contender(name="pyzmq PUSH/PULL", run=raw.push_pull),
        Contender(name="zq", run=acknowledged),
        *alternatives.WORK_QUEUE,
    ),
    targets=rates("zq", {"pyzmq PUSH/PULL": 0.6, **ACKNOWLEDGING}),
)
