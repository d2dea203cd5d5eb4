"""The libraries and servers one could use instead, each doing the same jobs as its own documentation recommends."""

from __future__ import annotations

import importlib
import importlib.util
from operator import attrgetter

from benchmarks import servers
from benchmarks.workload import Contender, Scale, Values


def contender(name: str, adapter: str, job: str, *, package: str, server: str = "") -> Contender:
    """The `job` of a module beside this one, which may be a method's; imported only where it runs."""

    def run(scale: Scale) -> Values:
        done: Values = attrgetter(job)(importlib.import_module(f"benchmarks.alternatives.{adapter}"))(scale)
        return done

    def absent() -> str:
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed: make bench-servers"
        if server and not servers.is_installed(server):
            return f"{server} is not installed: make bench-servers"
        return ""

    return Contender(name=name, run=run, absent=absent)


def _pub_sub(job: str) -> tuple[Contender, ...]:
    """All libraries that publish and subscribe."""
    return tuple(
        contender(name, adapter, f"PUB_SUB.{job}", package=package, server=server)
        for name, adapter, package, server in (
            ("Zenoh", "zenoh_peers", "zenoh", ""),
            ("NATS", "nats_client", "nats", "nats"),
            ("Redis pub/sub", "redis_client", "redis", "redis"),
            ("MQTT", "mqtt_client", "paho", "mosquitto"),
        )
    )


def _queue(job: str) -> tuple[Contender, ...]:
    """All that have queues with acknowledgements."""
    return (
        contender("Redis streams", "redis_client", job, package="redis", server="redis"),
        contender("JetStream", "nats_client", job, package="nats", server="nats"),
        contender("RabbitMQ", "rabbitmq_client", job, package="pika", server="rabbitmq"),
    )


ONE_WAY = (contender("zmq.asyncio", "zmq_asyncio", "one_way", package="zmq"), *_pub_sub("one_way"))
FAN_OUT, FAN_IN = _pub_sub("fan_out"), _pub_sub("fan_in")
LATENCY, BUSY, PROCESSOR = _pub_sub("latency"), _pub_sub("busy"), _pub_sub("processor")
ROUND_TRIP = (
    *_pub_sub("round_trip"),
    contender("RabbitMQ", "rabbitmq_client", "round_trip", package="pika", server="rabbitmq"),
)
WORK_QUEUE = _queue("work_queue")
SHARING = {pushers: _queue(job) for pushers, job in ((1, "one_to_four"), (4, "four_to_four"))}
ARRAYS = {
    workers: (contender("Zenoh", "zenoh_peers", job, package="zenoh"),)
    for workers, job in ((1, "arrays_one_to_one"), (4, "arrays_one_to_four"))
}
DURABLE = (
    contender("Redis streams, appendfsync always", "redis_client", "durable", package="redis", server="redis-durable"),
    contender("JetStream, not synced", "nats_client", "durable", package="nats", server="nats"),
)
ALL = {
    *(contender for one in (*SHARING.values(), *ARRAYS.values()) for contender in one),
    *(*ONE_WAY, *FAN_OUT, *FAN_IN, *LATENCY, *BUSY, *PROCESSOR, *ROUND_TRIP, *WORK_QUEUE, *DURABLE),
}
