"""Real processes for the contenders: spawned, bounded in time, gone afterwards, in a realm nobody else sees."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import secrets
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

DEADLINE: Final = 60.0  # s that anything asked of a process may take; ten times what the slowest was seen to need
EXIT: Final = 15.0  # s a process has to end after its last word; a peer may take 5 s to close
ROOT: Final = Path(__file__).resolve().parent.parent  # the zq beside these benchmarks is the one that is measured

SPAWN: Final = multiprocessing.get_context("spawn")  # a forked child would start with our sockets and threads

SILENT: Final = f"said nothing for {DEADLINE:g} s"

Say = Callable[[Any], None]  # what a role tells the benchmark before it returns
READY = "ready"  # what senders say that are connected and have sent nothing


class Failed(Exception):
    """A contender did not finish its round; the text says which process and why."""


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """A host directory and a realm of their own, and no other settings, for every process started inside."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="zq-bench-") as host_directory:
        for setting in [setting for setting in before if setting.startswith("ZQ_")]:
            del os.environ[setting]
        # A realm of its own: other peers on this machine, found over mDNS, would take part in the measurement.
        os.environ.update(ZQ_HOST_DIR=host_directory, ZQ_REALM=f"bench-{secrets.token_hex(4)}")
        paths = [str(ROOT), before.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


class Running:
    """A role at work in a process of its own: `with Running(receive, 1000) as receiver: receiver.result()`.

    The role is a function of a module; its first argument tells the benchmark something (`hear` gets it), what it
    returns is the `result`. Leaving the block waits for its end; after an exception it is killed at once. One that is
    `held` says that it is ready and goes on when it is told to: see `begin_together`.
    """

    def __init__(self, role: Callable[..., Any], *arguments: Any, held: bool = False) -> None:
        self._name = role.__name__
        self.line, self._theirs = SPAWN.Pipe(duplex=held)
        # What it writes to stderr is shown only if it fails.
        self._errors = tempfile.NamedTemporaryFile(prefix="zq-bench-")  # noqa: SIM115, closed by __exit__
        self._process = SPAWN.Process(
            target=_work, args=(role, arguments, self._theirs, self._errors.name, held), daemon=True
        )

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._process.join(EXIT)
        late = self._process.is_alive()
        self._process.kill()
        self._process.join()
        self.line.close()
        with self._errors:
            if late and kind is None:
                raise self.failed(f"returned, but did not end within {EXIT:g} s")

    def hear(self) -> Any:
        """The next thing the role says. Raises `Failed`."""
        return self._next("said")

    def result(self) -> Any:
        """What the role returns, whatever it has said that nobody has heard. Raises `Failed`."""
        return self._next("returned")

    def _next(self, expected: str) -> Any:
        kind = "said"
        while kind == "said":
            if not self.line.poll(DEADLINE):
                raise self.failed(SILENT)
            try:
                kind, value = self.line.recv()
            except EOFError:
                raise self.failed("died") from None
            if kind == expected:
                return value
        raise self.failed(f"{kind} {value}")

    def failed(self, how: str) -> Failed:
        """The exception that says how it failed, and what it had written to stderr."""
        self._errors.seek(0)
        written = self._errors.read().decode(errors="replace")
        return Failed(f"{self._name} {how}\n{written}".rstrip())


def begin_together(held: Sequence[Running]) -> None:
    """Lets them go once all of them are ready: how fast messages flow has nothing to do with how long so many processes
    take to start and to connect."""
    for running in held:
        running.hear()
    for running in held:
        running.line.send(None)


def finish(measuring: Running, *others: Running) -> Any:
    """What `measuring` returns, once all of them have returned. Raises `Failed` as soon as one of them fails."""
    return finish_at(measuring, *others)[0]


def finish_at(measuring: Running, *others: Running) -> tuple[Any, float]:
    """As `finish`, and when that came (`time.perf_counter`)."""
    waiting = {running.line: running for running in (measuring, *others)}
    results = {}
    while waiting:
        ready = wait(waiting, DEADLINE)
        if not ready:
            raise measuring.failed(SILENT)
        for running in [waiting.pop(line) for line in list(waiting) if line in ready]:
            results[running] = running.result(), time.perf_counter()
    return results[measuring]


def processor_seconds(pid: int) -> float:
    """Processor time of all threads of a process so far, to the nanosecond (/proc/PID/stat has steps of 10 ms)."""
    clock = (~pid << 3) | 2  # the clockid of another process, as clock_getcpuclockid(3) makes it on Linux
    return time.clock_gettime(clock)


def _work(role: Callable[..., Any], arguments: tuple[Any, ...], line: Connection, errors: str, held: bool) -> None:
    with Path(errors).open("ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    faulthandler.dump_traceback_later(DEADLINE + EXIT, exit=True)  # ends it even if nobody is left to kill it

    def say(said: Any) -> None:
        line.send(("said", said))
        if held:
            line.recv()

    try:
        line.send(("returned", role(say, *arguments)))
    except BaseException:  # noqa: BLE001, whatever ended it is the report
        line.send(("raised", traceback.format_exc()))
