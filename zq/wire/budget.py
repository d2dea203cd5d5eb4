"""How much a body may be made of: lists, maps and items, counted while they are made, up to the first too many.

A million empty lists fit into a frame of a mailbox, and take its reader 170 ms; as many bytes of names take 0.1 ms. So
the size alone says little, and each kind of frame has a number of containers beside it (`zq.wire.frames`).
"""

from __future__ import annotations

from typing import Any

import msgpack

from zq.wire.batch import Buffer
from zq.wire.incoming import Malformed

FEW = 512  # bytes of a body that is not counted: it has no room for many, nor for an array that says it is long
EACH = 8  # items that a container has on average at most: no row is longer, but for lists of plain values,
LISTED = 4_096  # of which there are as many beside
LONGEST = 1 << 16  # items of one container, which is made before it is counted: 0.5 ms


def unpack_within(body: Buffer, containers: int) -> Any:
    """The one value of `body`. Raises what msgpack raises, and Malformed if it is made of more than that."""
    if len(body) <= FEW:
        return msgpack.unpackb(body, strict_map_key=True)
    _walk(body)
    left, items_left = containers, containers * EACH + LISTED

    def count(container: Any) -> Any:
        nonlocal left, items_left
        left -= 1
        items_left -= len(container)
        if left < 0 or items_left < 0:
            raise Malformed(f"more than {containers:,} containers, or too many items, in {len(body):,} bytes")
        return container

    return msgpack.unpackb(
        body, strict_map_key=True, list_hook=count, object_hook=count, max_array_len=LONGEST, max_map_len=LONGEST
    )


def _walk(body: Buffer) -> None:
    """Whether everything is there that it says it has: msgpack makes an array as long as it says before it looks for
    what is in it, so that arrays in arrays, none of which is whole, take 60 ms and much memory."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(body))
    unpacker.feed(body)
    unpacker.skip()


def containers_in(value: Any) -> int:
    """Lists and maps that it is made of, itself included."""
    if type(value) is dict:
        value = value.values()
    elif type(value) is not list and type(value) is not tuple:
        return 0
    return 1 + sum(map(containers_in, value))
