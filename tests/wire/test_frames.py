"""Frames: their bytes are a contract, what goes in comes out, and no input raises anything but Malformed."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zq.wire import frames
from zq.wire.batch import (
    BATCH,
    NAMED,
    PARTS,
    REDELIVERED,
    REPORT,
    TOPIC,
    Batch,
    BatchHeader,
    Joined,
    Run,
    check,
    decode_batch,
    decode_topic,
    encode_batch,
    encode_topic,
    size_of,
    split,
    topic_prefix,
)
from zq.wire.body import Body, address, decode_addressed, unpack_array
from zq.wire.data import Malformed
from zq.wire.frames import Fence, Head
from zq.wire.limits import MAILBOX_FRAME
from zq.wire.requests import REPLY, REQUEST

A, B, LINK, PULLER = b"a" * 16, b"b" * 16, b"l" * 16, b"p" * 16
NONCE, TAG = b"nonce-01", b"realmtag"
KINDS = [
    kind for kind in vars(frames).values() if isinstance(kind, type) and issubclass(kind, Body) and kind is not Body
]

# One of each kind with its bytes. They are in docs/protocol.md; who changes them breaks running peers.
BODIES: list[tuple[Body, str]] = [
    (
        frames.Hello(1, 1, TAG, NONCE, 2, "sensor", "host", 77, [["m", "f", "w"]]),
        "48"
        + "62" * 16
        + "61" * 16
        + "990101c4087265616c6d746167c4086e6f6e63652d303102a673656e736f72a4686f73744d9193a16da166a177",
    ),
    (
        frames.Welcome(NONCE, 2, "sensor", "host", 77, [["m", "f", "w"]]),
        "77" + "62" * 16 + "61" * 16 + "96c4086e6f6e63652d303102a673656e736f72a4686f73744d9193a16da166a177",
    ),
    (frames.Goodbye([["a/b", 7]]), "47" + "62" * 16 + "61" * 16 + "919192a3612f6207"),
    (
        frames.Entry(
            3,
            NONCE,
            [["a/**", -1.0, 1]],
            [["a/b", 7]],
            [["jobs", 2, 0.5]],
            [["mail", PULLER]],
            [["sum", PULLER]],
            [["mail", PULLER, ["a/*"]]],
            ["old"],
            [[1, "jobs", PULLER, PULLER, 2, 1]],
            [[0, "a/b", "gap", 3]],
            [["jobs", PULLER, LINK, 1]],
            [["a/**", LINK, True, [["c", 2, ["a/b"]]]]],
            [[LINK, "c", PULLER, ["a/b"], 2, 10.0]],
        ),
        "45" + "62" * 16 + "61" * 16 + "9e03c4086e6f6e63652d30319193a4612f2a2acbbff0000000000000019192a3612f6207"
        "9193a46a6f627302cb3fe00000000000009192a46d61696cc410"
        + "70" * 16
        + "9192a373756dc410"
        + "70" * 16
        + "9193a46d61696cc410"
        + "70" * 16
        + "91a3612f2a91a36f6c64"
        + "919601a46a6f6273"
        + 2 * ("c410" + "70" * 16)
        + "0201"
        + "919400a3612f62a367617003"
        + "9194a46a6f6273c410"
        + "70" * 16
        + "c410"
        + LINK.hex()
        + "01"
        + "9194a4612f2a2ac410"
        + LINK.hex()
        + "c39193a1630291a3612f62"
        + "9196c410"
        + LINK.hex()
        + "a163c410"
        + "70" * 16
        + "91a3612f6202cb4024000000000000",
    ),
    (
        frames.Recall(5, LINK, ["a/**"]),
        "63" + "62" * 16 + "61" * 16 + "9305c410" + LINK.hex() + "91a4612f2a2a",
    ),
    (
        frames.Binding("mail", PULLER, 1.5),
        "62" + "62" * 16 + "61" * 16 + "93a46d61696cc410" + "70" * 16 + "cb3ff8000000000000",
    ),
    (
        frames.Since("mail", PULLER, -1.5),
        "64" + "62" * 16 + "61" * 16 + "93a46d61696cc410" + "70" * 16 + "cbbff8000000000000",
    ),
    (
        frames.Peers([[PULLER, ["tcp://a:1", "tcp://b:1"]]]),
        "70" + "62" * 16 + "61" * 16 + "919192c410" + "70" * 16 + "92a97463703a2f2f613a31a97463703a2f2f623a31",
    ),
    (frames.Noted(3), "4e" + "62" * 16 + "61" * 16 + "9103"),
    (frames.Seen([["a/b", 7, 5]]), "53" + "62" * 16 + "61" * 16 + "919193a3612f620705"),
    (
        frames.Repair(4, "a/b", 5, 7, 1.5),
        "52" + "62" * 16 + "61" * 16 + "9504a3612f620507cb3ff8000000000000",
    ),
    (frames.Refilled(4, "a/b", 5, 1, 7), "66" + "62" * 16 + "61" * 16 + "9504a3612f62050107"),
    (
        frames.Probe(LINK, 0, 1, "jobs", PULLER, 1, 9, 2, 3, 100, 5),
        "50" + "62" * 16 + "61" * 16 + "9bc410" + "6c" * 16 + "0001a46a6f6273c410" + "70" * 16 + "010902036405",
    ),
    (
        frames.State(LINK, 0, 10, [[1, 8, 0]], [[9, 1, 0.5, "no"]], 64, 1000, 4, 9, False, 11),
        "73"
        + "62" * 16
        + "61" * 16
        + "9bc410"
        + "6c" * 16
        + "000a919301080091940901cb3fe0000000000000a26e6f40cd03e80409c20b",
    ),
    (frames.End(LINK), "65" + "62" * 16 + "61" * 16 + "91c410" + "6c" * 16),
    (frames.Inquiry([5, 300]), "79" + "62" * 16 + "61" * 16 + "919205cd012c"),
    (frames.Missing([5], [6]), "6d" + "62" * 16 + "61" * 16 + "9291059106"),
    (frames.Ask(5, 1), "41" + "62" * 16 + "61" * 16 + "920501"),
    (
        frames.Inquire(6, frames.RETRY, "jobs", ["a-1"], "jobs.dead", 3),
        "49" + "62" * 16 + "61" * 16 + "960601a46a6f627391a3612d31a96a6f62732e6465616403",
    ),
    (
        frames.Inspect(6, frames.MESSAGES, "jobs", "", 17, 100, False),
        "56" + "62" * 16 + "61" * 16 + "980602a46a6f6273a01164c201",
    ),
    (
        frames.Findings(6, True, [{"number": 17}], 18, 0, "no"),
        "76" + "62" * 16 + "61" * 16 + "9806c39181a66e756d626572111200a26e6f0101",
    ),
    (
        frames.Letters(6, 0, [["jobs.dead", 4, A, 9, 1.5, 2, True, b"\x92\x01"]], True, "no"),
        "69"
        + "62" * 16
        + "61" * 16
        + "9506009198a96a6f62732e6465616404c410"
        + "61" * 16
        + "09cb3ff800000000000002c3c4029201c3a26e6f",
    ),
    (frames.LedgerReply(5, {"name": "x"}, 1, 2, 3), "4c" + "62" * 16 + "61" * 16 + "950581a46e616d65a178010203"),
]

TOPIC_FRAME = bytes.fromhex(
    "54612f6200" + "00" + "61" * 16 + "0000000000000064" + "0000000000000007" + "00000002"
    "41d26580b4800000" + "3ff8000000000000" + "9101" + "9102"
)
HEAD_FRAME = bytes.fromhex(
    "54612f6200" + "01" + "61" * 16 + "00" * 8 + "0000000000000008" + "00000000" + "00" * 8 + "3ff8000000000000"
)
BATCH_FRAME = bytes.fromhex(
    "42" + "62" * 16 + "61" * 16 + "6c" * 16 + "00" + "0002" + "04" + "0000000000000005" + "00000003"
    "0000000000000004"
    + "0000000000000001"
    + "00000009"
    + "0002"
    + "61" * 16
    + "0000000000000064"
    + "00000002"
    + "41d26580b4800000"
    + "61" * 16
    + "00000000000000c8"
    + "00000001"
    + "0000000000000000"
    + "9101"
    + "9102"
    + "9103"
)
FENCE_FRAME = bytes.fromhex(
    "ff" + "62" * 16 + "6e6f6e63652d3031" + "93c410" + "61" * 16 + "cb4059000000000000"
    "9195a3612f6207cb3ff0000000000000cb4000000000000000c3"
)
REFILL_FRAME = bytes.fromhex("46" + "62" * 16 + "61" * 16 + "0000000000000004")

HEADER = BatchHeader(
    addressee=B, sender=A, link=LINK, lane=0, attempt=2, flags=REDELIVERED, first=5, length=3, floor=4,
    returned=1, wanted=9,
)  # fmt: skip
RUNS = [Run(A, 100, 2, 1234567890.0), Run(A, 200, 1, 0.0)]


# --- golden bytes


@pytest.mark.parametrize(("body", "golden"), BODIES, ids=[type(body).__name__ for body, _ in BODIES])
def test_bytes_of_addressed_frames(body: Body, golden: str) -> None:
    frame = body.encode(B, A)
    assert frame.hex() == golden
    kind, addressee, sender, rest = decode_addressed(frame)
    assert (kind, addressee, sender) == (type(body).KIND, B, A)
    assert type(body).decode(rest) == body


def test_every_kind_has_golden_bytes_and_a_letter_of_its_own() -> None:
    kinds = [kind.KIND for kind in KINDS]
    assert {type(body) for body, _ in BODIES} == set(KINDS)
    assert len({*kinds, BATCH, frames.REFILL, TOPIC, frames.FENCE, REQUEST, REPLY}) == len(kinds) + 6


def test_bytes_of_a_topic_frame() -> None:
    run = Run(A, 100, 2, 1234567890.0)
    frame = encode_topic(topic_prefix("a/b"), 0, run, 7, 1.5, [b"\x91\x01", b"\x91\x02"])
    assert frame.hex() == TOPIC_FRAME.hex()
    batch = decode_topic((frame,))
    assert (batch.topic, batch.sender, batch.first, batch.last, batch.live) == ("a/b", A, 7, 8, 2)
    assert bytes(batch.body) == b"\x91\x01\x91\x02"
    assert (batch.identify(1), batch.sent_at(0)) == (f"{A.hex()}-101", 1234567890.0)


def test_bytes_of_a_head() -> None:
    frame = encode_topic(topic_prefix("a/b"), REPORT, Run(A, 0, 0, 0.0), 8, 1.5, [])
    assert frame.hex() == HEAD_FRAME.hex()
    head = decode_topic((frame,))
    assert (head.first, head.count, head.flags) == (8, 0, REPORT)


def test_bytes_of_a_batch() -> None:
    frame = encode_batch(HEADER, RUNS, [b"\x91\x01", b"\x91\x02", b"\x91\x03"])
    assert frame.hex() == BATCH_FRAME.hex()
    header, batch = decode_batch((frame,))
    assert header == HEADER
    assert (batch.first, batch.last, batch.attempt, batch.redelivered) == (5, 7, 2, True)
    assert [batch.identify(index) for index in range(3)] == [f"{A.hex()}-{number}" for number in (100, 101, 200)]


def test_bytes_of_a_batch_of_a_topic() -> None:
    """The flag NAMED, and before the messages the topic's name and a zero."""
    golden = BATCH_FRAME.replace(b"\x02\x04", b"\x02\x14", 1).replace(b"\x91\x01", b"a/b\x00\x91\x01", 1)
    header = HEADER._replace(flags=REDELIVERED | NAMED)
    frame = encode_batch(header, RUNS, [b"\x91\x01", b"\x91\x02", b"\x91\x03"], "a/b")
    assert frame.hex() == golden.hex()
    decoded, batch = decode_batch((frame,))
    assert (decoded, batch.topic, bytes(batch.body)) == (header, "a/b", b"\x91\x01\x91\x02\x91\x03")


@pytest.mark.parametrize(
    "name", [b"", b"a/b", b"\0", b"a//b\0", b"**\0", b"\xc3\xa9\0", b"a" * 256 + b"\0"], ids=lambda name: repr(name)[:9]
)
def test_a_batch_of_what_is_no_topic_is_malformed(name: bytes) -> None:
    header = HEADER._replace(flags=NAMED)
    with pytest.raises(Malformed):
        decode_batch((encode_batch(header, RUNS, [name + b"\x91\x01\x91\x02\x91\x03"]),))


def test_a_body_is_split_into_its_messages() -> None:
    items = [b"\x01", b"\x92\xa1a\xc0", b"\xc4\x02ab"]
    assert split(memoryview(b"".join(items)), 3) == items
    check(memoryview(b"".join(items)), 3)
    for count, body in ((2, b"\x01"), (1, b"\x01\x02"), (1, b"\xc4\x05a"), (1, b"\xc1"), (1, b"\x91" * 2_000)):
        for judge in (split, check):
            with pytest.raises(Malformed):
                judge(body, count)


def test_joined_messages_are_as_those_that_were_split() -> None:
    items = [b"\x01", b"\x92\xa1a\xc0", b"\xc4\x02ab"]
    joined = Joined(memoryview(b"".join(items)), 3)
    assert (len(joined), list(joined), joined[1], joined[1:]) == (3, items, items[1], items[1:])
    assert size_of(joined) == size_of(items) == 9


APPENDED = ("replies", "binds", "unbinds", "lags", "drops", "spools", "streams", "cursors")


@pytest.mark.parametrize("appended", range(9), ids=["none", *APPENDED])
def test_an_entry_of_an_earlier_version_has_nothing_of_what_was_appended(appended: int) -> None:
    """Those of `APPENDED`, in this order."""
    frame = bytearray(frames.Entry(1, NONCE, [], [], [], []).encode(B, A))
    assert frame[33] == 0x9E
    frame[33] -= 8 - appended
    del frame[len(frame) - (8 - appended) :]
    entry = frames.Entry.decode(bytes(frame[33:]))
    assert entry == frames.Entry(1, NONCE, [], [], [], [])
    assert [getattr(entry, name) for name in APPENDED] == [[]] * 8
    assert frames.Entry.FIELDS[6:] == APPENDED


def test_bytes_of_a_fence() -> None:
    fence = Fence(B, NONCE, A, 100.0, [Head("a/b", 7, 1.0, 2.0, True)])
    assert frames.encode_fence(fence).hex() == FENCE_FRAME.hex()
    assert frames.decode_fence(FENCE_FRAME) == fence
    assert FENCE_FRAME.startswith(frames.fence_prefix(B, NONCE))


def test_bytes_of_a_refill() -> None:
    assert frames.refill_frame(B, A, 4).hex() == REFILL_FRAME.hex()
    assert decode_addressed(REFILL_FRAME)[:3] == (frames.REFILL, B, A)


# --- round trips

NUMBERS = st.integers(0, (1 << 63) - 1)
IDS = st.binary(min_size=16, max_size=16)
TEXT = st.text(max_size=20)
SECONDS = st.floats(allow_nan=False)


@given(NUMBERS, IDS, st.lists(st.tuples(NUMBERS, NUMBERS, st.integers(0, 4)).map(list)), st.booleans(), SECONDS, TEXT)
@settings(deadline=None)
def test_a_state_comes_out_as_it_went_in(
    number: int, link: bytes, settled: list[list[int]], closed: bool, delay: float, reason: str
) -> None:
    state = frames.State(link, 0, number, settled, [[number, 1, delay, reason]], 1, 2, 3, 4, closed, number)
    assert frames.State.decode(state.encode(B, A)[33:]) == state


@given(st.lists(st.tuples(IDS, NUMBERS, st.integers(1, 500), SECONDS), min_size=1, max_size=9), st.binary(), NUMBERS)
@settings(deadline=None)
def test_a_batch_comes_out_as_it_went_in(runs: list[tuple[bytes, int, int, float]], body: bytes, first: int) -> None:
    rows = [Run(*run) for run in runs]
    header = HEADER._replace(first=first + 1, length=sum(run.length for run in rows))
    body += bytes(header.length)  # a message has a byte at least
    decoded, batch = decode_batch((encode_batch(header, rows, [body]),))
    assert (decoded, list(batch.runs), bytes(batch.body)) == (header, rows, body)


def test_infinite_patience_travels() -> None:
    entry = frames.Entry(1, NONCE, [["**", math.inf, 1]], [], [], [], [], [])
    assert frames.Entry.decode(entry.encode(B, A)[33:]).filters[0][1] == math.inf


def test_fields_that_a_later_version_appends_are_ignored() -> None:
    frame = bytearray(frames.Noted(3).encode(B, A))
    frame[33] += 1
    assert frames.Noted.decode(bytes(frame[33:]) + b"\xa3new") == frames.Noted(3)


def test_a_probe_without_the_field_that_was_appended_allows_any_number_of_attempts() -> None:
    probe = frames.Probe(LINK, 0, 1, "jobs", PULLER, 1, 9, 2, 3, 100)
    frame = bytearray(probe.encode(B, A))
    assert frame[33] == 0x9B
    frame[33] -= 1
    assert frames.Probe.decode(bytes(frame[33:-3])) == probe
    assert probe.max_attempts == 65_535


def test_fields_that_an_earlier_sender_does_not_have_are_empty() -> None:
    body = b"\x96\x03\xc4\x08nonce-01\x90\x90\x90\x90"
    assert frames.Entry.decode(body) == frames.Entry(3, NONCE, [], [], [], [], [])
    with pytest.raises(Malformed):
        frames.Entry.decode(b"\x95" + body[1:-1])


def test_of_a_hello_of_another_version_only_the_versions_are_read() -> None:
    hello = frames.Hello.decode(b"\x93\x07\x09\xc3")
    assert (hello.lowest, hello.highest) == (7, 9)
    with pytest.raises(Malformed):
        frames.Hello.decode(b"\x93\x01\x09\xc3")


# --- what a batch can be asked


@given(st.integers(1, 20), st.integers(1, 9), st.integers(0, 40))
@settings(deadline=None)
def test_the_rest_of_a_batch_for_one_who_has_had_some(count: int, first: int, number: int) -> None:
    batch = Batch(sender=A, first=first, count=count, runs=[Run(A, 1, count, 0.0)], body=b"")
    rest = batch.after(min(number, batch.last))
    assert rest.live == batch.last - max(min(number, batch.last), first) + 1
    assert (rest.first, rest.last, batch.live) == (first, batch.last, count)


# --- bad input

GOLDEN = [bytes.fromhex(golden) for _, golden in BODIES] + [
    TOPIC_FRAME, HEAD_FRAME, BATCH_FRAME, FENCE_FRAME, REFILL_FRAME,
]  # fmt: skip


def decode(frame: bytes) -> None:
    """As the node does, by every way in; whatever it is, nothing but Malformed may come of it."""
    by_kind: dict[bytes, Callable[[Any], Any]] = {kind.KIND: kind.decode for kind in KINDS}
    ways: list[Callable[[], Any]] = [
        lambda: decode_topic((frame,)),
        lambda: decode_topic((frame, b"part")),
        lambda: decode_batch((frame,)),
        lambda: decode_batch((memoryview(frame), b"part")),
        lambda: frames.decode_fence(frame),
        lambda: by_kind.get(frame[:1], frames.Noted.decode)(decode_addressed(frame).body),
        *[lambda kind=kind: kind.decode(frame[33:]) for kind in KINDS],  # type: ignore[misc]
    ]
    for way in ways:
        try:
            way()
        except Malformed:
            continue


@pytest.mark.parametrize("frame", GOLDEN, ids=lambda frame: frame[:1].hex())
def test_no_truncation_raises_anything_else(frame: bytes) -> None:
    for length in range(len(frame)):
        decode(frame[:length])


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_no_garbage_raises_anything_else(frame: bytes) -> None:
    decode(frame)


@given(st.sampled_from(GOLDEN), st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), max_size=4))
@settings(max_examples=500, deadline=None)
def test_no_mutation_raises_anything_else(frame: bytes, changes: list[tuple[int, bytes]]) -> None:
    for at, what in changes:
        at %= len(frame) + 1
        frame = frame[:at] + what + frame[at + len(what) % 3 :]
    decode(frame)


@given(st.sampled_from(list(KINDS)), st.binary(max_size=120))
@settings(max_examples=500, deadline=None)
def test_no_body_raises_anything_else(kind: type[Body], body: bytes) -> None:
    try:
        kind.decode(body)
    except Malformed:
        return
    assert body


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"N",
        address(frames.NOTED, B, A),
        address(frames.NOTED, B, A) + b"\x93",
        address(frames.NOTED, B, A) + b"\x90",
        address(frames.NOTED, B, A) + b"\x91\xff",
        address(frames.NOTED, B, A) + b"\x91\xc3",
        address(frames.NOTED, B, A) + b"\x81\x01\x01",
        address(frames.NOTED, B, A) + b"\x91\x01trailing",
        address(frames.NOTED, B, A) + b"\x91" * 100_000,
        address(frames.NOTED, B, A) + bytes(MAILBOX_FRAME),
    ],
    ids=["empty", "short", "no body", "cut", "too few", "negative", "a flag", "a map", "trailing", "deep", "large"],
)
def test_what_is_no_mailbox_frame_is_malformed(frame: bytes) -> None:
    with pytest.raises(Malformed):
        frames.Noted.decode(decode_addressed(frame).body)


@pytest.mark.parametrize(
    "change",
    [{"first": 0}, {"length": 0}, {"length": 4}, {"flags": PARTS}, {"length": (1 << 20) + 1}],
    ids=["number 0", "nothing", "runs do not add up", "parts missing", "too many"],
)
def test_a_batch_with_impossible_numbers_is_malformed(change: dict[str, int]) -> None:
    with pytest.raises(Malformed):
        decode_batch((encode_batch(HEADER._replace(**change), RUNS, []),))


@pytest.mark.parametrize(
    ("run", "first", "flags"),
    [
        (Run(A, 1, 1, 0.0), 0, 0),
        (Run(A, 1, (1 << 20) + 1, 0.0), 1, 0),
        (Run(A, 1, 4, 0.0), 1, 0),
        (Run(A, 1, 1, 0.0), 1, PARTS),
    ],
    ids=["number 0", "too many", "more than bytes", "parts missing"],
)
def test_a_topic_frame_with_impossible_numbers_is_malformed(run: Run, first: int, flags: int) -> None:
    with pytest.raises(Malformed):
        decode_topic((encode_topic(topic_prefix("a"), flags, run, first, 0.0, [b"\x91\xc0\xc0"]),))


@pytest.mark.parametrize("size", [600, 4_096, 1_000_000])
def test_arrays_in_arrays_that_are_not_whole_are_not_made(size: int) -> None:
    """Each says that it has as many items as the whole body has bytes, at most 10,000."""
    body = (b"\xdd" + min(size // 5 * 5, 10_000).to_bytes(4, "big")) * (size // 5)
    tracemalloc.start()
    with pytest.raises(Malformed):
        unpack_array(body, "body")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * size + 100_000
