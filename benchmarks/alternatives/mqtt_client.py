"""MQTT by paho-mqtt and mosquitto, QoS 0: the broker forgets. Callbacks in paho's own thread, as it recommends."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgpack
import paho.mqtt.client as mqtt

from benchmarks import servers
from benchmarks.alternatives.jobs import PubSub
from benchmarks.process import READY, Say
from benchmarks.schedule import on_schedule
from benchmarks.workload import READING

THERE, BACK = "benchmark/there", "benchmark/back"
MOST = 100_000  # messages counted
WAIT = 50.0  # s


def _connect(port: int) -> mqtt.Client:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.max_queued_messages_set(0)
    client.connect(servers.HOST, port)
    return client


def _subscribe(client: mqtt.Client, topic: str) -> None:
    subscribed: queue.SimpleQueue[None] = queue.SimpleQueue()
    client.on_subscribe = lambda *_: subscribed.put(None)
    client.loop_start()
    client.subscribe(topic)
    subscribed.get(timeout=WAIT)


def receive(say: Say, port: int, count: int, warm_up: int) -> float:
    client = _connect(port)
    done: queue.SimpleQueue[float] = queue.SimpleQueue()
    state = [0, 0.0]

    def on_message(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        msgpack.unpackb(message.payload)
        state[0] += 1
        if state[0] == warm_up:
            state[1] = time.perf_counter()
        elif state[0] == warm_up + count:
            done.put(count / (time.perf_counter() - state[1]))

    client.on_message = on_message
    _subscribe(client, THERE)
    say("open")
    rate = done.get(timeout=WAIT)
    client.disconnect()
    client.loop_stop()
    return rate


def send(say: Say, port: int, count: int) -> None:
    client = _connect(port)
    client.loop_start()
    say(READY)
    pack = msgpack.Packer(autoreset=True).pack
    for _ in range(count):
        last = client.publish(THERE, pack(READING))
    last.wait_for_publish(WAIT)
    client.disconnect()
    client.loop_stop()


def echo(say: Say, port: int, count: int) -> None:
    client = _connect(port)
    pack = msgpack.Packer(autoreset=True).pack
    left: queue.SimpleQueue[None] = queue.SimpleQueue()

    def on_message(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        client.publish(BACK, pack(msgpack.unpackb(message.payload)))
        left.put(None)

    client.on_message = on_message
    _subscribe(client, THERE)
    say("open")
    for _ in range(count):
        left.get(timeout=WAIT)
    client.publish(BACK, b"", qos=1).wait_for_publish(WAIT)  # behind the last answer
    client.disconnect()
    client.loop_stop()


def travel(say: Say, port: int, count: int) -> list[float]:
    client = _connect(port)
    arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    client.on_message = lambda _client, _data, message: arrived.put(message.payload)
    _subscribe(client, BACK)
    pack = msgpack.Packer(autoreset=True).pack
    times = []
    for _ in range(count):
        started = time.perf_counter()
        client.publish(THERE, pack(READING))
        msgpack.unpackb(arrived.get(timeout=WAIT))
        times.append(time.perf_counter() - started)
    client.disconnect()
    client.loop_stop()
    return times


def look(say: Say, port: int, count: int, see: Callable[[bytes], float]) -> list[float]:
    client = _connect(port)
    found: list[float] = []
    done: queue.SimpleQueue[None] = queue.SimpleQueue()

    def on_message(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        found.append(see(message.payload))
        if len(found) == count:
            done.put(None)

    client.on_message = on_message
    _subscribe(client, THERE)
    say("open")
    done.get(timeout=WAIT)
    client.disconnect()
    client.loop_stop()
    return found


def send_on_schedule(say: Say, port: int, count: int, rate: int) -> None:
    client = _connect(port)
    client.loop_start()
    pack = msgpack.Packer(autoreset=True).pack
    on_schedule(count, rate, lambda data: client.publish(THERE, pack(data)))
    client.publish(BACK, b"", qos=1).wait_for_publish(WAIT)  # behind the last one
    client.disconnect()
    client.loop_stop()


PUB_SUB = PubSub(
    where=partial(servers.port_of, "mosquitto"),
    server="mosquitto",
    most=MOST,
    receive=receive,
    send=send,
    echo=echo,
    travel=travel,
    look=look,
    send_on_schedule=send_on_schedule,
)
