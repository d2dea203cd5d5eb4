"""The launcher: starts the processes, kills one, ends the others, and presents the account."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType

from examples.host_monitor.cast import Cast
from examples.host_monitor.journal import Accounts
from examples.host_monitor.report import report


def seconds(text: str) -> float:
    """A duration that somebody typed; ValueError for what is none."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m examples.host_monitor", description="Watch this machine, without a broker."
    )
    default = os.environ.get("DURATION") or "15"
    parser.add_argument("--duration", type=seconds, default=default, metavar="SECONDS", help="default: DURATION, or 15")
    duration = parser.parse_args().duration
    asked = asked_to_end()
    directory = Path(tempfile.mkdtemp(prefix="zq-demo-"))
    print(f"Five processes, no broker, TCP and mDNS on 127.0.0.1 only, {duration:g} s; Ctrl-C ends it.", flush=True)
    cast = Cast(directory)
    try:
        cast.start()
        cast.run(duration, asked)
    finally:
        cast.end()
    accounts = Accounts.of(directory)
    report(directory, accounts)
    for name, why in cast.failed.items():
        print(f"{name} {why}", file=sys.stderr)
    nothing = not asked.is_set() and accounts.readings.sent == 0
    if nothing:
        print("nothing was sent", file=sys.stderr)
    if cast.failed or nothing or accounts.lost:
        print(f"the notes of this run are kept in {directory}", file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    return 0


def asked_to_end() -> threading.Event:
    """Is set by the first Ctrl-C or SIGTERM, for an orderly end; the second raises KeyboardInterrupt."""
    asked = threading.Event()

    def hear(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hear)
    return asked
