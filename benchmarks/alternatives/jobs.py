"""The jobs of the workloads, put together from the roles that an adapter writes: one process each, the receiver first.

A role's first argument after `say` is `where` the processes of one run find each other: a server's port, an endpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgpack

from benchmarks import busy, fan, servers
from benchmarks.alternatives.figures import ages, percentiles
from benchmarks.process import Running, finish
from benchmarks.schedule import RATES, WARM_UP
from benchmarks.workload import Scale, Values


def fewer(scale: Scale, most: int) -> Scale:
    """For what takes minutes otherwise: so many messages are counted at the most."""
    messages = min(scale.messages, most)
    return replace(scale, messages=messages, warm_up=min(scale.warm_up, messages // 5))


def rate(scale: Scale, receive: Callable[..., float], send: Callable[..., None], where: Any) -> Values:
    """`receive(say, where, count, warm_up)` returns messages a second, `send(say, where, count)` sends them."""
    with Running(receive, where, scale.messages, scale.warm_up) as receiver:
        receiver.hear()
        with Running(send, where, scale.messages + scale.warm_up) as sender:
            return {"msg/s": finish(receiver, sender)}


def trips(scale: Scale, echo: Callable[..., None], travel: Callable[..., list[float]], where: Any) -> Values:
    """`travel(say, where, count)` returns the seconds that each of its round trips took."""
    warm_up = scale.trips // 10
    with Running(echo, where, scale.trips + warm_up) as other:
        other.hear()
        with Running(travel, where, scale.trips + warm_up) as traveller:
            return percentiles(finish(traveller, other)[warm_up:])


def age(body: bytes) -> float:
    """Seconds since the message was due."""
    found: float = time.monotonic() - msgpack.unpackb(body)["t"]
    return found


def compute(body: bytes) -> float:
    """When the receiver was done with it."""
    msgpack.unpackb(body)
    busy.work()
    return time.perf_counter()


@dataclass(frozen=True, slots=True, kw_only=True)
class PubSub:
    """A library that publishes and subscribes, by its roles: `receive` and `send` (see `rate`), `echo` and `travel`
    (see `trips`), `look(say, where, count, see)`, which returns what `see` makes of each message, and
    `send_on_schedule(say, where, count, rate)`."""

    where: Callable[[], Any]
    receive: Callable[..., float]
    send: Callable[..., None]
    echo: Callable[..., None]
    travel: Callable[..., list[float]]
    look: Callable[..., list[float]]
    send_on_schedule: Callable[..., None]
    server: str = ""  # whose processor time is part of what a message costs
    most: int = 1 << 62  # messages counted

    def one_way(self, scale: Scale) -> Values:
        return rate(fewer(scale, self.most), self.receive, self.send, self.where())

    def fan_out(self, scale: Scale) -> Values:
        return fan.fan_out(fewer(scale, self.most), self.receive, self.send, self.where())

    def fan_in(self, scale: Scale) -> Values:
        return fan.fan_in(fewer(scale, self.most), self.receive, self.send, self.where())

    def round_trip(self, scale: Scale) -> Values:
        return trips(scale, self.echo, self.travel, self.where())

    def latency(self, scale: Scale) -> Values:
        values: dict[str, float] = {}
        for name, a_second in RATES.items():
            where, count = self.where(), int(a_second * (scale.seconds + WARM_UP))
            with Running(self.look, where, count, age) as receiver:
                receiver.hear()
                with Running(self.send_on_schedule, where, count, a_second) as sender:
                    values.update(ages(name, finish(receiver, sender)[int(a_second * WARM_UP) :]))
        return values

    def busy(self, scale: Scale) -> Values:
        where, count = self.where(), scale.messages // 20
        with Running(self.look, where, count, compute) as receiver:
            receiver.hear()
            with Running(self.send, where, count) as sender:
                times = finish(receiver, sender)
                return {"msg/s": (count - 1) / (times[-1] - times[0])}

    def processor(self, scale: Scale) -> Values:
        """Of both ends and of the server between them."""
        scale, where = fewer(scale, self.most), self.where()
        before = self._served()
        with Running(busy.costed, self.receive, where, scale.messages, scale.warm_up) as receiver:
            receiver.hear()
            with Running(busy.costed, self.send, where, scale.messages + scale.warm_up) as sender:
                seconds = receiver.result() + sender.result()
        return busy.million(scale, seconds + self._served() - before)

    def _served(self) -> float:
        return servers.processor_seconds_of(self.server) if self.server else 0.0
