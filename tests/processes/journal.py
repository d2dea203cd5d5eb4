"""What a process did, in a file that outlives it however it ends: the oracle of these tests stands outside of zq."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


class Journal:
    """Appends rows; each is with the kernel when `add` returns, so that SIGKILL loses none."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, *row: Any) -> None:
        os.write(self._file, json.dumps([time.monotonic(), *row]).encode() + b"\n")  # one clock for the whole machine


def read(path: Path) -> list[list[Any]]:
    """The rows, each with the time in front. A row that was cut off does not count."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
