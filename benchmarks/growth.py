"""How zq does when there is more of everything: topics, queues, workers, filters, peers.

Each figure is that of the same work with more around it: messages go to all the topics or queues in turn; all the
workers take part; of all the filters one matches. What it costs to have more is the figure over that with one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import Callable

import zq.aio
from benchmarks import idle, peers
from benchmarks.process import Running, Say, finish
from benchmarks.workload import READING, Compare, Contender, Scale, Target, Values, Workload

MANY = 1_000  # topics, queues, filters
WORKERS = 200
LEFT = 0.5  # of the rate with one of them, at the least


# --- topics and filters


def subscribe(say: Say, filters: int, count: int, warm_up: int) -> float:
    """Messages a second. One filter takes in every topic; the others, of the same subscriber, nothing."""
    others = [f"other/{number}/**" for number in range(filters - 1)]
    with peers.blocking("subscriber") as peer, peer.subscriber("growth/**", *others) as subscriber:
        say("open")
        messages = iter(subscriber)
        for message in itertools.islice(messages, warm_up):
            _ = message.data
        started = time.perf_counter()
        for message in itertools.islice(messages, count):
            _ = message.data
        return count / (time.perf_counter() - started)


def publish(say: Say, topics: int, count: int) -> None:
    with peers.blocking("publisher") as peer:
        publishers = [peer.publisher(f"growth/{number}") for number in range(topics)]
        for publisher in publishers:
            publisher.wait_for_subscribers()
        peers.require_tcp(peer.peers())
        for publisher in itertools.islice(itertools.cycle(publishers), count):
            publisher.send(READING)
        for publisher in publishers:
            publisher.flush(timeout=60)


def published(topics: int, filters: int) -> Callable[[Scale], Values]:
    def run(scale: Scale) -> Values:
        count, warm_up = scale.messages // 4, scale.warm_up // 4
        with Running(subscribe, min(filters, scale.many), count, warm_up) as receiver:
            receiver.hear()
            with Running(publish, min(topics, scale.many), count + warm_up) as sender:
                return {"msg/s": finish(receiver, sender)}

    return run


# --- queues and workers


def pull(say: Say, queues: int, workers: int, count: int) -> float:
    """Messages a second; a coroutine for each of the `workers` of each queue."""
    return asyncio.run(_pull(say, queues, workers, count))


async def _pull(say: Say, queues: int, workers: int, count: int) -> float:
    started, left, over = 0.0, count, asyncio.Event()

    async def work(puller: zq.aio.Puller) -> None:
        nonlocal started, left
        async for message in puller:
            started = started or time.perf_counter()
            message.ack()
            left -= 1
            if not left:
                over.set()

    async with peers.asynchronous("worker") as peer:
        pullers = [peer.puller(f"growth-{number}") for number in range(queues) for _ in range(workers)]
        async with asyncio.TaskGroup() as tasks:
            working = [tasks.create_task(work(puller)) for puller in pullers]
            say("open")
            await over.wait()
            took = time.perf_counter() - started
            for task in working:
                task.cancel()
    return count / took


def push(say: Say, queues: int, workers: int, count: int) -> None:
    with peers.blocking("pusher") as peer:
        pushers = [peer.pusher(f"growth-{number}") for number in range(queues)]
        for pusher in pushers:
            pusher.wait_for_pullers(workers)
        peers.require_tcp(peer.peers())
        for pusher in itertools.islice(itertools.cycle(pushers), count):
            pusher.send(READING)
        for pusher in pushers:
            pusher.flush(until="processed", timeout=60)


def pushed(queues: int, workers: int) -> Callable[[Scale], Values]:
    def run(scale: Scale) -> Values:
        count = scale.messages // 10
        each = min(queues, scale.many), min(workers, scale.many)
        with Running(pull, *each, count) as puller:
            puller.hear()
            with Running(push, *each, count) as pusher:
                return {"msg/s": finish(puller, pusher)}

    return run


# --- peers


def crowd(others: int) -> Callable[[Scale], Values]:
    """An idle peer among so many others."""
    return lambda scale: idle.peers("")(dataclasses.replace(scale, others=min(others, scale.crowd)))


def _kept(contender: str, baseline: str, limit: float = LEFT) -> Target:
    return Target(
        contender=contender, metric="msg/s", compare=Compare.RATIO, baseline=baseline, at_least=True, limit=limit
    )


GROWTH = Workload(
    name="growth",
    title="the rate with more topics, filters, queues and workers, all of them used",
    rounds=3,
    contenders=(
        Contender(name="zq, 1 topic", run=published(1, 1)),
        Contender(name=f"zq, {MANY:,} topics", run=published(MANY, 1)),
        Contender(name=f"zq, {MANY:,} filters", run=published(1, MANY)),
        Contender(name="zq, 1 queue", run=pushed(1, 1)),
        Contender(name=f"zq, {MANY:,} queues", run=pushed(MANY, 1)),
        Contender(name=f"zq, {WORKERS} workers", run=pushed(1, WORKERS)),
    ),
    targets=(
        _kept(f"zq, {MANY:,} filters", "zq, 1 topic"),
        _kept(f"zq, {WORKERS} workers", "zq, 1 queue"),
    ),
)
CROWD = Workload(
    name="crowd",
    title="one idle process among 2, 20 and 200 that all know each other: memory and share of a core",
    rounds=1,
    contenders=(
        Contender(name="zq, 2 peers", run=crowd(1)),
        Contender(name="zq, 20 peers", run=crowd(19)),
        Contender(name="zq, 200 peers", run=crowd(199)),
    ),
    targets=(
        Target(contender="zq, 200 peers", metric="MB", compare=Compare.VALUE, limit=60.0),
        Target(contender="zq, 200 peers", metric="% CPU", compare=Compare.VALUE, limit=2.0),
    ),
)
