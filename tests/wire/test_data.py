"""Data on the wire: what arrives for what was sent, what is refused and where, and the exact bytes."""

from __future__ import annotations

import enum
import gc
import mmap
import subprocess
import sys
import threading
import tracemalloc
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from zq import errors
from zq.wire import data as codec
from zq.wire import incoming, outgoing
from zq.wire.array import Array
from zq.wire.data import Extended, Malformed, Packed, pack, pack_flat, unpack
from zq.wire.limits import DEPTH, HEADER, HEADERS, NAME, PART_MINIMUM, PAYLOAD

LARGE = PART_MINIMUM
NO_EXTRA: list[Any] = [None] * 6


def travel(data: Any, *, copy: bool = True) -> Any:
    """`data` as its receiver gets it."""
    packed = pack(data, copy=copy)
    body, parts = packed if isinstance(packed, Packed) else (packed, ())
    [arrived] = unpack(body, 1, parts)
    return arrived


def run_alone(program: str) -> subprocess.CompletedProcess[str]:
    """`program` in an interpreter of its own."""
    root = Path(codec.__file__).parents[2]
    return subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=20)


def nested(levels: int) -> Any:
    """A value of `levels` lists inside each other."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


# --- the bytes

GOLDEN = [
    (None, "c0"),
    (True, "c3"),
    (-1, "ff"),
    (2**64 - 1, "cfffffffffffffffff"),
    (21.5, "cb4035800000000000"),
    ("k\u00fcche", "a66bc3bc636865"),
    (b"\x00\xff", "c40200ff"),
    (bytearray(b"ab"), "c4026162"),
    ((1, [2]), "920191" + "02"),
    ({"id": 1, "t": 21.5}, "82a2696401a174cb4035800000000000"),
    (datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC), "d6ff65937d25"),
    (datetime(2024, 1, 2, 4, 4, 5, 250000, tzinfo=timezone(timedelta(hours=1))), "d7ff3b9aca0065937d25"),
    (memoryview(b"abc"), "c70301616263"),
    (np.array([1, 2], "<u2"), "c70f0294a33c75329102a143c40401000200"),
    (np.asfortranarray(np.array([[1, 2]] * 2, "u1")), "d80294a37c7531920202a146c40401010202"),
    (
        np.array([(1, 2)], [("a", "u1"), ("b", "<i2")]),
        "c71e0294930394a161a37c7531009094a162a33c6932019091" + "01a143c403010200",
    ),
    (
        Array(dtype="<M8[s]", shape=(), buffer=memoryview(bytes(8))),
        "c7150294a63c4d385b735d90a143c4080000000000000000",
    ),
]


@pytest.mark.parametrize(("data", "golden"), GOLDEN, ids=[repr(data)[:40] for data, _ in GOLDEN])
def test_bytes_on_the_wire_do_not_change(data: Any, golden: str) -> None:
    packed = pack(data)
    assert isinstance(packed, bytes)
    assert packed.hex() == golden


def test_bytes_of_extra_fields_do_not_change() -> None:
    extra = ["id-1", ["a", "b"], "key", 1, 2.5, 0]
    packed = pack({"x": None}, extra)
    assert isinstance(packed, bytes)
    assert packed.hex() == "9281a178c096a469642d3192a161a162a36b657901cb400400000000000000"
    assert type(packed) is Extended
    assert unpack(packed, 1, extended=True) == [[{"x": None}, extra]]


def test_bytes_of_large_buffers_do_not_change() -> None:
    array = np.zeros((2, LARGE), "<f4")
    packed = pack([bytes(LARGE), {"m": memoryview(bytes(LARGE))}, array])
    assert isinstance(packed, Packed)
    assert packed.body.hex() == "93d503000081a16dd5040001c70d059402a33c66349202cd4000a143"
    assert [len(part) for part in packed.parts] == [LARGE, LARGE, 8 * LARGE]


# --- what arrives


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ({}, {}),
        ([], []),
        (-(2**63), -(2**63)),
        (float("inf"), float("inf")),
        ({"a": {"b": [1, "x", None, {"c": b"d"}]}}, {"a": {"b": [1, "x", None, {"c": b"d"}]}}),
        ((1, (2,)), [1, [2]]),
        ([bytearray(b"abc")], [b"abc"]),
        (OrderedDict(a=1), {"a": 1}),
        (namedtuple("Point", "x y")(1, 2), [1, 2]),
        ({"i": enum.IntEnum("Level", "low").low}, {"i": 1}),  # type: ignore[attr-defined]
        ({"s": enum.StrEnum("Name", {"a": "b"}).a}, {"s": "b"}),  # type: ignore[attr-defined]
        (
            [np.float64(1.5), np.float32(0.5), np.int8(-1), np.uint64(2**64 - 1), np.bool_(True)],
            [1.5, 0.5, -1, 2**64 - 1, True],
        ),
        ({"s": np.str_("a"), "b": np.bytes_(b"b")}, {"s": "a", "b": b"b"}),
        (bytes(LARGE), bytes(LARGE)),
        ({"s": "x" * 3 * LARGE}, {"s": "x" * 3 * LARGE}),
        (bytearray(LARGE), bytes(LARGE)),
        ({"a": [bytes(LARGE), bytes(2 * LARGE)]}, {"a": [bytes(LARGE), bytes(2 * LARGE)]}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_values_arrive_as_documented(sent: Any, arrives: Any) -> None:
    arrived = travel(sent)
    assert arrived == arrives
    assert repr(arrived) == repr(arrives)  # 1 == True == 1.0 to Python, not to us


def test_datetimes_arrive_as_utc() -> None:
    class Stamp(datetime):
        """What pandas and others have."""

    east = timezone(timedelta(hours=5, minutes=30))
    for sent in (
        datetime(1931, 5, 6, 1, 2, 3, 4, tzinfo=east),
        Stamp(2031, 5, 6, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ):
        [arrived] = travel([sent])
        assert arrived == sent
        assert type(arrived) is datetime
        assert arrived.tzinfo is UTC


@pytest.mark.parametrize("size", [0, 5, LARGE - 1, LARGE, 3 * LARGE])
def test_memoryviews_arrive_as_read_only_memoryviews_whatever_their_size(size: int) -> None:
    for sent in (memoryview(b"x" * size), memoryview(bytearray(b"x" * size)), memoryview(b"xy" * size)[::2]):
        arrived = travel({"m": sent})["m"]
        assert isinstance(arrived, memoryview)
        assert arrived.readonly
        assert arrived.format == "B"
        assert arrived == b"x" * size


ARRAYS = [
    np.arange(12).reshape(3, 4),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.arange(24, dtype=">i2").reshape(2, 3, 4)[:, ::2, 1:],
    np.array(1.5),
    np.array([]),
    np.zeros((3, 0, 2), "f2"),
    np.array([True, False]),
    np.array([1 + 2j], "c8"),
    np.array(["k\u00fcche", "b"]),
    np.array([b"ab", b"c"]),
    np.array(["2024-01-02", "NaT"], "M8[ns]"),
    np.array([1, 2], "m8[25us]"),
    np.array([b"\0\1\2"], "V3"),
    np.array([(1, 2.5, [[1, 2]])], [("a", "<i4"), ("b", ">f8"), ("c", "u1", (1, 2))]),
    np.zeros(3, np.dtype([("a", "u1"), ("b", [("x", "<f8"), ("y", "M8[s]")])], align=True)),
    np.zeros(2, {"names": ["a", "b"], "formats": ["<i4", "<i2"], "offsets": [0, 2], "itemsize": 16}),
    np.arange(2 * LARGE, dtype="u1"),
    np.asfortranarray(np.arange(2.0 * LARGE).reshape(2, LARGE)),
    np.arange(4.0 * LARGE)[::2],
    np.broadcast_to(np.arange(3), (2, 3)),
    np.zeros(LARGE, [("a", "<i4"), ("b", "<M8[s]")]),
]


@pytest.mark.parametrize("sent", ARRAYS, ids=lambda array: f"{array.dtype}-{array.shape}"[:40])
def test_arrays_arrive_with_dtype_shape_and_order(sent: Any) -> None:
    for arrived in (travel(sent), travel({"a": [sent]}, copy=False)["a"][0]):
        assert type(arrived) is np.ndarray
        assert arrived.dtype == sent.dtype
        assert arrived.shape == sent.shape
        assert repr(arrived.tolist()) == repr(sent.tolist())  # NaT is not equal to itself
        assert not arrived.flags.writeable
        if sent.flags.f_contiguous or sent.flags.c_contiguous:
            assert (arrived.flags.f_contiguous, arrived.flags.c_contiguous) == (
                sent.flags.f_contiguous,
                sent.flags.c_contiguous,
            )
        else:
            assert arrived.flags.c_contiguous


def test_what_lies_between_fields_is_never_stray_memory() -> None:
    padded = np.dtype([("a", "u1"), ("b", "<f8")], align=True)
    sent = np.zeros(96, padded)[::2]
    dirty = [np.full(sent.nbytes, 255, "u1") for _ in range(50)]
    del dirty  # now the allocator has it at hand
    assert travel(sent).view("u1").tobytes() == bytes(sent.nbytes)


def test_memory_maps_and_matrices_arrive_as_plain_arrays(tmp_path: Path) -> None:
    (tmp_path / "items").write_bytes(bytes(range(8)))
    mapped = np.memmap(tmp_path / "items", mode="r", dtype="u1")
    assert type(travel(mapped)) is np.ndarray
    assert travel(mapped).tolist() == list(range(8))


def test_an_array_without_numpy_is_the_same_message() -> None:
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    plain = Array(dtype="<i4", shape=(2, 3), buffer=memoryview(array).cast("B").toreadonly())
    assert pack(plain) == pack(array)
    assert np.array_equal(plain.to_numpy(), array)
    fields = Array(dtype=(3, ("a", "|u1", 0, ()), ("b", "<i2", 1, ())), shape=(1,), buffer=memoryview(b"\1\2\0"))
    assert travel(fields).dtype == np.dtype([("a", "u1"), ("b", "<i2")])


def test_without_numpy_arrays_arrive_as_zq_arrays() -> None:
    packed = pack(np.arange(6, dtype="<i4").reshape(2, 3))
    large = pack(np.zeros((2, LARGE), ">f4", order="F"))
    assert isinstance(large, Packed)
    program = f"""
import sys
sys.modules["numpy"] = None  # what an import then finds is a ModuleNotFoundError
from zq.wire.array import Array
from zq.wire.data import pack, unpack
[small] = unpack({packed!r}, 1)
assert isinstance(small, Array), small
assert (small.dtype, small.shape, small.order, small.buffer[4]) == ("<i4", (2, 3), "C", 1)
assert pack(small) == {packed!r}
[large] = unpack({large.body!r}, 1, (bytes({8 * LARGE}),))
assert (large.dtype, large.shape, large.order, large.buffer.nbytes) == (">f4", (2, {LARGE}), "F", {8 * LARGE})
try:
    small.to_numpy()
except ImportError:
    print("done")
"""
    result = run_alone(program)
    assert (result.stdout, result.stderr) == ("done\n", "")


def test_numpy_is_not_imported_by_sending_or_by_messages_without_arrays() -> None:
    program = """
import sys
from zq.wire.data import pack, unpack
assert unpack(pack({"a": [1, memoryview(b"x")]}), 1)
try:
    pack({1, 2})
except ValueError:
    print("numpy" in sys.modules)
"""
    result = run_alone(program)
    assert (result.stdout, result.stderr) == ("False\n", "")


def test_the_python_version_of_msgpack_decodes_the_same_and_refuses_what_is_too_deep() -> None:
    program = f"""
import os
os.environ["MSGPACK_PUREPYTHON"] = "1"
from zq.wire.data import Malformed, pack, unpack
body = pack({{"a": [1, b"x", memoryview(b"y")]}})
assert unpack(body * 3, 3, skip=1) == [{{"a": [1, b"x", b"y"]}}] * 2
assert unpack(b"\\x91" * {DEPTH} + b"\\xc0", 1)
for bad in (b"\\x91" * {DEPTH + 1} + b"\\xc0", b"\\x91" * 2000 + b"\\xc0", b"\\x91"):
    try:
        unpack(bad, 1)
    except Malformed:
        print("malformed")
"""
    result = run_alone(program)
    assert (result.stdout, result.stderr) == ("malformed\n" * 3, "")


# --- copies


def test_read_only_buffers_are_never_copied(tmp_path: Path) -> None:
    raw = bytes(LARGE)
    frozen = np.zeros(LARGE)
    frozen.flags.writeable = False
    with (tmp_path / "mapped").open("w+b") as file:
        file.write(raw)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for sent in (raw, memoryview(raw), frozen, frozen[::-1][::-1], np.frombuffer(raw), np.frombuffer(mapped, "u1")):
        packed = pack({"a": [sent]})
        assert isinstance(packed, Packed)
        assert np.shares_memory(np.frombuffer(packed.parts[0], "u1"), np.frombuffer(sent, "u1"))
    assert pack(raw).parts[0] is raw  # type: ignore[union-attr]


def test_writable_buffers_are_copied_unless_told_otherwise() -> None:
    array = np.zeros(LARGE, "u1")
    view = array.view()
    view.flags.writeable = False  # but who has `array` can still write
    for sent in (bytearray(LARGE), memoryview(bytearray(LARGE)), array, view):
        array[0] = 0
        copied, shared = pack(sent), pack(sent, copy=False)
        assert isinstance(copied, Packed)
        assert isinstance(shared, Packed)
        np.frombuffer(array if sent is view else sent, "u1")[0] = 7
        assert (copied.parts[0][0], shared.parts[0][0]) == (0, 7)


def test_a_large_buffer_is_not_copied_on_its_way() -> None:
    data = {"id": 1, "frame": bytes(8 << 20)}
    pack(data)
    tracemalloc.start()
    packed = pack(data)
    assert isinstance(packed, Packed)
    [arrived] = unpack(packed.body, 1, packed.parts)
    [shown] = unpack(pack(memoryview(data["frame"])).body, 1, packed.parts)  # type: ignore[union-attr, arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert arrived["frame"] is data["frame"]
    assert shown.obj is data["frame"]
    assert peak < 64 << 10


def test_parts_that_are_other_buffers_than_bytes_arrive_alike() -> None:
    packed = pack([bytes(LARGE), np.zeros(LARGE)])
    assert isinstance(packed, Packed)
    for kind in (bytearray, memoryview, lambda part: memoryview(bytearray(part))):
        [[arrived, array]] = unpack(memoryview(packed.body), 1, [kind(part) for part in packed.parts])
        [[_, shown]] = unpack(b"\x92\xd5\x03\0\0\xd5\x04\0\1", 1, [kind(part) for part in packed.parts])
        assert isinstance(shown, memoryview)
        assert shown.readonly
        assert type(arrived) is bytes
        assert arrived == bytes(LARGE)
        assert not array.flags.writeable


# --- what is refused

LOOP: list[Any] = [1]
LOOP.append({"again": LOOP})


class NoOffset(tzinfo):
    def utcoffset(self, moment: datetime | None) -> None:
        return None


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"a": [1, 2, 3, {1}]}, r"at data\['a'\]\[3\]: a set cannot be sent; use a list"),
        (frozenset(), r"at data: a frozenset cannot be sent; use a list"),
        ({1: 2}, r"at data: a map's keys are str, not 1 of type int"),
        ({"a": ({b"k": 1},)}, r"at data\['a'\]\[0\]: a map's keys are str, not b'k'"),
        ({"a": {None: 1}}, r"at data\['a'\]: a map's keys are str"),
        ({"t": datetime(2024, 1, 1)}, r"at data\['t'\]: a datetime without time zone"),  # noqa: DTZ001
        ([datetime(2024, 1, 1, tzinfo=NoOffset())], r"at data\[0\]: a datetime without time zone"),
        ([datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))], r"at data\[0\]: .* no year"),
        ({"n": 2**64}, r"at data\['n'\]: an int over 64 bit"),
        ([[-(2**63) - 1]], r"at data\[0\]\[0\]: an int over 64 bit"),
        (2**70, r"at data: an int over 64 bit"),
        ({"s": "a\ud800"}, r"at data\['s'\]: a str with a lone surrogate at position 1"),
        ([{"a\udcff": 1}], r"at data\[0\]: key 'a\\udcff': a str with a lone surrogate"),
        ({"c": [1j]}, r"at data\['c'\]\[0\]: a complex cannot be sent; use a list of two floats"),
        (Decimal(1), r"at data: a Decimal cannot be sent; use a str"),
        ([date(2024, 1, 1)], r"at data\[0\]: a date cannot be sent; use its isoformat"),
        ([object()], r"at data\[0\]: a object cannot be sent"),
        ([msgpack.ExtType(4, b"\0\0")], r"at data\[0\]: a ExtType cannot be sent"),
        ([msgpack.Timestamp(1)], r"at data\[0\]: a Timestamp cannot be sent"),
        ({"o": np.array([None])}, r"at data\['o'\]: an array of Python objects"),
        ([np.zeros(1, [("a", "O")])], r"at data\[0\]: an array of Python objects"),
        ([np.zeros(1, "g")], r"at data\[0\]: .* differs between machines"),
        ([np.zeros(1, "V0")], r"at data\[0\]: '\|V0' is not the type of an array that can be sent"),
        ([np.zeros(1, {"names": ["a"], "formats": ["i4"], "titles": ["t"]})], r"at data\[0\]: .* convert it"),
        ([np.ma.masked_array([1], [True])], r"at data\[0\]: a masked array would lose its mask"),
        ([np.complex64(1)], r"at data\[0\]: a complex64 cannot be sent"),
        ([np.datetime64("2024-01-01")], r"at data\[0\]: a datetime64 cannot be sent"),
        ([np.longdouble(1)], r"at data\[0\]: a longdouble cannot be sent"),
        ([memoryview(np.zeros(2))], r"at data\[0\]: a memoryview of 'd' items"),
        ([memoryview(np.zeros((2, 2), "u1"))], r"at data\[0\]: a memoryview of 'B' items"),
        (LOOP, r"at data\[1\]\['again'\]\[1\].*: a (list|dict) that contains itself"),
        (nested(DEPTH + 1), rf"more than {DEPTH} containers inside each other"),
        ({"a": nested(DEPTH)}, rf"at data\['a'\](\[0\])+: more than {DEPTH} containers inside each other"),
    ],
    ids=lambda value: repr(value)[:30] if not isinstance(value, str) else None,
)
def test_what_cannot_be_sent_is_refused_with_the_place(data: Any, complaint: str) -> None:
    with pytest.raises(errors.Refused, match=complaint):
        pack(data)
    with pytest.raises(errors.Refused, match="data"):
        pack({"big": bytes(LARGE), "x": data})
    assert pack({"a": 1}) == b"\x81\xa1a\x01"  # and the next message is not affected


def test_a_released_memoryview_is_refused() -> None:
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(errors.Refused, match=r"at data\[0\]: a memoryview that was released"):
        pack([view])


def test_data_as_deep_as_allowed_travels() -> None:
    assert travel(nested(DEPTH)) == nested(DEPTH)
    assert travel([bytes(LARGE), nested(DEPTH - 1)])[1] == nested(DEPTH - 1)
    assert travel({"a": nested(DEPTH - 1)}) == {"a": nested(DEPTH - 1)}


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """A limit of a message that tests reach in no time."""
    for module in (codec, incoming, outgoing):
        monkeypatch.setattr(module, "PAYLOAD", 1 << 20)
    return 1 << 20


def test_the_limit_of_a_message_is_256_mib() -> None:
    assert PAYLOAD == 268_435_456
    assert codec.PAYLOAD == incoming.PAYLOAD == outgoing.PAYLOAD == PAYLOAD


def test_a_message_over_the_limit_is_refused(low_limit: int) -> None:
    quarter = bytes(low_limit // 4)
    assert isinstance(pack([quarter] * 3 + [quarter[100:]]), Packed)
    for data in ([quarter] * 4, {"text": "x" * low_limit}, ["x" * low_limit], [memoryview(b""), "x" * low_limit]):
        with pytest.raises(errors.Refused, match=r"1,048,576"):
            pack(data)
    assert len(pack({"text": "x" * (low_limit - 100)})) < low_limit


def test_what_is_over_the_limit_is_not_copied_to_the_end(low_limit: int) -> None:
    data = [bytearray(low_limit // 2)] * 50
    tracemalloc.start()
    with pytest.raises(errors.Refused, match=r"1,048,576"):
        pack(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * low_limit


def test_data_that_would_unfold_without_end_is_refused(low_limit: int) -> None:
    wide: Any = [1] * 100
    for _ in range(DEPTH - 2):
        wide = [wide] * 100
    for data in (wide, [memoryview(b""), wide]):
        with pytest.raises(errors.Refused, match="more items than a message"):
            pack(data)


def test_a_large_message_does_not_keep_its_memory() -> None:
    text = "x" * (32 << 20)
    gc.collect()
    before = _resident()
    for _ in range(3):
        assert len(pack({"a": text})) > len(text)
        assert len(pack([text])) > len(text)
    assert _resident() - before < 24 << 20


def _resident() -> int:
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * mmap.PAGESIZE


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        ([None] * 5, "a list of 6"),
        ((None,) * 6, "a list of 6"),
        ([1, None, None, None, None, None], "id 1 is not a str"),
        (["x" * (NAME + 1), None, None, None, None, None], "id .* is not a str of up to 255"),
        (["\ud800", None, None, None, None, None], "lone surrogate"),
        ([None, None, b"k", None, None, None], "key b'k' is not a str"),
        ([None, None, None, "1", None, None], "priority '1' is not an int"),
        ([None, None, None, True, None, None], "priority True is not an int"),
        ([None, None, None, None, -1, None], "ttl -1 is not"),
        ([None, None, None, None, None, 2**30 + 1], "delay 1073741825 is not"),
        ([None, None, None, None, float("nan"), None], "ttl nan is not"),
        ([None, None, None, None, None, float("inf")], "delay inf is not"),
        ([None, {"a": "b"}, None, None, None, None], "headers are up to 64 pairs"),
        ([None, ["a"], None, None, None, None], "headers are up to 64 pairs"),
        ([None, ["a", "b"] * (HEADERS + 1), None, None, None, None], "headers are up to 64 pairs"),
        ([None, ["a", 1], None, None, None, None], "the value of header 'a' is not a str"),
        ([None, [1, "a"], None, None, None, None], "header name 1 is not a str"),
        (
            [None, ["a", "x" * (HEADER + 1)], None, None, None, None],
            "the value of header 'a' is not a str of up to 8,192",
        ),
        ([None, ["a", "\ud800"], None, None, None, None], "lone surrogate"),
    ],
    ids=lambda value: repr(value)[:30] if not isinstance(value, str) else None,
)
def test_bad_extra_fields_are_refused_by_sender_and_receiver(extra: Any, complaint: str) -> None:
    with pytest.raises(errors.Refused, match=complaint):
        pack(1, extra)
    if "surrogate" not in complaint and type(extra) is list:
        with pytest.raises(Malformed, match=complaint):
            unpack(msgpack.packb([1, extra]), 1, extended=True)


# --- what comes from the network


def test_batches_are_joined_bodies() -> None:
    extra = ["id", *NO_EXTRA[1:]]
    plain = b"".join(pack([number]) for number in range(5))  # type: ignore[misc]
    extended = b"".join(pack([number], extra) for number in range(5))  # type: ignore[misc]
    for body, messages in (
        (plain, [[number] for number in range(5)]),
        (extended, [[[number], extra] for number in range(5)]),
    ):
        kind = body is extended
        assert unpack(body, 5, extended=kind) == messages
        assert unpack(memoryview(b"header" + body)[6:], 5, extended=kind) == messages
        for skip in range(6):
            assert unpack(body, 5, skip=skip, extended=kind) == messages[skip:]
        for count, skip in ((4, 0), (6, 0), (0, 0), (4, 2), (6, 2)):
            with pytest.raises(Malformed):
                unpack(body, count, skip=skip, extended=kind)


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize("data", [data for data, _ in GOLDEN], ids=repr)
def test_messages_that_are_packed_together_are_those_packed_one_by_one(data: Any) -> None:
    for values in ([data], [data] * 3, [{"a": data}], [{"a": 1}, {"b": data, "c": "x"}]):
        assert pack_flat(values) in (None, [pack(value) for value in values])


def test_only_what_is_flat_and_short_is_packed_together() -> None:
    flat = {"id": 1, "t": 21.5, "name": "kitchen", "payload": b"x" * 50, "on": True, "off": None}
    for values in ([flat, {}, {"a": "b"}], [1, "a", None, 2.5, b"x", False], [{"a": b"x" * (PART_MINIMUM - 10)}]):
        assert pack_flat(values) == [pack(value) for value in values]
    for other in (
        {1: 2},
        {Text("a"): 1},
        {"a": Text("b")},
        {"a": memoryview(b"b")},
        {"a": bytearray(b"b")},
        {"a": b"b" * PART_MINIMUM},
        {"a": "b" * PART_MINIMUM},
        {"a": "\ud800"},
        {"a": 1 << 64},
        {"a": [1]},
        {"a": datetime.now(UTC)},
        OrderedDict(a=1),
        [1],
        1,
    ):
        assert pack_flat([flat, other]) is None
        assert pack_flat([other, flat]) is None
    assert pack_flat([flat]) == [pack(flat)], "and the next message is not affected"


def test_messages_with_and_without_extra_fields_are_not_taken_for_each_other() -> None:
    with pytest.raises(Malformed, match="an array of data and fields"):
        unpack(pack({"a": 1}), 1, extended=True)  # type: ignore[arg-type]
    assert unpack(pack(1, NO_EXTRA), 1) == [[1, NO_EXTRA]]  # type: ignore[arg-type] # data, if the frame says so


def test_a_long_batch_of_ordinary_messages_is_not_too_deep() -> None:
    data = {"id": 1, "t": 21.5, "name": "sensor", "payload": b"\x91" * 50, "list": [[1], {"a": 2}]}
    body = pack(data)
    assert isinstance(body, bytes)
    assert unpack(body * 512, 512) == [data] * 512


FILLER = pack("x" * 600)


@pytest.mark.parametrize(
    "inner",
    [b"\x91", b"\x81\xa1a", b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x01", b"\xde\x00\x01\xa1a", b"\xdf\0\0\0\1\xa1a"],
)
@pytest.mark.parametrize("before", [0, 1, 600])
def test_depth_is_limited_exactly_wherever_the_message_is(inner: bytes, before: int) -> None:
    assert isinstance(FILLER, bytes)
    around = FILLER * before
    assert len(unpack(around + inner * DEPTH + b"\xc0", before + 1)) == before + 1
    for levels in (DEPTH + 1, 500, 990, 1023, 5000):
        with pytest.raises(Malformed):
            unpack(around + inner * levels + b"\xc0", before + 1)


def test_extra_fields_add_one_level() -> None:
    fields = msgpack.packb(NO_EXTRA)
    assert unpack(b"\x92" + b"\x91" * DEPTH + b"\xc0" + fields, 1, extended=True)
    with pytest.raises(Malformed):
        unpack(b"\x92" + b"\x91" * (DEPTH + 1) + b"\xc0" + fields, 1, extended=True)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x91\xdd\xff\xff\xff\xff",
        b"\x91\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff" * 30,
        b"\xdd\x00\x0f\xff\xff" * 200_000,
        (b"\xdd\x00\x00\x27\x10" * 31 + b"\xc0") * 3_000,
        b"\x91\xc9\xff\xff\xff\xff\x02",
        b"\x91\xdb\xff\xff\xff\xff" + b"a" * 1000,
    ],
    ids=lambda bomb: repr(bomb[:12]),
)
def test_a_bomb_allocates_nothing(bomb: bytes) -> None:
    """1 MB of array headers made the decoder of msgpack 1.1 allocate 3.8 GB."""
    tracemalloc.start()
    for count in (1, 3000):
        with pytest.raises(Malformed):
            unpack(bomb, count)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * len(bomb) + (64 << 10)


def _ext(code: int, payload: bytes) -> bytes:
    return b"\xc8" + len(payload).to_bytes(2, "big") + code.to_bytes(1, "big", signed=True) + payload


def _array_in_part(*fields: Any) -> bytes:
    return _ext(5, msgpack.packb(fields))


def _array_inline(*fields: Any) -> bytes:
    return _ext(2, msgpack.packb(fields))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x91\x01\x00",
        b"\xc1",
        b"\x91\xc1",
        b"\x91\xa1\xff",
        b"\x91\x81\x01\x02",
        b"\x91\x81\x90\x02",
        b"\x91\xa5ab",
        _ext(-1, b"abc"),
        _ext(-1, b"\xff" * 12),
        _ext(-1, b"\0\0\0\0" + b"\x7f" * 8),
        _ext(0, b"x"),
        _ext(6, b"x"),
        _ext(127, b"x"),
        _ext(3, b"\0\0"),
        _ext(4, b"\0\0"),
        _array_in_part(0, "<f8", [2], "C"),
        _ext(2, b""),
        _ext(2, b"\xc1"),
        _ext(2, b"\x91" * 5000 + b"\xc0"),
        _array_inline("<f8", [1], "C"),
        _array_inline("<f8", [1], "C", "12345678"),
        _array_inline("<f8", [1], "C", bytes(8), 1),
        _array_inline("<f8", [2], "C", bytes(8)),
        _array_inline("<f8", [-1], "C", bytes(8)),
        _array_inline("<f8", [True], "C", bytes(8)),
        _array_inline("<f8", 1, "C", bytes(8)),
        _array_inline("<f8", [1] * 65, "C", bytes(8)),
        _array_inline("<f8", [0, 2**63, 2**63], "C", b""),
        _array_inline("<f8", [1], "K", bytes(8)),
        _array_inline("<f8", [1], None, bytes(8)),
        _array_inline("O", [1], "C", bytes(8)),
        _array_inline("|O8", [1], "C", bytes(8)),
        _array_inline("<f3", [1], "C", bytes(3)),
        _array_inline("<f16", [1], "C", bytes(16)),
        _array_inline("f8,f8", [1], "C", bytes(16)),
        _array_inline("<f8[s]", [1], "C", bytes(8)),
        _array_inline("<M8[999999999s]x", [1], "C", bytes(8)),
        _array_inline("<V0", [5], "C", b""),
        _array_inline(None, [1], "C", bytes(8)),
        _array_inline({"names": ["a"]}, [1], "C", bytes(8)),
        _array_inline([8], [1], "C", bytes(8)),
        _array_inline(nested(500), [1], "C", bytes(8)),
        _array_inline(nested(1000), [1], "C", bytes(8)),
        _array_inline([8, ["a", "<f8", 1, []]], [1], "C", bytes(8)),
        _array_inline([8, ["a", "<f8", -1, []]], [1], "C", bytes(8)),
        _array_inline([8, ["a", "|O8", 0, []]], [1], "C", bytes(8)),
        _array_inline([8, ["a", "<f4", 0, [3]]], [1], "C", bytes(8)),
        _array_inline([8, ["a", "<f4", 0, []], ["a", "<f4", 4, []]], [1], "C", bytes(8)),
        _array_inline([2**40, ["a", "<f4", 0, []]], [0], "C", b""),
        _array_inline([0, ["a", "|V0", 0, []]], [9], "C", b""),
    ],
    ids=lambda body: repr(body)[:50],
)
def test_what_pack_does_not_make_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        unpack(body, 1)
    good = pack({"a": 1})
    assert isinstance(good, bytes)
    with pytest.raises(Malformed):
        unpack(good + body + good, 3)


@pytest.mark.parametrize(
    "body", [b"\xc0", b"\x90", b"\x81\xa1a\x01", b"\x91\x01", b"\x93\x01\xc0\xc0", b"\x92\x01\xc0"]
)
def test_extra_fields_come_with_their_data_and_with_nothing_else(body: bytes) -> None:
    with pytest.raises(Malformed):
        unpack(body, 1, extended=True)
    good = pack({"a": 1}, NO_EXTRA)
    assert isinstance(good, bytes)
    with pytest.raises(Malformed):
        unpack(good + body + good, 3, extended=True)


@pytest.mark.parametrize(
    ("body", "sizes"),
    [
        (pack(1), [LARGE]),
        (_ext(3, b"\0\1"), [LARGE]),
        (_ext(3, b"\0"), [LARGE]),
        (_ext(4, b"\0\0\0"), [LARGE]),
        (_ext(3, b"\0\0"), [LARGE, LARGE]),
        (bytes(msgpack.packb([msgpack.ExtType(3, b"\0\0")] * 2)), [LARGE]),
        (_array_in_part(0, "<f8", [2], "C"), [LARGE]),
        (_array_in_part(1, "<f8", [LARGE // 8], "C"), [LARGE]),
        (_array_in_part(-1, "<f8", [LARGE // 8], "C"), [LARGE]),
        (_array_in_part(None, "<f8", [LARGE // 8], "C"), [LARGE]),
        (_array_in_part(0, "|O8", [LARGE // 8], "C"), [LARGE]),
    ],
)
def test_parts_are_referred_to_exactly_once(body: bytes, sizes: list[int]) -> None:
    with pytest.raises(Malformed):
        unpack(body, 1, [bytes(size) for size in sizes])


def test_parts_belong_to_single_messages() -> None:
    packed = pack(bytes(LARGE))
    assert isinstance(packed, Packed)
    with pytest.raises(Malformed):
        unpack(packed.body + b"\x01", 2, packed.parts)
    assert unpack(packed.body, 1, packed.parts, skip=1) == []


def test_what_is_over_the_limit_is_malformed(low_limit: int) -> None:
    body, half = b"\x92\xd5\x03\0\0\xd5\x03\0\1", bytes(low_limit // 2)
    assert unpack(body, 1, [half, half]) == [[half, half]]
    with pytest.raises(Malformed, match="the limit"):
        unpack(body, 1, [half, half + b"x"])
    with pytest.raises(Malformed, match="the limit"):
        unpack(b"\x91\x01" * low_limit, low_limit)


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(errors.Refused, match="an array of 16 bytes cannot have a buffer of 8"):
        Array(dtype="<f8", shape=(2,), buffer=memoryview(bytes(8)))
    with pytest.raises(errors.Refused, match="shape"):
        Array(dtype="<f8", shape=(-1,), buffer=memoryview(b""))
    with pytest.raises(errors.Refused, match="order"):
        Array(dtype="<f8", shape=(), order="K", buffer=memoryview(bytes(8)))  # type: ignore[arg-type]
    writable = bytearray(8)
    array = Array(dtype="<f8", shape=(), buffer=memoryview(writable))
    writable[0] = 1
    assert bytes(array.buffer) == bytes(8)


# --- threads


def test_threads_that_pack_at_once_do_not_mix_their_messages() -> None:
    wrong: list[Any] = []
    start = threading.Barrier(4)

    def send(number: int) -> None:
        small = {"thread": number, "text": str(number) * 50}
        odd = [memoryview(b"%d" % number), datetime(2000 + number, 1, 1, tzinfo=UTC), {"again": small}]
        start.wait()
        for _ in range(1_500):
            wrong.extend(data for data in (small, odd, [small]) if travel(data) != data)
            try:
                pack([small, 2**64])
            except errors.Refused:
                continue
            wrong.append(2**64)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


def test_without_the_gil_no_packer_is_shared() -> None:
    program = """
import sys
sys._is_gil_enabled = lambda: False
from zq.wire import data, outgoing
assert data._pack is outgoing.fresh_pack
assert data.unpack(data.pack({"a": "x" * 2_000_000}) + data.pack([1]), 2)[1] == [1]
assert data._pack is outgoing.fresh_pack
print("done")
"""
    result = run_alone(program)
    assert (result.stdout, result.stderr) == ("done\n", "")


def test_the_decoder_of_msgpack_has_the_limit_that_the_depth_check_relies_on() -> None:
    assert incoming.EXACT
