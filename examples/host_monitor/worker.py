"""Takes alarms, one at a time, and looks into each."""

from __future__ import annotations

import psutil

import zq
from examples.host_monitor.journal import Journal
from examples.host_monitor.role import from_launcher

LOOK = 0.1  # s spent on an alarm, measuring where the processor's time goes
IDLE = 0.1  # s without an alarm until it looks whether to end


def main() -> None:
    role = from_launcher()
    with (
        zq.Peer(role.name) as peer,
        peer.puller("alarms", prefetch=1) as alarms,
        Journal(role.directory / f"{role.name}.journal") as journal,
    ):
        while not role.stop.is_set():
            try:
                alarm = alarms.receive(timeout=IDLE)
            except zq.Timeout:
                continue
            with alarm:  # acked when the block ends; killed inside it, the alarm goes to the other worker
                number = alarm.data["number"]
                journal.add("began", number)
                psutil.cpu_times_percent(interval=LOOK)
                journal.add("done", number)


if __name__ == "__main__":
    main()
