"""avahi-daemon on a host of the LAN, as desktops and printers have it, with a bus and settings of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.lan.lan import Lan
from tests.waiting import eventually

START = 10.0  # s; it takes one to find out that its name is free
BROWSE = 10.0  # s; a browse that ends by itself takes one or two

BUS = """<busconfig>
  <type>system</type>
  <listen>unix:path={directory}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
</busconfig>
"""
SETTINGS = """[server]
host-name=desktop
allow-interfaces=eth0
enable-dbus=yes
[wide-area]
enable-wide-area=no
[publish]
publish-hinfo=no
publish-workstation=no
"""
# `ip netns exec` gives a command mounts of its own: this /run, with a pid file in it, is of no other process.
SCRIPT = """
mount -t tmpfs tmpfs /run && mkdir -p /run/avahi-daemon
dbus-daemon --config-file={directory}/bus.conf --nopidfile --fork
exec avahi-daemon --file={directory}/avahi.conf --no-drop-root --no-chroot --no-rlimits --no-proc-title
"""


def why_not() -> str:
    """What is missing; empty if nothing is."""
    packages = {"avahi-daemon": "avahi-daemon", "avahi-browse": "avahi-utils", "dbus-daemon": "dbus"}
    missing = [package for program, package in packages.items() if shutil.which(program) is None]
    return f"avahi is missing; install {' '.join(missing)}" if missing else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One that was resolved."""

    name: str
    host: str
    address: str
    port: int
    text: str


class Avahi:
    """Runs from `with` to its end, on `host`."""

    def __init__(self, lan: Lan, host: int, directory: Path) -> None:
        self._command = lan.command(host)
        self._directory = directory
        self._environment = os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={directory}/bus"}
        (directory / "bus.conf").write_text(BUS.format(directory=directory))
        (directory / "avahi.conf").write_text(SETTINGS)

    def __enter__(self) -> Self:
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*self._command, "sh", "-c", SCRIPT.format(directory=self._directory)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        log = self._directory / "log"
        eventually(lambda: "startup complete" in log.read_text() or self._process.poll() is not None, START)
        if self._process.poll() is not None:
            raise RuntimeError(f"avahi does not start: {log.read_text()}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()  # the bus ends with the LAN
        self._process.wait(START)

    def browse(self, service: str) -> list[Service]:
        """All of a type that it knows of, resolved."""
        done = subprocess.run(
            [*self._command, "avahi-browse", "--resolve", "--parsable", "--terminate", service],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=BROWSE,
        )
        assert done.returncode == 0, done.stderr
        rows = [line.split(";", 9) for line in done.stdout.splitlines() if line.startswith("=")]
        return [Service(name=row[3], host=row[6], address=row[7], port=int(row[8]), text=row[9]) for row in rows]
