"""The cast of a round: places on hosts, and the processes that fill them one after another."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.nemesis.judge import Life
from tests.processes.process import Process

ANSWER = 75.0  # s a player has for its last flush, which has 60


class Player:
    """One place in the cast. `options` are those of its peers, `command` stands before what runs on its host; with a
    `disk` it has a directory that all its lives share."""

    def __init__(
        self,
        role: str,
        host: int,
        number: int,
        *,
        options: dict[str, Any],
        command: Sequence[str],
        directory: Path,
        disk: bool = False,
    ) -> None:
        self.role, self.host, self._number = role, host, number
        self._disk = [str(directory / f"disk-{number}")] if disk else []
        self._options, self._command, self._directory = options, command, directory
        self.lives: list[Life] = []
        self.process: Process | None = None
        self.stopped = False
        self.before: dict[str, Any] = {}  # how it was before the first fault, if it has lived since

    def __str__(self) -> str:
        return f"{self.role} on host {self.host}"

    def begin(self) -> None:
        """A new life, with a stream and a journal of its own; nothing if it lives."""
        if self.process is not None:
            return
        stream = self._number + 100 * len(self.lives)
        journal, private = self._directory / f"{self.role}-{stream}", self._directory / f"host-{stream}"
        private.mkdir(mode=0o700)
        self.process = Process(
            self.role,
            self._options,
            stream,
            str(journal),
            *self._disk,
            module="tests.nemesis.roles",
            command=self._command,
            environment={"ZQ_HOST_DIR": str(private)},
        )
        self.lives.append(Life(role=self.role, stream=stream, journal=journal))
        self.before = {}

    def kill(self) -> None:
        """As the kernel does when memory is short."""
        if self.process is not None:
            self.process.end()
            self.process, self.stopped = None, False
            self.lives[-1].alive = False

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)
            self.stopped = True

    def go_on(self) -> None:
        if self.process is not None and self.stopped:
            self.process.send_signal(signal.SIGCONT)
            self.stopped = False

    def tell(self, word: str | None) -> None:
        assert self.process is not None
        self.process.tell(word)

    def hear(self, wanted: str, timeout: float = ANSWER) -> dict[str, Any]:
        """The next thing it says that has `wanted`; fails when it has ended instead, with its last words."""
        assert self.process is not None
        while True:
            said = self.process.hear(timeout)
            if isinstance(said, dict) and wanted in said:
                return said

    def look(self) -> dict[str, Any]:
        self.tell("look")
        return self.hear("others")

    def leave(self) -> int:
        """In good order; its exit status."""
        assert self.process is not None
        self.tell(None)
        status = self.process.wait(ANSWER)
        self.process.end()
        self.process = None
        return status
