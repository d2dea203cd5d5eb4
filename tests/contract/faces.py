"""One suite over both faces: tests are written in blocking calls, and zq.aio is called through a loop in a thread.

`Face` is zq.Peer as it is. `LoopFace` wraps what zq.aio makes, so that `await x.send()` is `x.send()` and
`async for` is `for`; everything else (names, arguments, results, exceptions) is what the asyncio face says itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import zq
import zq.aio
from tests.waiting import PATIENCE, eventually

__all__ = ["PATIENCE", "Face", "LoopFace", "eventually", "fill", "take"]


class Face:
    """Opens peers for one test, and closes what the test has left open."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._threads = ThreadPoolExecutor(max_workers=16)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._threads.shutdown()

    def unopened(self, name: str, **settings: Any) -> Any:
        return zq.Peer(name, **settings)

    def peer(self, name: str, **settings: Any) -> Any:
        """An open peer."""
        peer = self.unopened(name, **settings)
        peer.open()
        self._open.callback(self._leave, peer)
        return peer

    @staticmethod
    def _leave(peer: Any) -> None:
        with contextlib.suppress(zq.Undelivered):  # what a test leaves behind on purpose
            peer.close(timeout=0)

    def handler(self, function: Callable[[zq.Message], object]) -> Callable[[zq.Message], object]:
        """`function` as this face's `run` takes one that blocks."""
        return function

    def background(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        """Calls it in a thread of its own."""
        return self._threads.submit(function, *arguments, **options)


class LoopFace(Face):
    """zq.aio, with an event loop in a thread."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.call(self._loop.shutdown_asyncgens)
        self.call(self._loop.shutdown_default_executor)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def unopened(self, name: str, **settings: Any) -> Any:
        return Looped(self, zq.aio.Peer(name, **settings))

    def handler(self, function: Callable[[zq.Message], object]) -> Callable[[zq.Message], object]:
        async def handle(message: zq.Message) -> object:
            return await asyncio.to_thread(function, message)

        return handle

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Calls it in the loop, awaits what it returns if that can be awaited, and returns the result."""

        async def perform() -> Any:
            result = function(*arguments, **options)
            return await result if inspect.isawaitable(result) else result

        result = asyncio.run_coroutine_threadsafe(perform(), self._loop).result()
        if inspect.isasyncgen(result):
            return self._each(result)
        return Looped(self, result) if type(result).__module__.startswith("zq.aio.") else result

    def _each(self, source: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    item = self.call(source.__anext__)
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self.call(source.aclose)


class Looped:
    """A peer or handle of zq.aio that is used like its blocking twin."""

    def __init__(self, face: LoopFace, target: Any) -> None:
        self._face = face
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value
        return lambda *arguments, **options: self._face.call(value, *arguments, **options)

    def __iter__(self) -> Iterator[Any]:
        each: Iterator[Any] = self._face.call(self._target.__aiter__)
        return each

    def __enter__(self) -> Self:
        self._face.call(self._target.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._face.call(self._target.__aexit__, kind, error, trace)

    def __repr__(self) -> str:
        return repr(self._target)


def fill(sender: Any, first: int, is_held_back: Callable[[], bool]) -> int:
    """Sends numbers from `first` on until there is no room for more and will be none; returns the next number."""
    number = first
    while True:
        held_back = is_held_back()  # looked at first: from then on room is only used up
        try:
            number += sender.send_many(range(number, number + 1_000), timeout=0)
        except zq.Timeout as late:
            number += late.sent
            if held_back and not late.sent:
                return number


def take(receiver: Any, count: int) -> list[Any]:
    """The data of the next `count` messages, each acknowledged."""
    data: list[Any] = []
    while len(data) < count:
        messages = receiver.receive_many(count - len(data), timeout=PATIENCE)
        for message in messages:
            message.ack()
        data += [message.data for message in messages]
    return data
