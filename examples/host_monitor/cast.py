"""The processes of one run: how they are started, how one is killed, and how the others end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from examples.host_monitor.journal import in_hand, read

WORKERS = ("worker-1", "worker-2")
POLL = 0.01  # s between looks at the processes; a worker has an alarm in hand for 100 ms
TAKEN = 10.0  # s after the end that an alarm is followed which nobody has taken over yet
END = 15.0  # s for a process to end once asked; the sensor waits up to 10 s for the workers


class Cast:
    """The processes, in the order in which they are ended: whoever sends first, whoever receives last."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._orphan: str | None = None  # the alarm that the killed worker had in hand
        self._killed_at: float | None = None
        self.failed: dict[str, str] = {}  # those that did not end as they should, and how

    def start(self) -> None:
        environment = private_realm(self._directory)
        modules = {"sensor": "sensor", **dict.fromkeys(WORKERS, "worker"), "dashboard": "dashboard"}
        for name, module in modules.items():
            with self._errors(name).open("w") as errors:
                self._running[name] = subprocess.Popen(
                    [sys.executable, "-m", f"examples.host_monitor.{module}", name, str(self._directory)],
                    stdin=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env=environment,
                    start_new_session=True,  # Ctrl-C reaches the launcher alone; it ends the others in order
                )

    def run(self, duration: float, asked: threading.Event) -> None:
        """Lets them work for `duration` seconds, or until `asked` to end, and kills a worker half-way.

        Returns early if one of them ends by itself, and late if nobody has taken over what the killed one had in hand.
        """
        began = time.monotonic()
        while time.monotonic() < began + duration + (TAKEN if self._orphan else 0.0) and not asked.wait(POLL):
            if any(process.poll() is not None for process in self._running.values()):
                return
            elapsed = time.monotonic() - began
            if self._killed_at is not None:
                self._follow_the_orphan()
            elif elapsed > duration / 2:
                self._kill_a_worker(busy_only=elapsed < duration * 0.9)

    def _kill_a_worker(self, *, busy_only: bool) -> None:
        """SIGKILL to a worker that has an alarm in hand; to any if none has had one for most of the second half."""
        for name in WORKERS:
            alarm = in_hand(self._journal(name))
            if alarm or not busy_only:
                worker = self._running.pop(name)
                what = f"alarm {alarm}" if alarm else "nothing"
                self._tell(f"kill -9 {worker.pid} ({name}, {what} in hand)")
                worker.kill()
                self._orphan, self._killed_at = alarm, time.monotonic()
                worker.wait()
                return

    def _follow_the_orphan(self) -> None:
        """Says who has got the alarm of the killed worker, once somebody has."""
        for name in WORKERS if self._orphan else ():
            if name in self._running and self._orphan in read([self._journal(name)], "began"):
                assert self._killed_at is not None
                took = time.monotonic() - self._killed_at
                self._tell(f"alarm {self._orphan} went to {name}, {took * 1000:.0f} ms after the kill")
                self._orphan = None

    def _tell(self, text: str) -> None:
        """Has the dashboard show a line: it owns the terminal."""
        dashboard = self._running["dashboard"]
        assert dashboard.stdin is not None
        try:
            dashboard.stdin.write(f"{text}\n")
            dashboard.stdin.flush()
        except BrokenPipeError:
            pass  # it has just ended; `run` notices and says so

    def end(self) -> None:
        """Ends them one after another, each when what it waits for is done; KeyboardInterrupt ends them at once."""
        try:
            for name, process in self._running.items():
                ended_early = process.poll() is not None
                close(process)
                code = process.wait(END)
                if code != 0 or ended_early:
                    errors = self._errors(name).read_text()
                    self.failed[name] = f"ended{' by itself' if ended_early else ''} with status {code}\n{errors}"
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            for name, process in self._running.items():
                if process.poll() is None:
                    self.failed[name] = "was killed before it had ended"
        finally:
            for process in self._running.values():
                process.kill()
                process.wait()

    def _journal(self, name: str) -> Path:
        return self._directory / f"{name}.journal"

    def _errors(self, name: str) -> Path:
        return self._directory / f"{name}.errors"


def close(process: subprocess.Popen[str]) -> None:
    """Closes its standard input, which asks it to end."""
    assert process.stdin is not None
    try:
        process.stdin.close()
    except BrokenPipeError:
        pass  # a line for it was left unwritten: it has ended already


def private_realm(directory: Path) -> Mapping[str, str]:
    """Settings that keep this run apart: TCP and mDNS on the loopback interface only, a host directory of its own."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("ZQ_")}
    return others | {
        "ZQ_REALM": f"host-monitor-{os.getpid()}",
        "ZQ_HOST_DIR": str(directory / "peers"),
        "ZQ_INSECURE": "true",
        "ZQ_INTERFACES": "127.0.0.1",
        "ZQ_DISCOVERY": "host,mdns",
    }
