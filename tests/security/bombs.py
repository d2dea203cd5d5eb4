"""What somebody who has the key can say that is made to be slow, or large, and how he says it: see `strangers`."""

from __future__ import annotations

import atexit
import itertools
import secrets
import time
from collections.abc import Iterator, Sequence

import msgpack
import zmq

import zq
from tests.security.rogues import DEADLINE
from tests.waiting import eventually
from zq.security.lock import Lock
from zq.wire import frames
from zq.wire.batch import BatchHeader, Run, encode_batch
from zq.wire.body import Body, address
from zq.wire.limits import MAILBOX_FRAME

ROOM = MAILBOX_FRAME - 33  # bytes for the array of a mailbox frame: whole, so that one byte less would cut it off
ARRAYS, MAPS = b"\xdd", b"\xdf"  # msgpack: a count of 4 bytes follows


def array(count: int, item: bytes) -> bytes:
    return ARRAYS + count.to_bytes(4, "big") + item * count


BOMBS = {
    "deep": b"\x91" * ROOM,
    "deep maps": b"\x81\xa1x" * (ROOM // 3),
    "2^32 items": ARRAYS + b"\xff" * 4,
    "2^32 items in each of many": (ARRAYS + b"\xff" * 4) * (ROOM // 5),
    "10,000 items in each of many": (ARRAYS + (10_000).to_bytes(4, "big")) * (ROOM // 5),
    "a million items": array(ROOM - 5, b"\xc0"),
    "a million empty maps": array(ROOM - 5, b"\x80"),
    "a million empty arrays": array(ROOM - 5, b"\x90"),
    "half a million arrays of one": array((ROOM - 5) // 2, b"\x91\xc0"),
    "as many items as one array may have, again and again": b"\x9f" + array(65_535, b"\xc0") * 15,
    "as many empty maps, again and again": b"\x9f" + array(65_535, b"\x80") * 15,
    "rows of three empty texts": b"\x9e" + array(18_000, b"\x93\xa0\xa0\xa0") * 14,
    "2^32 pairs": MAPS + b"\xff" * 4 + b"\xa1x\xc0" * 1_000,
    "numbers as keys": MAPS + (100_000).to_bytes(4, "big") + b"".join(map(msgpack.packb, range(200_000))),
    "one key again and again": MAPS + (200_000).to_bytes(4, "big") + b"\xa1x\xc0" * 200_000,
    "a string of 4 GiB": b"\x91\xdb\xff\xff\xff\xff",
    "no UTF-8": b"\x92\xa4\xff\xfe\xfd\xfc\xc0",
    "an unknown type": b"\x91\xc7\x08\x63" + bytes(8),
    "not a number": b"\x91\xcb\x7f\xf8" + bytes(6),
}
BODIES: list[type[Body]] = [
    kind for kind in vars(frames).values() if isinstance(kind, type) and issubclass(kind, Body) and kind is not Body
]
NAMES = ("talker", "bystander")
SOURCE = "127.0.0.77"  # where nobody else comes from: what he does is held against all who do
LARGE = [bomb for bomb in BOMBS.values() if len(bomb) > ROOM // 2]


def for_the_mailbox(addressee: bytes, sender: bytes) -> Iterator[bytes]:
    """Each large one as the array of each kind of frame."""
    for kind, bomb in itertools.product(BODIES, LARGE):
        yield address(kind.KIND, addressee, sender) + bomb


def for_work(addressee: bytes, sender: bytes) -> Iterator[bytes]:
    """The same of the kinds that come there, and batches that say that they are of more runs than messages."""
    for bomb in LARGE:
        yield address(frames.REFILLED, addressee, sender) + bomb
        header = BatchHeader(addressee, sender, secrets.token_bytes(16), 0, 1, 0, 1, 1, 1, 0, 0)
        runs = [Run(sender, 1, 1, time.time()), *[Run(sender, 1, 0, 0.0)] * 20_000]
        yield encode_batch(header, runs, [bomb])


class Member:
    """A peer of the realm that has met whoever lives at that mailbox, and sends him bombs on connections of their own.

    Key and realm are those of the environment. It stays until the process ends.
    """

    def __init__(self, seed: str) -> None:
        self._peer = zq.Peer("member", interfaces=["127.0.0.1"], discovery=["none"], seeds=[seed])
        self._peer.open()
        atexit.register(self._peer.close)
        self._victim = eventually(self._find, DEADLINE)

    def _find(self) -> bytes | None:
        """Those who have others to talk to are found by these doors as well."""
        up = [info.id for info in self._peer.peers() if info.state == "up" and info.name in NAMES]
        return up[0] if up else None

    def bombard(self, doors: Sequence[str], lock: Lock, deadline: float, at_once: int) -> int:
        """As many as are taken, until then, on so many connections to each of those doors. Returns how many."""
        mailbox, _, work = (door if ";" in door else door.replace("tcp://", f"tcp://{SOURCE}:0;") for door in doors)
        count = 0
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            poller, say = zmq.Poller(), {}
            for door, kinds in ((mailbox, for_the_mailbox), (work, for_work)):
                bombs = itertools.cycle(kinds(self._victim, self._peer.id))
                for _ in range(at_once):
                    socket = context.socket(zmq.PUSH)
                    socket.set(zmq.SNDHWM, 1)
                    socket.set(zmq.RECONNECT_IVL, 20)
                    lock.fit_own(socket)
                    socket.connect(door)
                    say[socket] = bombs
                    poller.register(socket, zmq.POLLOUT)
            while (left := deadline - time.monotonic()) > 0:
                for socket, _ in poller.poll(int(left * 1_000)):
                    socket.send(next(say[socket]), zmq.NOBLOCK)
                    count += 1
        finally:
            context.destroy(linger=0)
        return count
