"""Publishes readings of this machine and pushes an alarm for each that stands out."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import asdict

import zq
from examples.host_monitor.journal import Journal, write_counters
from examples.host_monitor.readings import UNITS, Machine, Threshold
from examples.host_monitor.role import Role, from_launcher

PERIOD = 0.2  # s between readings
LOOK = 0.2  # s between looks whether to end, while dashboard and workers are not there yet
DRAIN = 10.0  # s for the workers to finish the alarms that are left at the end


def main() -> None:
    role = from_launcher()
    host = re.sub(r"[^A-Za-z0-9._:-]", "-", socket.gethostname())
    with zq.Peer(role.name) as peer, Journal(role.directory / f"{role.name}.journal") as journal:
        publishers = {metric: peer.publisher(f"machines/{host}/{metric}") for metric in UNITS}
        alarms = peer.pusher("alarms")
        try:
            measure(role, journal, publishers, alarms)
            for publisher in publishers.values():
                publisher.flush(timeout=DRAIN)
            alarms.flush(until="processed", timeout=DRAIN)
        finally:
            count(role, peer)


def measure(role: Role, journal: Journal, publishers: dict[str, zq.Publisher], alarms: zq.Pusher) -> None:
    """Publishes until the launcher says stop, from when everybody is there."""
    while not role.stop.is_set():
        try:
            for publisher in publishers.values():
                publisher.wait_for_subscribers(timeout=LOOK)
            alarms.wait_for_pullers(2, timeout=LOOK)
        except zq.Timeout:
            continue
        break
    machine = Machine()
    thresholds = {metric: Threshold(metric) for metric in UNITS}
    raised = 0
    due = time.monotonic() + PERIOD
    number = 0
    while not role.stop.wait(max(0.0, due - time.monotonic())):
        due += PERIOD
        number += 1
        for metric, value in machine.read().items():
            publishers[metric].send({"number": number, "value": value, "unit": UNITS[metric]})
            journal.add("published", f"{metric}:{number}")
            alarm = thresholds[metric].judge(value)
            if alarm is not None:
                raised += 1
                alarms.send({"number": raised, **asdict(alarm)})
                journal.add("pushed", raised)


def count(role: Role, peer: zq.Peer) -> None:
    ledger = peer.ledger()
    write_counters(
        role.directory,
        role.name,
        {
            "published": sum(topic.published for topic in ledger.published),
            "pushed": sum(queue.taken for queue in ledger.held),
            "acked": sum(queue.acked for queue in ledger.held),
            "redelivered": sum(queue.redelivered for queue in ledger.held),
            "balanced": ledger.balanced,
        },
    )


if __name__ == "__main__":
    main()
