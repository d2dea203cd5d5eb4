"""Tell everybody who wants to know.

Problem      Several processes want to know what one of them measures. Who they are, and how many, is not the
             publisher's business; some start before it, some are killed.
Topology     one publisher -> topics `plant/<machine>/<quantity>` -> any number of subscribers, each with a filter.
Guarantee    A subscriber that has subscribed before the first message gets every message of its filter, in the order
             sent, and one that cannot is told which are missing (a Gap). A subscriber killed with SIGKILL costs the
             others nothing.
Not          A history: who subscribes later gets what comes later. Work shared between subscribers: everybody gets
             everything; see work_queue.
Seen elsewhere
             MQTT and NATS subjects, Redis pub/sub, Kafka without its log, ZeroMQ PUB/SUB (which loses the first ones).
Run          python -m patterns.publish_subscribe
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import dataclass, field

import zq

ROUNDS = 2_000  # of one message on each topic
TOPICS = ("plant/press/force", "plant/press/celsius", "plant/oven/celsius")
FILTERS = ("plant/**", "plant/*/celsius", "plant/press/*")
EXPECTED = {"plant/**": 3 * ROUNDS, "plant/*/celsius": 2 * ROUNDS, "plant/press/*": 2 * ROUNDS}
PATIENCE = 10.0  # s without any progress after which the demonstration has failed


@dataclass
class Seen:
    """What one subscriber has seen: how many messages, and whether each topic came in order without a hole."""

    count: int = 0
    in_order: bool = True
    gaps: int = 0
    newest: dict[str, int] = field(default_factory=dict)

    def add(self, message: zq.Message) -> None:
        topic, number = str(message.topic), message.data
        self.in_order = self.in_order and number == self.newest.get(topic, -1) + 1
        self.newest[topic] = number
        self.count += 1

    def add_gap(self, gap: zq.Gap) -> None:
        self.gaps += 1


def subscribe(realm: str, chosen: str) -> None:
    """A subscriber: reports what it has seen when all of it is there."""
    seen = Seen()
    with (
        zq.Peer(f"subscriber-{os.getpid()}", realm=realm) as peer,
        peer.subscriber(chosen, on_gap=seen.add_gap) as messages,
        peer.pusher("reports") as reports,
    ):
        while seen.count < EXPECTED[chosen]:
            seen.add(messages.receive(timeout=PATIENCE))
        reports.send({"filter": chosen, "count": seen.count, "in_order": seen.in_order, "gaps": seen.gaps})
        reports.flush(until="processed", timeout=PATIENCE)


def main() -> None:
    realm = f"publish-subscribe-{os.getpid()}"  # so that two runs on one machine do not hear each other
    spawn = multiprocessing.get_context("spawn")
    subscribers = [spawn.Process(target=subscribe, args=(realm, chosen), daemon=True) for chosen in FILTERS]
    victim = spawn.Process(target=subscribe, args=(realm, "plant/**"), daemon=True)
    for process in (*subscribers, victim):
        process.start()
    try:
        with zq.Peer("plant", realm=realm) as peer, peer.puller("reports") as reports:
            publishers = [peer.publisher(topic) for topic in TOPICS]
            publishers[0].wait_for_subscribers(3, timeout=PATIENCE)  # two with plant/**, one with plant/press/*
            publishers[2].wait_for_subscribers(3, timeout=PATIENCE)  # two with plant/**, one with plant/*/celsius
            for number in range(ROUNDS):
                for publisher in publishers:
                    publisher.send(number)
                if number == ROUNDS // 2 and victim.pid is not None:
                    os.kill(victim.pid, signal.SIGKILL)
            seen = collect(reports)
    finally:
        for process in (*subscribers, victim):
            process.kill()
            process.join()
    for chosen, report in seen.items():
        assert report == {"filter": chosen, "count": EXPECTED[chosen], "in_order": True, "gaps": 0}, report
    total = ROUNDS * len(TOPICS)
    print(f"{total} messages, 0 lost: {len(seen)} subscribers saw all of theirs in order, although one more was killed")


def collect(reports: zq.Puller) -> dict[str, dict[str, object]]:
    """The report of each subscriber that was not killed, by its filter."""
    seen: dict[str, dict[str, object]] = {}
    while len(seen) < len(FILTERS):
        with reports.receive(timeout=PATIENCE) as report:
            seen[report.data["filter"]] = report.data
    return seen


if __name__ == "__main__":
    main()
