"""Requests and replies: one message a frame, behind a header that costs one `struct` call.

    request  Q | addressee 16, sender 16, replier 16, number 8, floor 8, patience 8, wall clock 8, flags 1 | message
    reply    q | addressee 16, sender 16, request 8, number 8, wall clock 8, outcome 1, flags 1 | message or failure

Numbers are big-endian. A message is as data.py packs it; parts follow as frames of their own. A failure is a msgpack
array of two texts. Up to 64 KiB and without parts a frame goes to the mailbox, else over `work`. docs/protocol.md has
the fields and wins over this module. Decoders raise `Malformed` and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgpack

from zq.wire.batch import EXTRA, PARTS, Buffer, Parts
from zq.wire.body import is_text, unpack_array
from zq.wire.data import Extended, Malformed, Packed
from zq.wire.limits import BATCH_BYTES

REQUEST, REPLY = b"Q", b"q"  # kinds
REPLIED, FAILED, TURNED_AWAY = range(3)  # outcomes; turned away: it never was at a program, and never will be
CLOSED, OVERLOADED, UNANSWERED = "Closed", "Overloaded", "Unanswered"  # types of failures that are not a program's
TEXT = 1_024  # characters of a failure's type and of its text; as every text in a mailbox frame

_REQUEST = struct.Struct(">c16s16s16sQQddB")
_REPLY = struct.Struct(">c16s16sQQdBB")


class Single:
    """One message in a frame of its own, as `zq.message.Source`."""

    __slots__ = ("addressee", "body", "flags", "number", "parts", "sender", "service", "time")

    topic: str | None = None
    queue: str | None = None
    attempt = 1
    redelivered = False
    kind = b""

    def __init__(
        self, *, addressee: bytes, sender: bytes, number: int, time: float, flags: int, body: Buffer, parts: Parts
    ) -> None:
        self.addressee = addressee
        self.sender = sender
        self.number = number  # the sender's origin number
        self.time = time  # s since 1970, by the sender's clock
        self.flags = flags
        self.body = body
        self.parts = parts
        self.service: str | None = None  # as the receiver calls it; not on the wire

    @property
    def extended(self) -> bool:
        return bool(self.flags & EXTRA)

    @property
    def size(self) -> int:
        """Bytes, the parts included."""
        return len(self.body) + sum(map(len, self.parts))

    def identify(self, index: int) -> str:
        return f"{self.sender.hex()}-{self.number}"

    def sent_at(self, index: int) -> float:
        return self.time


class RequestFrame(Single):
    """A request. `number` is the requester's origin number, given when it was sent."""

    __slots__ = ("floor", "patience", "replier")

    kind = REQUEST

    def __init__(self, *, replier: bytes, floor: int, patience: float, **rest: Any) -> None:
        super().__init__(**rest)
        self.replier = replier
        self.floor = floor  # every request of the sender below it that went to the addressee has ended
        self.patience = patience  # s the requester waits from here on; infinite: for ever


class ReplyFrame(Single):
    """What became of `request`."""

    __slots__ = ("outcome", "request")

    kind = REPLY

    def __init__(self, *, request: int, outcome: int, **rest: Any) -> None:
        super().__init__(**rest)
        self.request = request
        self.outcome = outcome

    def failure(self) -> tuple[str, str]:
        """Type and text of an outcome other than REPLIED."""
        fields = unpack_array(self.body, "failure")
        if len(fields) < 2 or not (is_text(fields[0]) and is_text(fields[1])):
            raise Malformed("a failure is a type and a text")
        return fields[0], fields[1]


def is_small(parts: Parts) -> bool:
    """Whether this request or reply goes to the mailbox; any other goes over `work`, where it holds up no heartbeat."""
    return len(parts) == 1 and len(parts[0]) <= BATCH_BYTES


def parts_of(item: bytes | Packed) -> tuple[bytes, Sequence[Buffer], int]:
    """Body, parts and flags of a packed message."""
    body, parts = item if isinstance(item, Packed) else (item, ())
    return body, parts, (EXTRA if type(body) is Extended else 0) | (PARTS if parts else 0)


def encode_request(
    addressee: bytes,
    sender: bytes,
    replier: bytes,
    *,
    number: int,
    floor: int,
    patience: float,
    time: float,
    item: bytes | Packed,
) -> Parts:
    body, parts, flags = parts_of(item)
    header = _REQUEST.pack(REQUEST, addressee, sender, replier, number, floor, patience, time, flags)
    return (header + body, *parts)


def encode_reply(
    addressee: bytes, sender: bytes, *, request: int, number: int, time: float, outcome: int, item: bytes | Packed
) -> Parts:
    body, parts, flags = parts_of(item)
    return (_REPLY.pack(REPLY, addressee, sender, request, number, time, outcome, flags) + body, *parts)


def encode_failure(kind: str, text: str) -> bytes:
    """Cut to what fits; what UTF-8 has no bytes for becomes `?`."""
    clean = [value[:TEXT].encode(errors="replace").decode() for value in (kind, text)]
    packed: bytes = msgpack.packb(clean)
    return packed


def decode_request(parts: Parts) -> RequestFrame:
    frame = parts[0]
    if len(frame) <= _REQUEST.size:
        raise Malformed("a request is cut short")
    _, addressee, sender, replier, number, floor, patience, time, flags = _REQUEST.unpack_from(frame)
    if number == 0 or not patience >= 0 or time != time or bool(flags & PARTS) != (len(parts) > 1):
        raise Malformed("a request has impossible numbers")
    return RequestFrame(
        addressee=addressee,
        sender=sender,
        replier=replier,
        number=number,
        floor=floor,
        patience=patience,
        time=time,
        flags=flags,
        body=memoryview(frame)[_REQUEST.size :],
        parts=parts[1:],
    )


def decode_reply(parts: Parts) -> ReplyFrame:
    frame = parts[0]
    if len(frame) <= _REPLY.size:
        raise Malformed("a reply is cut short")
    _, addressee, sender, request, number, time, outcome, flags = _REPLY.unpack_from(frame)
    if request == 0 or outcome > TURNED_AWAY or time != time or bool(flags & PARTS) != (len(parts) > 1):
        raise Malformed("a reply has impossible numbers")
    reply = ReplyFrame(
        addressee=addressee,
        sender=sender,
        request=request,
        number=number,
        time=time,
        outcome=outcome,
        flags=flags,
        body=memoryview(frame)[_REPLY.size :],
        parts=parts[1:],
    )
    if outcome != REPLIED:
        reply.failure()
    return reply
