"""Requests and replies: their bytes are a contract, what goes in comes out, no input raises anything but Malformed."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zq.wire.data import Extended, Malformed, Packed, pack
from zq.wire.requests import (
    FAILED,
    REPLIED,
    TEXT,
    TURNED_AWAY,
    decode_reply,
    decode_request,
    encode_failure,
    encode_reply,
    encode_request,
)

A, B, REPLIER = b"a" * 16, b"b" * 16, b"r" * 16

# They are in docs/protocol.md; who changes them breaks running peers.
REQUEST_FRAME = bytes.fromhex(
    "51" + "62" * 16 + "61" * 16 + "72" * 16 + "0000000000000007" + "0000000000000005" + "4014000000000000"
    "41d26580b4800000" + "00" + "9101"
)
REPLY_FRAME = bytes.fromhex(
    "71" + "62" * 16 + "61" * 16 + "0000000000000007" + "0000000000000009" + "41d26580b4800000" + "00" + "00" + "9102"
)
FAILURE_FRAME = bytes.fromhex(
    "71" + "62" * 16 + "61" * 16 + "0000000000000007" + "0000000000000009" + "41d26580b4800000" + "01" + "00"
    "92aa56616c75654572726f72a26e6f"
)
NUMBERS = st.integers(1, (1 << 63) - 1)
TIMES = st.floats(allow_nan=False, allow_infinity=False)


def request(**changes: Any) -> tuple[Any, ...]:
    fields: dict[str, Any] = {"number": 7, "floor": 5, "patience": 5.0, "time": 1234567890.0, "item": b"\x91\x01"}
    return tuple(encode_request(B, A, REPLIER, **fields | changes))


def reply(**changes: Any) -> tuple[Any, ...]:
    fields: dict[str, Any] = {"request": 7, "number": 9, "time": 1234567890.0, "outcome": REPLIED, "item": b"\x91\x02"}
    return tuple(encode_reply(B, A, **fields | changes))


def test_bytes_of_a_request() -> None:
    assert request() == (REQUEST_FRAME,)
    frame = decode_request((REQUEST_FRAME,))
    assert (frame.addressee, frame.sender, frame.replier, frame.number, frame.floor) == (B, A, REPLIER, 7, 5)
    assert (frame.patience, frame.sent_at(0), bytes(frame.body), frame.parts) == (5.0, 1234567890.0, b"\x91\x01", ())
    assert frame.identify(0) == f"{A.hex()}-7"


def test_bytes_of_a_reply() -> None:
    assert reply() == (REPLY_FRAME,)
    frame = decode_reply((REPLY_FRAME,))
    assert (frame.addressee, frame.sender, frame.request, frame.number, frame.outcome) == (B, A, 7, 9, REPLIED)
    assert bytes(frame.body) == b"\x91\x02"


def test_bytes_of_a_failure() -> None:
    assert reply(outcome=FAILED, item=encode_failure("ValueError", "no")) == (FAILURE_FRAME,)
    assert decode_reply((FAILURE_FRAME,)).failure() == ("ValueError", "no")


@given(NUMBERS, st.integers(0, (1 << 63) - 1), st.floats(0.0), TIMES, st.binary(min_size=1))
@settings(deadline=None)
def test_a_request_comes_out_as_it_went_in(number: int, floor: int, patience: float, time: float, body: bytes) -> None:
    for item in (body, Extended(body), Packed(body, (b"part", b"other"))):
        frame = decode_request(request(number=number, floor=floor, patience=patience, time=time, item=item))
        assert (frame.number, frame.floor, frame.patience, frame.time) == (number, floor, patience, time)
        assert (bytes(frame.body), frame.extended) == (body, type(item) is Extended)
        assert frame.parts == ((b"part", b"other") if isinstance(item, Packed) else ())


def test_a_failure_is_cut_to_what_fits_and_has_bytes_whatever_its_text() -> None:
    kind, text = msgpack.unpackb(encode_failure("E\ud800", "x" * 5_000))
    assert (kind, text) == ("E?", "x" * TEXT)


def test_who_waits_for_ever_says_so() -> None:
    assert decode_request(request(patience=math.inf)).patience == math.inf


@pytest.mark.parametrize(
    "parts",
    [
        (REQUEST_FRAME[:-2],),
        request(number=0),
        request(patience=-1.0),
        request(patience=math.nan),
        request(time=math.nan),
        request(item=Packed(b"\x91", (b"x",)))[:1],
        (REQUEST_FRAME, b"part"),
    ],
    ids=["no body", "number 0", "negative", "patience", "time", "parts missing", "parts"],
)
def test_what_is_no_request_is_malformed(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(Malformed):
        decode_request(parts)


@pytest.mark.parametrize(
    "parts",
    [
        (REPLY_FRAME[:-2],),
        reply(request=0),
        reply(time=math.nan),
        reply(outcome=TURNED_AWAY + 1),
        reply(outcome=FAILED),
        reply(outcome=TURNED_AWAY, item=msgpack.packb(["x" * (TEXT + 1), ""])),
        reply(outcome=TURNED_AWAY, item=msgpack.packb(["only a type"])),
        (REPLY_FRAME, b"part"),
    ],
    ids=["no body", "request 0", "time", "outcome", "no failure", "long", "one text", "parts"],
)
def test_what_is_no_reply_is_malformed(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(Malformed):
        decode_reply(parts)


def decode(frame: bytes, *parts: bytes) -> None:
    for way in (decode_request, decode_reply):
        try:
            way((frame, *parts))
        except Malformed:
            continue


@pytest.mark.parametrize("frame", [REQUEST_FRAME, REPLY_FRAME, FAILURE_FRAME], ids=["request", "reply", "failure"])
def test_no_truncation_raises_anything_else(frame: bytes) -> None:
    for length in range(len(frame)):
        decode(frame[:length])
        decode(frame[:length], b"part")


@given(
    st.sampled_from([REQUEST_FRAME, REPLY_FRAME, FAILURE_FRAME]),
    st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), max_size=4),
)
@settings(max_examples=500, deadline=None)
def test_no_mutation_raises_anything_else(frame: bytes, changes: list[tuple[int, bytes]]) -> None:
    for at, what in changes:
        at %= len(frame) + 1
        frame = frame[:at] + what + frame[at + len(what) % 3 :]
    decode(frame)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_no_garbage_raises_anything_else(frame: bytes) -> None:
    decode(frame)
    decode(frame, b"part")


def test_data_is_packed_as_everywhere() -> None:
    frame = decode_request(request(item=pack({"a": 1})))
    assert msgpack.unpackb(frame.body) == {"a": 1}
