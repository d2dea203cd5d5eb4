"""The libraries and servers one could use instead, each doing the same jobs as its own documentation recommends."""

from __future__ import annotations

import importlib
import importlib.util

from benchmarks import servers
from benchmarks.workload import Contender, Scale, Values


def contender(name: str, adapter: str, job: str, *, package: str, server: str = "") -> Contender:
    """The `job` of a module beside this one, imported only where it runs."""

    def run(scale: Scale) -> Values:
        done: Values = getattr(importlib.import_module(f"benchmarks.alternatives.{adapter}"), job)(scale)
        return done

    def absent() -> str:
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is not installed: make bench-servers"
        if server and not servers.is_installed(server):
            return f"{server} is not installed: make bench-servers"
        return ""

    return Contender(name=name, run=run, absent=absent)


ZMQ_ASYNCIO = contender("zmq.asyncio", "zmq_asyncio", "one_way", package="zmq")
ONE_WAY = (
    ZMQ_ASYNCIO,
    contender("Zenoh", "zenoh_peers", "one_way", package="zenoh"),
    contender("NATS", "nats_client", "one_way", package="nats", server="nats"),
    contender("Redis pub/sub", "redis_client", "one_way", package="redis", server="redis"),
    contender("MQTT", "mqtt_client", "one_way", package="paho", server="mosquitto"),
)
FAN_OUT, FAN_IN = (
    (
        contender("Zenoh", "zenoh_peers", job, package="zenoh"),
        contender("NATS", "nats_client", job, package="nats", server="nats"),
        contender("Redis pub/sub", "redis_client", job, package="redis", server="redis"),
        contender("MQTT", "mqtt_client", job, package="paho", server="mosquitto"),
    )
    for job in ("fan_out", "fan_in")
)
WORK_QUEUE = (
    contender("Redis streams", "redis_client", "work_queue", package="redis", server="redis"),
    contender("JetStream", "nats_client", "work_queue", package="nats", server="nats"),
    contender("RabbitMQ", "rabbitmq_client", "work_queue", package="pika", server="rabbitmq"),
)
LATENCY = (
    contender("Zenoh", "zenoh_peers", "latency", package="zenoh"),
    contender("NATS", "nats_client", "latency", package="nats", server="nats"),
    contender("Redis pub/sub", "redis_client", "latency", package="redis", server="redis"),
    contender("MQTT", "mqtt_client", "latency", package="paho", server="mosquitto"),
)
ROUND_TRIP = (
    contender("Zenoh", "zenoh_peers", "round_trip", package="zenoh"),
    contender("NATS", "nats_client", "round_trip", package="nats", server="nats"),
    contender("Redis pub/sub", "redis_client", "round_trip", package="redis", server="redis"),
    contender("MQTT", "mqtt_client", "round_trip", package="paho", server="mosquitto"),
    contender("RabbitMQ", "rabbitmq_client", "round_trip", package="pika", server="rabbitmq"),
)
SHARING = {
    pushers: (
        contender("Redis streams", "redis_client", job, package="redis", server="redis"),
        contender("RabbitMQ", "rabbitmq_client", job, package="pika", server="rabbitmq"),
    )
    for pushers, job in ((1, "one_to_four"), (4, "four_to_four"))
}
DURABLE = (
    contender("Redis streams, appendfsync always", "redis_client", "durable", package="redis", server="redis-durable"),
    contender("JetStream, not synced", "nats_client", "durable", package="nats", server="nats"),
)
ALL = {*DURABLE, *SHARING[1], *SHARING[4], *ONE_WAY, *FAN_OUT, *FAN_IN, *WORK_QUEUE, *ROUND_TRIP, *LATENCY}
