"""Opening what is on a disk, in a thread of its own: an event loop goes on meanwhile, however long the disk takes.

    begun -> open: whoever waits goes on with it
      |  +-> failed: whoever waits is told why
      +-> given up: nobody wants it any more; it is closed again as soon as it is open

Giving up never waits. The end of the process does not wait for the thread either: what a crash at any point of an
opening costs is what it costs a spool (`zq.spool.log`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from zq.engine.engine import Engine
from zq.errors import Closed, Error, Timeout
from zq.handles.steps import Steps, until
from zq.logs import Logger

T = TypeVar("T")
log = Logger("zq.spool")


class Opening(Generic[T]):
    """One of them; begun at once. Thread-safe."""

    def __init__(self, engine: Engine, what: str, open: Callable[[], T], undo: Callable[[T], None]) -> None:
        """`undo` is given what was opened and nobody wants any more; both are called in the thread."""
        self.engine = engine
        self._what = what
        self._open = open
        self._undo = undo
        self._lock = threading.Lock()
        self._found: list[T] = []
        self._error: BaseException | None = None
        self._over = False
        self._given_up = False
        self._thread = threading.Thread(target=self._run, name="zq-opening", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        return self._over

    @property
    def failed(self) -> bool:
        return self._error is not None

    def _run(self) -> None:
        found: list[T] = []
        try:
            found.append(self._open())
        except BaseException as error:  # noqa: BLE001 - whoever waits raises it
            self._error = error
        with self._lock:
            self._over = True
            self._found = found
        if self._given_up:
            self._leave(found)
        self._look()

    def _look(self) -> None:
        """Whoever waits looks again."""
        if not self.engine.closed:
            self.engine.later(lambda: None)

    def _leave(self, found: list[T]) -> None:
        for opened in found:
            try:
                self._undo(opened)
            except (Error, OSError) as error:
                log.warning("%s was opened in vain, and could not be closed in order: %s", self._what, error)

    def give_up(self) -> bool:
        """Nobody wants it. False if it is open, or has failed, already."""
        with self._lock:
            if not self._over:
                self._given_up = True
        if self._given_up:
            self._look()
        return self._given_up

    def result(self) -> T:
        """It is over. Raises what went wrong, or Closed."""
        if self._given_up:
            raise Closed(f"{self._what} was closed before it was open")
        if self._error is not None:
            raise self._error
        return self._found[0]

    def steps(self, deadline: float | None) -> Steps[T]:
        """Waits for it. Raises Timeout, and what `result` raises."""
        if not (yield from until(self.engine, lambda: self._over or self._given_up, deadline)):
            raise Timeout(f"{self._what} is still being opened: its disk is busy; nothing was taken")
        return self.result()
