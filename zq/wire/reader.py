"""The messages of one body, a few at a time.

Whoever decodes a whole body of small messages has all their objects in memory at once: they do not fit the
processor's caches, and they make the interpreter look for garbage. A few at a time cost half as much.

What a body is made of is checked before the first message is given out, so that afterwards only what is in a message
can be wrong: a str that is no UTF-8, a key that is none.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgpack

from zq.wire.data import check_message, unpack
from zq.wire.incoming import EXACT, Malformed, check_whole, inline
from zq.wire.limits import DEPTH, PAYLOAD
from zq.wire.outgoing import Buffer

__all__ = ["CHUNK", "Reader"]

CHUNK = 32  # messages at a time; fewer cost more for beginning, more than 100 are too many for the caches (measured)


class Reader:
    """Reads a body of exactly `count` messages without parts, from message number `skip` (of 0..) on.

    Malformed, and nothing else, if it is not what `pack` makes. Not thread-safe.
    """

    __slots__ = ("_extended", "_rows")

    def __init__(self, body: Buffer, count: int, skip: int, *, extended: bool) -> None:
        self._extended = extended
        if not EXACT:  # msgpack without its C part: there is nothing to win
            self._rows = iter(unpack(body, count, skip=skip, extended=extended))
            return
        if len(body) > PAYLOAD:
            raise Malformed(f"a body of {len(body):,} bytes; {PAYLOAD:,} are the limit")
        check_whole(body, count, DEPTH + extended)
        self._rows = unpacker = msgpack.Unpacker(
            max_buffer_size=len(body), timestamp=3, strict_map_key=True, ext_hook=inline
        )
        unpacker.feed(body)
        for _ in range(skip):
            unpacker.skip()

    def take(self, most: int) -> list[Any]:
        """The next messages, up to `most`: the data of each, or if they are extended `[data, extra]`."""
        try:
            rows = list(islice(self._rows, most))
        except Malformed:
            raise
        except (ValueError, OverflowError, TypeError, msgpack.UnpackException) as error:
            raise Malformed(f"a message does not decode: {error or type(error).__name__}") from error
        for row in rows if self._extended else ():
            check_message(row)
        return rows
