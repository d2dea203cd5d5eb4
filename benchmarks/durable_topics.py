"""Topics that survive a power cut: published, synced by a spool, read by a durable subscription that settles each."""

from __future__ import annotations

from pathlib import Path

import zq
from benchmarks import peers, place
from benchmarks.process import Running, Say, finish
from benchmarks.work_queue import confirmed, settled
from benchmarks.workload import Scale

TOPIC, FILTER, CURSOR = "benchmark-durable/topic", "benchmark-durable/**", "benchmark"
END = "benchmark-durable-topic-end"  # a service
FLUSH = 50.0  # s


def keep(say: Say, directory: str) -> None:
    """A spool in a process of its own, until somebody asks it to end."""
    with peers.blocking("spool") as peer, peer.spool(Path(directory), topics=[FILTER]), peer.replier(END) as replier:
        say("open")
        request = replier.receive()
        assert isinstance(request, zq.Request)
        request.reply()


def publish(say: Say, count: int, warm_up: int, alone: bool) -> float:
    """Messages a second until all of them are synced. Whoever is alone ends the spool."""
    with peers.blocking("publisher") as peer, peer.publisher(TOPIC) as publisher:
        publisher.wait_for_subscribers()
        peers.require_tcp(peer.peers())
        rate = confirmed(publisher, count, warm_up)
        if alone:
            peer.request(END, timeout=FLUSH)
        return rate


def read(say: Say, count: int, warm_up: int) -> float:
    """Messages a second between the last of `warm_up` and the last of `count` that follow."""
    with (
        peers.blocking("reader") as peer,
        peer.subscriber(FILTER, durable=CURSOR, since="beginning") as subscriber,
    ):
        rate = settled(say, subscriber, count, warm_up)
        peer.request(END, timeout=FLUSH)
        return rate


def stored(scale: Scale) -> float:
    """Messages a second that are published and synced."""
    with place.scratch("zq-bench-topics-") as directory, Running(keep, str(directory / "spool")) as spool:
        spool.hear()
        with Running(publish, scale.messages, scale.warm_up, True) as publisher:
            rate: float = finish(publisher, spool)
            return rate


def through_a_stream(scale: Scale) -> float:
    """Messages a second from a publisher to a durable subscription, all three processes at work."""
    with place.scratch("zq-bench-topics-") as directory, Running(keep, str(directory / "spool")) as spool:
        spool.hear()
        with Running(read, scale.messages, scale.warm_up) as reader:
            reader.hear()
            with Running(publish, scale.messages, scale.warm_up, False) as publisher:
                rate: float = finish(reader, publisher, spool)
                return rate
