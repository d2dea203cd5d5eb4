"""Leaving a `with` block: what was opened is closed, and an exception under way is not hidden."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self

from zq.errors import Undelivered
from zq.handles.session import LEAVING
from zq.handles.steps import Timeout


def leave(close: Callable[..., None], error: BaseException | None, timeout: float) -> None:
    """Closes; with an exception under way briefly, and what that raises becomes a note of it."""
    if error is None:
        close(timeout=timeout)
        return
    try:
        close(timeout=LEAVING)
    except Undelivered as undelivered:
        error.add_note(f"zq: {undelivered}")


class Closing:
    """Whoever is entered is open already, and is closed when it is left."""

    @abstractmethod
    def close(self, *, timeout: Timeout = 5.0) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave(self.close, error, 5.0)
