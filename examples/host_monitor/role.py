"""How the processes of the demo end: when the launcher closes their standard input, or is gone itself."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What the launcher told this process, and the event that says it is time to end."""

    name: str
    directory: Path  # for its journal and counters
    stop: threading.Event


def from_launcher(heard: Callable[[str], object] = lambda text: None) -> Role:
    """Reads the arguments; from then on every line of standard input goes to `heard`, and its end sets `stop`.

    A pipe also ends when the launcher is killed, so no process of the demo outlives it.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    stop = threading.Event()

    def listen() -> None:
        for line in sys.stdin:
            heard(line.rstrip("\n"))
        stop.set()

    threading.Thread(target=listen, name="launcher", daemon=True).start()
    return Role(name=arguments.name, directory=arguments.directory, stop=stop)
