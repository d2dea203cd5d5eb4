"""What a spool keeps of a batch: read as it was written, and how long ago that was."""

from __future__ import annotations

import pytest

from zq.wire.batch import NAMED, PARTS, Joined, Run
from zq.wire.data import Malformed
from zq.wire.stored import NO_BOOT, Stamp, Stored, decode, encode

CAME = Stamp(1_000_000.0, b"thisboot", 500.0)
RUNS = (Run(b"o" * 16, 7, 2, 1.5),)


def stored(flags: int = 0, topic: str | None = None, parts: tuple[bytes, ...] = ()) -> Stored:
    return Stored(CAME, 3, 5, flags, RUNS, topic, [b"\x01", b"\xa1a"], parts)


@pytest.mark.parametrize(
    "batch",
    [stored(), stored(NAMED, "a/b"), stored(PARTS, None, (b"part", b"")), stored(NAMED | PARTS, "t", (b"x" * 9,))],
)
def test_it_is_read_as_it_was_written(batch: Stored) -> None:
    read = decode(encode(batch), 2, batch.flags, batch.runs)
    assert read._replace(items=list(read.items)) == batch


def test_its_bytes_are_those_of_the_format() -> None:
    assert encode(stored(NAMED, "t", (b"xyz",))) == bytes.fromhex(
        "412e848000000000 74686973626f6f74 407f400000000000 0003 0005 0001 00000003 7400 01 a161 78797a"
    )


def test_what_came_in_one_piece_is_kept_in_one() -> None:
    read = decode(encode(stored()), 2, 0, RUNS)
    assert isinstance(read.items, Joined)
    assert encode(read) == encode(stored())


@pytest.mark.parametrize("length", [*range(33), 34])
def test_what_is_cut_short_or_too_long_is_malformed(length: int) -> None:
    body = encode(stored())
    assert len(body) == 33
    with pytest.raises(Malformed):
        decode((body + b"\x01")[:length], 2, 0, RUNS)


@pytest.mark.parametrize(
    ("now", "seconds"),
    [
        (Stamp(1_000_020.0, b"thisboot", 520.0), 20.0),
        (Stamp(5_000_000.0, b"thisboot", 520.0), 20.0),  # somebody has set the clock
        (Stamp(3.0, b"thisboot", 520.0), 20.0),
        (Stamp(1_000_020.0, b"nextboot", 5.0), 20.0),  # only the wall clock knows
        (Stamp(3.0, b"nextboot", 5.0), 0.0),  # and it was set back
        (Stamp(1_000_020.0, NO_BOOT, 900.0), 20.0),
    ],
)
def test_within_one_boot_the_wall_clock_does_not_count(now: Stamp, seconds: float) -> None:
    assert CAME.until(now) == seconds


def test_boots_that_say_nothing_of_themselves_are_not_taken_for_the_same() -> None:
    assert Stamp(10.0, NO_BOOT, 500.0).until(Stamp(30.0, NO_BOOT, 999.0)) == 20.0
