"""Node's bonjour-service on a host of the LAN: another implementation of mDNS that looks for zq's peers.

It is installed by its name, once, beside what else the tests' environment has.
"""

from __future__ import annotations

import functools
import json
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

from tests.lan.lan import Lan

PACKAGE = "bonjour-service"
INSTALLED = Path(sys.prefix) / "node"  # where pip's packages are too
INSTALL = 60.0  # s; it takes two
END = 5.0  # s that it has to end

# Says a line of JSON for each service that comes or goes; ends with its input.
LOOK = """
const { Bonjour } = require('bonjour-service')
const bonjour = new Bonjour()
const browser = bonjour.find({ type: 'zq' })
for (const what of ['up', 'down'])
  browser.on(what, ({ name, host, port, addresses, txt }) =>
    console.log(JSON.stringify({ what, name, host, port, addresses, txt })))
process.stdin.on('end', () => process.exit(0)).resume()
"""


@functools.cache
def why_not() -> str:
    """What is missing; empty if nothing is. Installs the package if it is not there."""
    missing = [program for program in ("node", "npm") if shutil.which(program) is None]
    if missing:
        return f"{' and '.join(missing)} is missing; install nodejs and npm"
    if (INSTALLED / "node_modules" / PACKAGE).is_dir():
        return ""
    command = ["npm", "install", "--prefix", str(INSTALLED), "--no-package-lock", "--no-audit", "--no-fund", PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL)
    except subprocess.TimeoutExpired:
        return f"npm did not install {PACKAGE} within {INSTALL:g} s"
    return f"npm cannot install {PACKAGE}: {done.stderr.strip()[:300]}" if done.returncode != 0 else ""


class Bonjour:
    """Looks for zq's peers from `with` to its end, on `host`."""

    def __init__(self, lan: Lan, host: int) -> None:
        self._command = [*lan.command(host), "node", "-e", LOOK]
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=INSTALLED, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(json.loads(line))

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def hear(self, what: str, *names: str, timeout: float = 10.0) -> dict[str, dict[str, Any]]:
        """What it says of these services once it has said `what` of each."""
        heard: dict[str, dict[str, Any]] = {}
        deadline = time.monotonic() + timeout
        while heard.keys() != set(names):
            try:
                said = self._said.get(timeout=max(deadline - time.monotonic(), 0.001))
            except queue.Empty:
                raise AssertionError(f"not {what} in {timeout} s: {set(names) - heard.keys()}") from None
            if said["what"] == what:
                heard[said["name"]] = said
        return heard
