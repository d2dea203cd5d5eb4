"""Other processes as the tests see them: started, spoken with line by line, and always ended.

The child runs one function of `roles`, or of another module like it; both sides speak JSON, a line each: `say` and
`listen` there, `hear` and `tell` here. A child whose test has gone reads the end of its input, and ends.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
DEADLINE = 20.0  # s for whatever a child was asked for; many times what it takes


class Process:
    """A child that runs `role(*arguments)` of `module`, behind the words of `command`."""

    def __init__(
        self,
        role: str,
        *arguments: Any,
        environment: dict[str, str] | None = None,
        module: str = "tests.processes.roles",
        command: Sequence[str] = (),
    ) -> None:
        self.role = role
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed by `end`
        self._popen = subprocess.Popen(
            [*command, sys.executable, "-m", module, role, json.dumps(arguments)],
            cwd=ROOT,
            env=os.environ | (environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.pid = self._popen.pid
        self._said: queue.Queue[Any] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._said.put(json.loads(line))
        self._said.put(EOFError)

    def hear(self, timeout: float = DEADLINE) -> Any:
        """What it says next. Fails when it ends instead, or says nothing in time."""
        try:
            said = self._said.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"{self.role} said nothing for {timeout} s\n{self.errors()}") from None
        if said is EOFError:
            raise AssertionError(f"{self.role} ended with {self._popen.wait(DEADLINE)}\n{self.errors()}")
        return said

    def tell(self, what: Any = None) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps(what) + "\n")
        self._popen.stdin.flush()

    def send_signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """As an operator does with -9, or the kernel when memory is short."""
        self._popen.kill()
        self._popen.wait(DEADLINE)

    def wait(self, timeout: float = DEADLINE) -> int:
        """Its exit status, once it has ended by itself."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.role} did not end within {timeout} s\n{self.errors()}") from None

    def wait_until_stopped(self) -> None:
        """For one that sends itself SIGSTOP."""
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def is_running_after(self, seconds: float) -> bool:
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def end(self) -> None:
        """Whatever it is doing."""
        self._popen.kill()
        self._popen.wait(DEADLINE)
        self._reader.join(DEADLINE)
        for stream in (self._popen.stdin, self._popen.stdout, self._errors):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass  # a word that it has not read
