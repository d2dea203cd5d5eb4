"""Waiting, written once for both faces.

A method that may have to wait is a generator: it yields a Wait for each time it has to, and returns its result. The
blocking face runs it with `finish`, which sleeps; zq.aio awaits instead. Whoever runs it sends back whether the wait
ended before its deadline.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator
from typing import Literal, NamedTuple, TypedDict, TypeVar

from zq.engine.engine import Condition, Engine
from zq.engine.leader import CallerToken
from zq.engine.wake import ThreadToken, Waiters
from zq.errors import Refused
from zq.info import Gap
from zq.message import Headers
from zq.wire.plan import Lane

T = TypeVar("T")
Timeout = float | None  # seconds; 0 tries once, None waits for ever
Release = Literal["stored", "processed"]
Progress = Callable[[int, int], None]  # bytes read, bytes in all
OnDamage = Callable[[int, int], None]  # first and last number of messages
OnGap = Callable[[Gap], None]


class PublishOptions(TypedDict, total=False):
    """What Publisher.send takes beside the data."""

    headers: Headers | None
    id: str | None
    copy: bool
    timeout: Timeout


class SendOptions(PublishOptions, total=False):
    """What Pusher.send takes beside the data."""

    key: str | None
    lane: Lane
    ttl: float | None  # s
    delay: float  # s


class Wait(NamedTuple):
    """Sleep until woken through `waiters`, unless `ready` already; `deadline` is monotonic seconds, None for never.

    A thread may do the work of `engine` meanwhile, if it is given.
    """

    waiters: Waiters
    ready: Callable[[], object]
    deadline: float | None
    engine: Engine | None = None


Steps = Generator[Wait, bool, T]


def finish(steps: Steps[T]) -> T:
    """Runs the steps in this thread."""
    try:
        wait = next(steps)
        while True:
            wait = steps.send(waiting.sleep(wait))
    except StopIteration as stop:
        result: T = stop.value
        return result


def _sleep(wait: Wait) -> bool:
    waiters, ready, deadline, engine = wait
    token = ThreadToken() if engine is None else CallerToken(engine.leader)
    try:
        waiters.add(token)  # within: an interrupt right behind it must not leave a token that swallows a wake
        woken = bool(ready())
        if not woken:
            if token.wait(None if deadline is None else deadline - time.monotonic()):
                return True  # whoever woke it took it off before
            woken = bool(ready())
        waiters.leave(token)
        return woken
    except BaseException:
        if not waiters.leave(token):
            waiters.wake()  # the wake was for somebody who will not look any more
        raise


class Waiting(threading.local):
    """How a thread tells the time and waits: really, unless a simulation has put its own in place for that thread."""

    simulated = False
    now: Callable[[], float] = staticmethod(time.monotonic)  # s
    random: Callable[[], float] = staticmethod(random.random)  # from 0 to 1
    sleep: Callable[[Wait], bool] = staticmethod(_sleep)


waiting = Waiting()


def deadline_after(timeout: float | None) -> float | None:
    """When `timeout` seconds have passed. Raises Refused for what is no time to wait."""
    if timeout is None:
        return None
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not timeout >= 0:
        raise Refused(f"a timeout is seconds >= 0, or None to wait for ever; not {timeout!r}")
    return waiting.now() + timeout


def until(engine: Engine, test: Callable[[], T], deadline: float | None) -> Steps[T | None]:
    """Waits for `test` to be true in the engine; returns its value, or None when the time ran out."""
    engine.check()
    condition: Condition[T] = engine.when(test)
    try:
        while not condition.holds:
            woken = yield Wait(condition.waiters, lambda: condition.holds or engine.closed, deadline)
            if not condition.holds:
                engine.check()
                if not woken and not engine.call(condition.look):
                    return None  # it was looked at once at least, as a timeout of 0 asks for
    finally:
        engine.forget(condition)
    if condition.error is not None:
        raise condition.error
    return condition.value
