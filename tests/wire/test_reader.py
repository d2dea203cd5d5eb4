"""Reading a body a few messages at a time: the same messages as at once, and none before the whole is looked at."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire.test_fuzz_data import EXTRAS
from zq.wire import reader as module
from zq.wire.data import Malformed, Packed, pack, unpack
from zq.wire.limits import DEPTH
from zq.wire.reader import Reader

FLAT = st.none() | st.integers(-5, 2**40) | st.text(max_size=5) | st.binary(max_size=5)
VALUES = st.recursive(FLAT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))


def body_of(values: list[Any], extra: Any = None) -> bytes:
    items = [pack(value, extra) for value in values]
    assert not any(isinstance(item, Packed) for item in items)
    return b"".join(items)  # type: ignore[arg-type]


def read(body: bytes, count: int, most: int, skip: int = 0, *, extended: bool = False) -> list[Any]:
    reader = Reader(memoryview(body), count, skip, extended=extended)
    rows: list[Any] = []
    while taken := reader.take(most):
        assert len(taken) == min(most, count - skip - len(rows))
        rows += taken
    return rows


@given(values=st.lists(VALUES, min_size=1, max_size=12), most=st.integers(1, 13), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_few_at_a_time_are_the_same_messages(values: list[Any], most: int, data: st.DataObject) -> None:
    extra = data.draw(EXTRAS)
    skip = data.draw(st.integers(0, len(values) - 1))
    body, extended = body_of(values, extra), extra is not None
    expected = unpack(body, len(values), skip=skip, extended=extended)
    assert read(body, len(values), most, skip, extended=extended) == expected


def test_it_is_the_same_without_the_c_part_of_msgpack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXACT", False)
    assert read(body_of([1, "two", [3]]), 3, 2, 1) == ["two", [3]]


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (body_of([1, 2, 3]), 2),  # more than it says
        (body_of([1, 2, 3]), 4),  # less
        (body_of([1, 2]) + b"\xa5abc", 3),  # cut short
        (body_of([1]) + b"\xc1", 2),  # no value of msgpack
        (body_of([1]) + b"\x91" * (DEPTH + 1) + b"\x01", 2),  # too deep
    ],
)
def test_a_body_that_is_not_so_many_messages_is_refused_before_the_first(body: bytes, count: int) -> None:
    with pytest.raises(Malformed):
        Reader(body, count, 0, extended=False)


@pytest.mark.parametrize("bad", [b"\xa2\xff\xff", b"\x81\x01\x01", msgpack.packb(msgpack.ExtType(99, b""))])
def test_what_is_wrong_within_a_message_is_refused_when_its_turn_comes(bad: bytes) -> None:
    reader = Reader(body_of([1, 2]) + bad + body_of([4]), 4, 0, extended=False)
    assert reader.take(2) == [1, 2]
    with pytest.raises(Malformed):
        reader.take(2)


def test_extra_fields_that_are_none_are_refused() -> None:
    reader = Reader(body_of([1, 2]), 2, 0, extended=True)
    with pytest.raises(Malformed):
        reader.take(1)
