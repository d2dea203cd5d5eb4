"""`zq spool` as a process: started, and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.cli.patient import ZQ

DEADLINE = 60  # s for any one command; they take seconds

Start = Callable[..., "subprocess.Popen[str]"]


@contextlib.contextmanager
def spools(directory: Path, *of: str) -> Iterator[Start]:
    """What starts one of these queues or topics there, with further options, and returns when it is open. None of them
    outlives it."""
    running: list[subprocess.Popen[str]] = []

    def begin(*options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*ZQ, "spool", *of, "--dir", str(directory), *options], stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stderr is not None
        line = process.stderr.readline()
        while line and "is open" not in line:
            line = process.stderr.readline()  # what it has found
        assert line
        return process

    try:
        yield begin
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
            process.communicate()


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait(DEADLINE)
