"""A queue that four workers share, a process each, every message acknowledged: with one pusher, and with four.

The end is a message: a worker that gets one stops. Once all the pushers are done somebody else sends as many as there
are workers. He starts and connects only then, which takes a third of the time that all the messages take; so what
counts is when a worker had its last message, not when it was told to stop. PUSH/PULL has no queue to share, it deals
messages out in turn; so there each pusher sends every worker one, right behind its last, and a worker waits for all of
them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgpack
import zmq

from benchmarks import alternatives, peers
from benchmarks.process import READY, Running, Say, begin_together
from benchmarks.raw import LOOPBACK
from benchmarks.work_queue import ACKNOWLEDGING, QUEUE
from benchmarks.workload import READING, Contender, Scale, Values, Workload, rates

STOP = {"stop": True}
WORKERS = 4


class Share(NamedTuple):
    """What one worker did, by the clock that all processes have in common: when its first and its last message came."""

    done: int
    first: float
    last: float


def shared(
    scale: Scale,
    pushers: int,
    pull: Callable[..., Share],
    push: Callable[..., None],
    *where: Any,
    stop: Callable[..., None] | None = None,
    most: int = 0,
) -> Values:
    """All messages a second, from the first that a worker had to the last. `most` is for what takes minutes else."""
    count, pushers = min(WORKERS, scale.blades), min(pushers, scale.blades)
    share = min(scale.messages, most or scale.messages) // (pushers * count) * count
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Running(pull, *where, pushers)) for _ in range(count)]
        said = [worker.hear() for worker in workers]
        senders = [stack.enter_context(Running(push, *where, said, share, held=True)) for _ in range(pushers)]
        begin_together(senders)
        for sender in senders:
            sender.result()
        if stop is not None:
            stack.enter_context(Running(stop, *where, count)).result()
        shares = [worker.result() for worker in workers]
    worked = [share for share in shares if share.done]
    took = max(share.last for share in worked) - min(share.first for share in worked)
    return {"msg/s": share * pushers / took}


# --- zq


def pull(say: Say, pushers: int) -> Share:
    with peers.blocking("worker") as peer, peer.puller(QUEUE) as puller:
        say("open")
        done, first, last = 0, 0.0, 0.0
        for message in puller:
            with message:
                if "stop" in message.data:
                    break
                last = time.monotonic()
                first = first or last
                done += 1
        return Share(done, first, last)


def push(say: Say, said: Sequence[Any], count: int) -> None:
    with peers.blocking("pusher") as peer, peer.pusher(QUEUE) as pusher:
        pusher.wait_for_pullers(len(said))
        peers.require_tcp(peer.peers())
        say(READY)
        for _ in range(count):
            pusher.send(READING)
        pusher.flush(until="processed", timeout=60)


def stop(say: Say, workers: int) -> None:
    with peers.blocking("pusher") as peer, peer.pusher(QUEUE) as pusher:
        pusher.send_many([STOP] * workers)
        pusher.flush(until="processed", timeout=60)


# --- by hand


def pull_by_hand(say: Say, pushers: int) -> Share:
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.rcvhwm = 0
        socket.bind(LOOPBACK)
        say(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        unpack = msgpack.unpackb
        done, stops, first, last = 0, 0, 0.0, 0.0
        while stops < pushers:
            if "stop" in unpack(socket.recv()):
                stops += 1
                last = time.monotonic()
                continue
            first = first or time.monotonic()
            done += 1
        return Share(done, first, last)


def push_by_hand(say: Say, endpoints: Sequence[str], count: int) -> None:
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.sndhwm = 0
        for endpoint in endpoints:
            socket.connect(endpoint)
        say(READY)
        pack = msgpack.Packer(autoreset=True).pack
        for _ in range(count):
            socket.send(pack(READING))
        for _ in endpoints:
            socket.send(pack(STOP))


def _workload(name: str, pushers: int, title: str) -> Workload:
    return Workload(
        name=name,
        title=title,
        rounds=3,
        contenders=(
            Contender(
                name="pyzmq PUSH/PULL, no acks", run=lambda scale: shared(scale, pushers, pull_by_hand, push_by_hand)
            ),
            Contender(name="zq", run=lambda scale: shared(scale, pushers, pull, push, stop=stop)),
            *alternatives.SHARING[pushers],
        ),
        targets=rates("zq", {"pyzmq PUSH/PULL, no acks": 0.6, **ACKNOWLEDGING}),
    )


ONE_TO_FOUR = _workload("queue-1-4", 1, "one pusher, four workers that share a queue, an ack each, over TCP")
FOUR_TO_FOUR = _workload("queue-4-4", 4, "four pushers, four workers that share a queue, an ack each, over TCP")
