"""Round trip: one message at a time, there on one topic and back on another, two processes over TCP."""

from __future__ import annotations

import time
from itertools import islice

from benchmarks import alternatives, peers, raw
from benchmarks.alternatives.figures import percentiles
from benchmarks.process import Running, Say, finish
from benchmarks.workload import READING, Compare, Contender, Scale, Target, Values, Workload

THERE = "benchmark/there"
BACK = "benchmark/back"


def echo(say: Say, count: int) -> None:
    with (
        peers.blocking("echo") as peer,
        peer.subscriber(THERE) as subscriber,
        peer.publisher(BACK) as publisher,
    ):
        say("open")
        publisher.wait_for_subscribers()
        for message in islice(subscriber, count):
            publisher.send(message.data)
        publisher.flush()


def travel(say: Say, count: int) -> list[float]:
    """The seconds each of `count` round trips took."""
    with (
        peers.blocking("traveller") as peer,
        peer.subscriber(BACK) as subscriber,
        peer.publisher(THERE) as publisher,
    ):
        publisher.wait_for_subscribers()
        peers.require_tcp(peer.peers())
        times = []
        for _ in range(count):
            started = time.perf_counter()
            publisher.send(READING)
            subscriber.receive()
            times.append(time.perf_counter() - started)
        return times


def over_two_topics(scale: Scale) -> Values:
    warm_up = scale.trips // 10
    with Running(echo, scale.trips + warm_up) as other:
        other.hear()
        with Running(travel, scale.trips + warm_up) as traveller:
            return percentiles(finish(traveller, other)[warm_up:])


def request_reply(scale: Scale) -> Values:
    warm_up = scale.trips // 10
    with Running(raw.reply, scale.trips + warm_up) as other:
        endpoint = other.hear()
        with Running(raw.request, endpoint, scale.trips + warm_up) as traveller:
            return percentiles(finish(traveller, other)[warm_up:])


ROUND_TRIP = Workload(
    name="round-trip",
    title="a 100-byte map there and back, one at a time, two processes over TCP",
    rounds=5,
    contenders=(
        Contender(name="pyzmq REQ/REP", run=request_reply),
        Contender(name="zq, two topics", run=over_two_topics),
        *alternatives.ROUND_TRIP,
    ),
    targets=tuple(
        Target(contender="zq, two topics", metric="p50 us", compare=Compare.RATIO, baseline=baseline, limit=limit)
        for baseline, limit in {"pyzmq REQ/REP": 1.7, "Zenoh": 1.0}.items()
    ),
)
