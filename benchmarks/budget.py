"""Where the time of a start and of a round trip goes: `python -m benchmarks.budget`.

    start        steps of one process, each with everything that it imports; the least of 20 starts
    round trip   marks in both processes by the clock they share, put around what the engine does; medians

The marks cost a tenth of a microsecond each. Neither is held against a target; `python -m benchmarks` is.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

from benchmarks import peers
from benchmarks.process import Running, Say, isolated
from benchmarks.round_trip import BACK, THERE
from benchmarks.start_up import compile_zq
from benchmarks.workload import READING
from zq.engine.engine import Engine
from zq.engine.sockets import Sockets

STARTS = 20
TRIPS, WARM_UP = 3_000, 500

Marks = list[tuple[str, float]]

START = """
import time
times = [time.monotonic()]
{steps}
print(*times)
"""
STEPS = {
    "typing, re, contextlib, enum": "import typing, re, contextlib, enum",
    "msgpack": "import msgpack",
    "pyzmq": "import zmq",
    "the rest of the standard library": "import pathlib, socket, select, threading, signal, json, datetime, resource",
    "zq's own modules": "import zq; zq.Peer",
    "open": "peer = zq.Peer().open()",
    "publish": "peer.publish('benchmark/hello', 'hello')",
    "close": "peer.close()",
}

# What happens on the way, in this order: at whose end, and the mark.
WAY = (
    ("traveller", "send"),
    ("traveller", "to ZeroMQ"),
    ("echo", "woken"),
    ("echo", "frame read"),
    ("echo", "received"),
    ("echo", "to ZeroMQ"),
    ("traveller", "woken"),
    ("traveller", "frame read"),
    ("traveller", "received"),
)


def start() -> dict[str, float]:
    """Seconds of each step, the least of some starts."""
    code = START.format(steps="\n".join(f"{step}; times.append(time.monotonic())" for step in STEPS.values()))
    compile_zq()
    rows: list[list[float]] = []
    with isolated():
        for _ in range(STARTS):
            began = time.monotonic()
            said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
            times = [began, *map(float, said.split())]
            rows.append([after - before for before, after in pairwise(times)])
    return dict(zip(("the interpreter", *STEPS), map(min, zip(*rows, strict=True)), strict=True))


def _marked(marks: Marks) -> Callable[[str], None]:
    """Puts marks around what the engine of this process does; what it returns makes one more."""
    now = time.monotonic
    send, wait, received = Sockets.publish, Sockets.wait, Engine.received

    def mark(name: str) -> None:
        marks.append((name, now()))

    def marked_send(sockets: Sockets, parts: Any) -> None:
        mark("to ZeroMQ")
        send(sockets, parts)

    def marked_wait(sockets: Sockets, *arguments: Any, **named: Any) -> None:
        wait(sockets, *arguments, **named)
        mark("woken")

    def marked_received(engine: Engine, *arguments: Any) -> None:
        mark("frame read")
        received(engine, *arguments)

    for owner, name, marked in (
        (Sockets, "publish", marked_send),
        (Sockets, "wait", marked_wait),
        (Engine, "received", marked_received),
    ):
        setattr(owner, name, marked)
    return mark


def echo(say: Say) -> Marks:
    marks: Marks = []
    mark = _marked(marks)
    with peers.blocking("echo") as peer, peer.subscriber(THERE) as subscriber, peer.publisher(BACK) as publisher:
        say("open")
        publisher.wait_for_subscribers()
        for _ in range(TRIPS):
            data = subscriber.receive().data
            mark("received")
            publisher.send(data)
        publisher.flush()
    return marks


def travel(say: Say) -> Marks:
    marks: Marks = []
    mark = _marked(marks)
    with peers.blocking("traveller") as peer, peer.subscriber(BACK) as subscriber, peer.publisher(THERE) as publisher:
        publisher.wait_for_subscribers()
        for _ in range(TRIPS):
            mark("send")
            publisher.send(READING)
            _ = subscriber.receive().data
            mark("received")
    return marks


def round_trip() -> dict[str, float]:
    """Seconds from each mark to the next, medians of the trips on which nothing else came in between."""
    with isolated(), Running(echo) as other:
        other.hear()
        with Running(travel) as traveller:
            waiting: Marks = traveller.result()
            answering: Marks = other.result()
    marks = sorted([(at, "traveller", name) for name, at in waiting] + [(at, "echo", name) for name, at in answering])
    return steps_of(marks)


def steps_of(marks: list[tuple[float, str, str]]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    trips: list[list[tuple[float, str, str]]] = []
    for at, whose, name in marks:
        if (whose, name) == WAY[0]:
            trips.append([])
        if trips:
            trips[-1].append((at, whose, name))
    for trip in trips[WARM_UP:]:
        times: list[float] = []
        for at, whose, name in trip:
            if len(times) < len(WAY) and (whose, name) == WAY[len(times)]:
                times.append(at)
            elif times and name == "woken" and (whose, name) == WAY[len(times) - 1]:
                times[-1] = at  # it was woken by something else before
        if len(times) == len(WAY):
            for before, after, (whose, name) in zip(times, times[1:], WAY[1:], strict=False):
                found[f"{whose}: {name}"].append(after - before)
            found["in all"].append(times[-1] - times[0])
    return {name: median(times) for name, times in found.items()}


def _show(title: str, steps: dict[str, float], unit: str, factor: float) -> None:
    print(title)
    for name, seconds in steps.items():
        print(f"  {name:<34} {seconds * factor:8.1f} {unit}")


def main() -> None:
    steps = start()
    _show("start of a script that publishes one message", steps | {"in all": sum(steps.values())}, "ms", 1e3)
    _show("round trip over two topics", round_trip(), "us", 1e6)


if __name__ == "__main__":
    main()
