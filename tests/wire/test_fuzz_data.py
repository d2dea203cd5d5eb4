"""Data on the wire, by random: everything that can be sent arrives, and no bytes do more than be refused."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgpack
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zq.wire.data import Extended, Malformed, Packed, pack, unpack
from zq.wire.extra import extra_problem
from zq.wire.limits import DEPTH, PART_MINIMUM

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=ZONES | st.just(UTC))  # noqa: DTZ001
SIZES = st.sampled_from([0, 1, 300, PART_MINIMUM - 1, PART_MINIMUM, PART_MINIMUM + 1])
BLOBS = SIZES.map(lambda size: b"z" * size) | st.binary(max_size=40)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | BLOBS
    | BLOBS.map(bytearray)
    | BLOBS.map(memoryview)
    | MOMENTS
)
DTYPES = st.sampled_from(["u1", "<i2", ">i4", "<f8", "<c8", "?", "<U3", "S5", "<M8[ms]", "V3"])
ARRAYS = st.builds(
    lambda dtype, shape, order: np.zeros(shape, dtype, order),
    DTYPES,
    st.lists(st.sampled_from([0, 1, 2, 3, 70]), max_size=3),
    st.sampled_from(["C", "F"]),
)
DATA = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TEXTS = st.text(max_size=12)
SECONDS = st.none() | st.integers(0, 2**30) | st.floats(0, 2**30)
EXTRAS = st.none() | st.tuples(
    st.none() | TEXTS,
    st.none()
    | st.dictionaries(TEXTS, TEXTS, max_size=3).map(lambda pairs: [text for pair in pairs.items() for text in pair]),
    st.none() | TEXTS,
    st.none() | st.integers(0, 2),
    SECONDS,
    SECONDS,
).map(list)


def arrives_as(sent: Any, arrived: Any) -> bool:
    """Whether `arrived` is what the documentation says of `sent`."""
    if isinstance(sent, (list, tuple)):
        return type(arrived) is list and len(sent) == len(arrived) and all(map(arrives_as, sent, arrived))
    if isinstance(sent, dict):
        return (
            type(arrived) is dict
            and list(sent) == list(arrived)
            and all(arrives_as(sent[key], arrived[key]) for key in sent)
        )
    if isinstance(sent, np.ndarray):
        same = type(arrived) is np.ndarray and (sent.dtype, sent.shape) == (arrived.dtype, arrived.shape)
        return same and arrived.tobytes() == sent.tobytes() and arrived.flags.f_contiguous == sent.flags.f_contiguous
    if isinstance(sent, bytearray):
        return type(arrived) is bytes and arrived == sent
    if isinstance(sent, datetime):
        return type(arrived) is datetime and arrived == sent and arrived.tzinfo is UTC
    if isinstance(sent, float) and math.isnan(sent):
        return type(arrived) is float and math.isnan(arrived)
    return type(arrived) is type(sent) and bool(arrived == sent)


def split(packed: bytes | Packed) -> tuple[bytes, tuple[bytes | memoryview, ...]]:
    return packed if isinstance(packed, Packed) else (packed, ())


@given(DATA, EXTRAS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_everything_arrives_as_what_was_sent(data: Any, extra: list[Any] | None, copy: bool) -> None:
    body, parts = split(pack(data, extra, copy=copy))
    assert all(len(part) >= PART_MINIMUM for part in parts)
    [message] = unpack(body, 1, parts, extended=extra is not None)
    arrived, fields = (message, None) if extra is None else message
    assert arrives_as(data, arrived)
    assert fields == extra


@given(st.lists(st.tuples(DATA, EXTRAS), min_size=1, max_size=8), st.integers(0, 9))
@settings(deadline=None)
def test_batches_arrive_in_order_without_what_is_skipped(sent: list[tuple[Any, Any]], skip: int) -> None:
    packed = [split(pack(data, extra)) for data, extra in sent]
    for kind in (bytes, Extended):
        bodies = [body for body, parts in packed if not parts and type(body) is kind]
        extended = kind is Extended
        single = [unpack(body, 1, extended=extended)[0] for body in bodies]
        if bodies:
            arrived = unpack(b"".join(bodies), len(bodies), (), skip, extended=extended)
            assert len(arrived) == len(single[skip:])
            assert all(map(arrives_as, arrived, single[skip:]))


def accept_or_refuse(body: bytes, count: int, parts: Any = (), skip: int = 0) -> None:
    """What any bytes do: give exactly the messages asked for, in their shape, or raise Malformed."""
    for extended in (False, True):
        try:
            messages = unpack(body, count, parts, skip, extended=extended)
        except Malformed:
            continue
        assert len(messages) == max(count - skip, 0)
        for message in messages:
            if extended:
                assert type(message) is list
                assert len(message) == 2
                assert not extra_problem(message[1])
            assert height(message) <= DEPTH + extended + 1  # an empty container may be in the innermost


def height(value: Any) -> int:
    if type(value) not in (list, dict):
        return 0
    return 1 + max(map(height, value.values() if type(value) is dict else value), default=0)


@given(st.binary(max_size=200), st.integers(-1, 5), st.integers(0, 5))
@settings(max_examples=500, deadline=None)
def test_random_bytes_are_harmless(body: bytes, count: int, skip: int) -> None:
    accept_or_refuse(body, count, (), skip)
    accept_or_refuse(b"\x91" + body, 1)
    accept_or_refuse(b"\x92\x01" + body, 1)


# Bytes that begin something, or are lengths: random ones of these get further into the decoder.
HEADS = st.sampled_from([*range(0x80, 0xA3), *range(0xC0, 0xE0), 0, 1, 2, 3, 4, 5, 0x61, 0xFF])


@given(st.lists(HEADS, max_size=600).map(bytes), st.integers(1, 5))
@settings(max_examples=500, deadline=None)
def test_random_structures_are_harmless(body: bytes, count: int) -> None:
    accept_or_refuse(body, count)
    accept_or_refuse(b"\x91" + body, 1, [b"x" * PART_MINIMUM])


EXT_FIELDS = (
    st.none()
    | st.integers(-1, 3)
    | st.sampled_from(["<f8", "|u1", "|O8", "C", "F", "<M8[s]", ""])
    | st.binary(max_size=16)
)
EXT_PAYLOADS = st.recursive(EXT_FIELDS, lambda inner: st.lists(inner, max_size=5), max_leaves=12)


@given(st.integers(0, 7), st.lists(EXT_PAYLOADS, min_size=3, max_size=5) | st.binary(max_size=6), st.integers(0, 2))
@settings(max_examples=500, deadline=None)
def test_random_ext_values_are_harmless(code: int, payload: Any, parts: int) -> None:
    inner = payload if isinstance(payload, bytes) else msgpack.packb(payload)
    accept_or_refuse(msgpack.packb([msgpack.ExtType(code, inner)]), 1, [b"x" * 16] * parts)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, tuple[bytes | memoryview, ...]]:
    """A valid message with some bytes replaced, removed or put in."""
    body, parts = split(pack(draw(DATA), draw(EXTRAS)))
    changed = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(changed)))
        changed[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(changed), parts


@given(damaged())
@settings(max_examples=500, deadline=None)
def test_damaged_messages_are_harmless(message: tuple[bytes, tuple[bytes | memoryview, ...]]) -> None:
    body, parts = message
    accept_or_refuse(body, 1, parts)
    accept_or_refuse(body * 2, 2)
    accept_or_refuse(body, 1, [part[:-1] for part in parts])


@given(DATA, EXTRAS)
@settings(deadline=None)
def test_messages_cut_short_are_malformed(data: Any, extra: list[Any] | None) -> None:
    body, parts = split(pack(data, extra))
    for end in {0, len(body) // 2, len(body) - 1}:
        try:
            unpack(body[:end], 1, parts, extended=extra is not None)
        except Malformed:
            continue
        raise AssertionError(f"{end} of {len(body)} bytes were taken for a message")
