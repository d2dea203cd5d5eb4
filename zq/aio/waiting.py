"""Runs the steps of a call as a coroutine."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

from zq.engine.wake import LoopToken
from zq.handles.steps import Steps, Wait

T = TypeVar("T")


async def finish(steps: Steps[T]) -> T:
    """Runs the steps as a coroutine."""
    try:
        wait = next(steps)
        while True:
            try:
                woken = await _sleep(wait)
            except BaseException:
                steps.close()
                raise
            wait = steps.send(woken)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def _sleep(wait: Wait) -> bool:
    token = LoopToken(asyncio.get_running_loop())
    try:
        wait.waiters.add(token)  # within: an interrupt right behind it must not leave a token that swallows a wake
        if wait.ready():
            return True
        if wait.deadline is None:
            await token.future
            return True
        remaining = max(wait.deadline - time.monotonic(), 0.0)
        done, _ = await asyncio.wait({token.future}, timeout=remaining)
        return bool(done) or bool(wait.ready())
    except BaseException:
        if not wait.waiters.leave(token):
            wait.waiters.wake()  # the wake was for somebody who will not look any more
        raise
    finally:
        wait.waiters.leave(token)
