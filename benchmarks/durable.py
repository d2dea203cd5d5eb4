"""Messages that survive a power cut: stored and confirmed, and through the store to a consumer that acknowledges each.

Every contender keeps its data on the same disk (`place`), syncs before it confirms (JetStream does not: that is its
default), and confirms as many at a time as its documentation recommends for throughput. What the disk takes for one
fdatasync is measured first, in every round.

Of a consumer that catches up with a backlog it is measured what that costs the producer beside it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgpack

import zq
from benchmarks import alternatives, durable_topics, peers, place
from benchmarks.process import Running, Say, finish
from benchmarks.work_queue import confirmed, settled
from benchmarks.workload import READING, Compare, Contender, Scale, Target, Values, Workload

QUEUE = "benchmark-durable"
END = "benchmark-durable-end"  # a service
ONE_BY_ONE, IN_LISTS, THROUGH, ALONE = "one by one msg/s", "in lists msg/s", "to a consumer msg/s", "one alone us"
REDIS, JETSTREAM = "Redis streams, appendfsync always", "JetStream, not synced"
SYNCS = 200  # of 4 KiB, one after another
LIST = 10_000  # messages in one call of send_many
SINGLE = 200  # messages that are waited for one by one
BATCH = 500  # of SQLite's rows in one transaction; Redis gets as many in one pipeline
FLUSH = 50.0  # s
SQLITE_MOST = 100_000  # messages counted


def fdatasync(scale: Scale) -> Values:
    """One append of a page and its fdatasync."""
    times = []
    with place.scratch("zq-bench-sync-") as directory:
        file = os.open(directory / "file", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            for _ in range(SYNCS):
                started = time.perf_counter()
                os.write(file, os.urandom(4096))
                os.fdatasync(file)
                times.append(time.perf_counter() - started)
        finally:
            os.close(file)
    return {ALONE: median(times) * 1e6}


# --- zq


def keep(say: Say, directory: str) -> None:
    """A spool in a process of its own, until somebody asks it to end."""
    with peers.blocking("spool") as peer, peer.spool(Path(directory), queues=[QUEUE]), peer.replier(END) as replier:
        say("open")
        request = replier.receive()
        assert isinstance(request, zq.Request)
        request.reply()


def end(peer: zq.Peer) -> None:
    """Ends the spool."""
    peer.request(END, timeout=FLUSH)


def push_one_by_one(say: Say, count: int, warm_up: int) -> float:
    with peers.blocking("pusher") as peer, peer.pusher(QUEUE) as pusher:
        pusher.wait_for_pullers()
        peers.require_tcp(peer.peers())
        rate = confirmed(pusher, count, warm_up)
        end(peer)
        return rate


def push_lists(say: Say, count: int, warm_up: int) -> float:
    with peers.blocking("pusher") as peer, peer.pusher(QUEUE) as pusher:
        pusher.wait_for_pullers()
        pusher.send_many([READING] * warm_up)
        pusher.flush(timeout=FLUSH)
        items = [READING] * min(LIST, count)
        started = time.perf_counter()
        for _ in range(count // len(items)):
            pusher.send_many(items)
        pusher.flush(timeout=FLUSH)
        taken = time.perf_counter() - started
        end(peer)
        return count // len(items) * len(items) / taken


def push_and_wait(say: Say, count: int) -> list[float]:
    times = []
    with peers.blocking("pusher") as peer, peer.pusher(QUEUE) as pusher:
        pusher.wait_for_pullers()
        for _ in range(count):
            started = time.perf_counter()
            pusher.send(READING)
            pusher.flush(timeout=FLUSH)
            times.append(time.perf_counter() - started)
        end(peer)
    return times[count // 10 :]


def push_and_leave(say: Say, count: int) -> None:
    with peers.blocking("pusher") as peer, peer.pusher(QUEUE) as pusher:
        pusher.wait_for_pullers()
        for _ in range(count):
            pusher.send(READING)
        pusher.flush(timeout=FLUSH)


def pull(say: Say, count: int, warm_up: int) -> float:
    with peers.blocking("puller") as peer:
        with peer.puller(QUEUE) as puller:
            rate = settled(say, puller, count, warm_up)
        end(peer)
        return rate


def _with_a_spool(scale: Scale, role: Callable[..., Any], *arguments: Any) -> Any:
    """What the role returns beside a new spool."""
    with place.scratch("zq-bench-spool-") as directory, Running(keep, str(directory / "spool")) as spool:
        spool.hear()
        with Running(role, *arguments) as running:
            return finish(running, spool)


def through_a_spool(scale: Scale) -> float:
    """Messages a second from a pusher to a puller, all three processes at work."""
    with place.scratch("zq-bench-spool-") as directory, Running(keep, str(directory / "spool")) as spool:
        spool.hear()
        with Running(pull, scale.messages, scale.warm_up) as puller:
            puller.hear()
            with Running(push_and_leave, scale.messages + scale.warm_up) as pusher:
                rate: float = finish(puller, pusher, spool)
                return rate


def stored(scale: Scale) -> Values:
    return {
        ONE_BY_ONE: _with_a_spool(scale, push_one_by_one, scale.messages, scale.warm_up),
        IN_LISTS: _with_a_spool(scale, push_lists, scale.messages, scale.warm_up),
        ALONE: median(_with_a_spool(scale, push_and_wait, min(SINGLE, scale.trips))) * 1e6,
        THROUGH: through_a_spool(scale),
    }


def published(scale: Scale) -> Values:
    """The same of topics: through a stream to a durable subscription."""
    return {ONE_BY_ONE: durable_topics.stored(scale), THROUGH: durable_topics.through_a_stream(scale)}


# --- SQLite


def sqlite(scale: Scale) -> Values:
    """One table, rows inserted and deleted, as a queue is built on it: in one process, WAL, synchronous=FULL."""
    count = min(scale.messages, SQLITE_MOST)
    pack = msgpack.Packer(autoreset=True).pack
    values: dict[str, float] = {}
    with place.scratch("zq-bench-sqlite-") as directory:
        connection = sqlite3.connect(directory / "queue.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE queue (id INTEGER PRIMARY KEY, data BLOB)")
        for metric, at_once in ((ONE_BY_ONE, BATCH), (IN_LISTS, LIST)):
            started = time.perf_counter()
            for at in range(0, count, at_once):
                connection.execute("BEGIN")
                rows = [(pack(READING),) for _ in range(min(at_once, count - at))]
                connection.executemany("INSERT INTO queue (data) VALUES (?)", rows)
                connection.execute("COMMIT")
            values[metric] = count / (time.perf_counter() - started)
        times = []
        for _ in range(min(SINGLE, scale.trips)):
            started = time.perf_counter()
            connection.execute("INSERT INTO queue (data) VALUES (?)", (pack(READING),))
            times.append(time.perf_counter() - started)
        values[ALONE] = median(times) * 1e6
        connection.execute("DELETE FROM queue")
        started = time.perf_counter()
        for at in range(0, count, BATCH):
            rows = [(pack(READING),) for _ in range(min(BATCH, count - at))]
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO queue (data) VALUES (?)", rows)
            connection.execute("COMMIT")
            connection.execute("BEGIN")
            found = connection.execute("SELECT id, data FROM queue ORDER BY id LIMIT ?", (BATCH,)).fetchall()
            for _, data in found:
                msgpack.unpackb(data)
            connection.executemany("DELETE FROM queue WHERE id = ?", [(id,) for id, _ in found])
            connection.execute("COMMIT")
        values[THROUGH] = count / (time.perf_counter() - started)
        connection.close()
    return values


def _over(contender: str, metric: str, limit: float, baseline: str = "") -> Target:
    compare = Compare.RATIO if baseline else Compare.VALUE
    return Target(
        contender=contender, metric=metric, compare=compare, baseline=baseline, at_least=True, limit=limit
    )  # fmt: skip


DURABLE = Workload(
    name="durable",
    title="100-byte maps stored, synced and confirmed, and through the store to a consumer that acknowledges each",
    rounds=3,
    contenders=(
        Contender(name="fdatasync of the disk", run=fdatasync),
        Contender(name="SQLite WAL, synchronous=FULL", run=sqlite),
        Contender(name="zq", run=stored),
        Contender(name="zq, topics", run=published),
        *alternatives.DURABLE,
    ),
    targets=(
        _over("zq", ONE_BY_ONE, 200_000),
        _over("zq", IN_LISTS, 500_000),
        _over("zq", THROUGH, 100_000),
        Target(contender="zq", metric=ALONE, compare=Compare.EXCESS, baseline="fdatasync of the disk", limit=1_000),
        _over("zq", ONE_BY_ONE, 5.0, JETSTREAM),
        _over("zq", ONE_BY_ONE, 3.0, REDIS),
        _over("zq", THROUGH, 5.0, JETSTREAM),
        _over("zq", THROUGH, 3.0, REDIS),
    ),
)
