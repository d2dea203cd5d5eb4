"""A spool that this process keeps. What reads much of it does so in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zq.aio.closing import Closing, opened
from zq.aio.waiting import finish
from zq.handles.spool import SpoolCore
from zq.handles.steps import OnDamage, OnGap, Progress, Timeout
from zq.info import SpoolCursor, SpooledMessage, SpooledStream, SpoolReport
from zq.options import SpoolOptions

if TYPE_CHECKING:
    from zq.aio.peer import Peer

PAGE = 1_000  # messages that are read in a thread at once


class Spool(Closing, SpoolCore):
    """An open spool."""

    def __init__(
        self, peer: Peer, directory: Path, queues: Sequence[str], topics: Sequence[str], options: SpoolOptions
    ) -> None:
        super().__init__(peer._running(), directory, queues, topics, options)
        self._peer = peer
        self._open_later()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await opened(self, self._opened_steps(None))
        return self

    async def streams(self) -> list[SpooledStream]:
        """How each of its queues and topics stands on the disk, by kind and name."""
        await finish(self._opened_steps())
        return await asyncio.to_thread(self._shelf().streams)

    async def cursors(self) -> list[SpoolCursor]:
        """The named positions in its topics."""
        await finish(self._opened_steps())
        return await asyncio.to_thread(self._shelf().cursors)

    async def export(
        self,
        stream: str,
        *,
        first: int = 1,
        settled: bool = False,
        on_damage: OnDamage | None = None,
        on_gap: OnGap | None = None,
    ) -> AsyncIterator[SpooledMessage]:
        """What waits in a queue, or is kept of a topic, in order, as `SpoolDirectory.export`; nothing is taken."""
        await finish(self._opened_steps())
        shelf = self._shelf()
        messages = await asyncio.to_thread(
            shelf.export, stream, first=first, settled=settled, on_damage=on_damage, on_gap=on_gap
        )
        while page := await asyncio.to_thread(lambda: list(islice(messages, PAGE))):
            for message in page:
                yield message

    async def verify(self, progress: Progress | None = None) -> SpoolReport:
        """Reads everything that is on the disk, beside what goes on, and tells what is wrong. `progress` hears how
        many bytes of how many were read, in a thread."""
        await finish(self._opened_steps())
        return await asyncio.to_thread(self._shelf().verify, progress)

    async def purge(self, queue: str, *, timeout: Timeout = 30.0) -> int:
        """Removes all that waits in a queue for good, and says how many messages that were. Refused, and nothing is
        removed, if some of it is in flight at a puller, or if there is no such queue. It is on the disk when this
        returns; SpoolDamaged if the disk has not taken it: then it is delivered no more as long as this spool is open,
        and may be back when it is opened again."""
        return await finish(self._purge_steps(queue, timeout))

    async def forget(self, topics: str, cursor: str, *, timeout: Timeout = 30.0) -> None:
        """Forgets a cursor of one filter's topics for good. Refused if there is none, or if somebody reads by it. It is
        on the disk when this returns; SpoolDamaged if the disk has not taken it: then the cursor may be back when the
        spool is opened again."""
        await finish(self._forget_steps(topics, cursor, timeout))

    async def close(self, *, timeout: Timeout = 5.0) -> None:
        """Syncs what has come, leaves the queues to their pushers, and lets go of the directory. Idempotent."""
        await finish(self._peer._close_spool_steps(self, timeout))
