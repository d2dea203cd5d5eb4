"""A message as its receiver sees it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self

Headers = Mapping[str, str]


class Inherit(Enum):
    """As the other side has it."""

    INHERIT = "inherit"


INHERIT = Inherit.INHERIT

NO_HEADERS: Headers = MappingProxyType({})

# Positions in the extra fields a message may carry (docs/protocol.md, "message").
ID, HEADERS, KEY, PRIORITY, TTL, DELAY = range(6)


class Source(Protocol):
    """What a received batch knows about its messages, by their index in it."""

    topic: str | None
    queue: str | None
    sender: bytes
    attempt: int

    @property
    def redelivered(self) -> bool: ...

    def identify(self, index: int) -> str: ...

    def sent_at(self, index: int) -> float: ...


class Message:
    """One received message. Settling calls never wait and do nothing on a subscription.

    `data` is what was sent (tuples arrive as lists, datetimes as UTC). Not thread-safe in itself: settle a
    message from one thread at a time.
    """

    __slots__ = ("_extra", "_index", "_source", "data")

    data: Any
    _extra: list[Any]  # set only on the few messages that have extra fields

    def __init__(self, data: Any, source: Source, index: int) -> None:
        self.data = data
        self._source = source
        self._index = index

    def _field(self, position: int) -> Any:
        try:
            return self._extra[position]
        except AttributeError:
            return None

    @property
    def id(self) -> str:
        """`<origin>-<number>` unless the sender gave one; the same on every redelivery."""
        given = self._field(ID)
        return self._source.identify(self._index) if given is None else str(given)

    @property
    def headers(self) -> Headers:
        flat = self._field(HEADERS)
        if not flat:
            return NO_HEADERS
        return MappingProxyType(dict(zip(flat[::2], flat[1::2], strict=True)))

    @property
    def key(self) -> str | None:
        key = self._field(KEY)
        return None if key is None else str(key)

    @property
    def topic(self) -> str | None:
        return self._source.topic

    @property
    def queue(self) -> str | None:
        return self._source.queue

    @property
    def service(self) -> str | None:
        """What was asked, for a request and its reply."""
        service: str | None = getattr(self._source, "service", None)
        return service

    @property
    def sender(self) -> bytes:
        """The id of the peer that sent it, 16 bytes."""
        return self._source.sender

    @property
    def sent_at(self) -> datetime:
        """When the sender's engine took it, by the sender's wall clock, UTC."""
        return datetime.fromtimestamp(self._source.sent_at(self._index), UTC)

    @property
    def attempt(self) -> int:
        """1 on the first delivery; above that somebody had it before and did not finish."""
        return self._source.attempt

    @property
    def redelivered(self) -> bool:
        """Whether it may have been delivered before, to anyone. Such messages may come out of order."""
        return self._source.redelivered

    def ack(self) -> None:
        """The work is done: whoever holds the message may forget it. The first word about a message counts; settling
        it twice, or after its puller's `work_timeout`, changes nothing and is logged."""

    def nack(self, *, delay: float = 0.0) -> None:
        """Not now: deliver it again to anyone, not before `delay` seconds, one attempt more. After the last of its
        pusher's `max_attempts` it is dead, as if rejected."""

    def reject(self, reason: str) -> None:
        """Never again: the message is dead. Its holder counts it under `rejected`, and keeps it with `reason` (up to
        1,000 characters) among the dead letters of its queue, `<queue>.dead`."""

    def give_back(self) -> None:
        """Deliver it to somebody else; no attempt is counted."""

    def _finish(self) -> None:
        """Its handler has returned: acks, unless it was settled."""

    def _fail(self, error: BaseException, delay: float) -> None:
        """Its handler has raised: nacks, unless it was settled."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaving acks; an Exception nacks and is re-raised; any other BaseException gives the message back."""
        if kind is None:
            self.ack()
        elif issubclass(kind, Exception):
            self.nack()
        else:
            self.give_back()

    def __repr__(self) -> str:
        where = str(next((name for name in (self.topic, self.queue) if name is not None), self.service))
        where = where if where.isprintable() else repr(where)  # it came from elsewhere, and this ends up in logs
        attempt = f", attempt {self.attempt}" if self.attempt > 1 else ""
        return f"<{type(self).__name__.lstrip('_')} {where}: {self.data!r:.60}{attempt}>"
