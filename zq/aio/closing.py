"""Leaving an `async with` block: what was opened is closed, and an exception under way is not hidden."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from zq.aio.waiting import finish
from zq.errors import Undelivered
from zq.handles.session import LEAVING
from zq.handles.steps import Steps, Timeout


async def leave(close: Callable[..., Awaitable[None]], error: BaseException | None) -> None:
    """Closes; with an exception under way briefly, and what that raises becomes a note of it."""
    if error is None:
        await close()
        return
    try:
        await close(timeout=0.0 if isinstance(error, asyncio.CancelledError) else LEAVING)
    except Undelivered as undelivered:
        error.add_note(f"zq: {undelivered}")


class Closing:
    """Whoever is entered is open already, and is closed when it is left."""

    @abstractmethod
    async def close(self, *, timeout: Timeout = 5.0) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await leave(self.close, error)


async def opened(handle: Closing, steps: Steps[None]) -> None:
    """Waits until the disk of a handle is open. If that fails, the handle is closed."""
    try:
        await finish(steps)
    except BaseException as error:
        await leave(handle.close, error)
        raise
