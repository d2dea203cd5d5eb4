"""What a frame may be made of: no bomb makes its reader make much, and the largest that zq itself sends pass."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.security.bombs import BODIES, BOMBS, LARGE, for_work
from zq.core import announced, inspection, ledger
from zq.core.endpoints import ROWS as ADDRESSES
from zq.core.gossip import ROWS as PEERS
from zq.core.gossip import TOLD
from zq.core.inquiry import IDS_MOST, ROWS, ROWS_BYTES
from zq.core.receiving import REFUSED_ROWS, SETTLED_ROWS
from zq.core.replying import NAMED
from zq.core.reports import SEEN_ROWS
from zq.core.requesting import MOST_REQUESTS
from zq.core.standing import ROWS_MOST
from zq.core.topics import OWED_MOST
from zq.handles.look import LINES, LOSSES
from zq.info import Departed, Ledger
from zq.wire import frames
from zq.wire.batch import BATCH, COUNT_MOST, BatchHeader, Run, decode_batch, encode_batch
from zq.wire.body import Body, decode_addressed
from zq.wire.budget import FEW, containers_in, unpack_within
from zq.wire.data import Malformed
from zq.wire.frames import Head, fence_prefix
from zq.wire.kept import gaps_in
from zq.wire.limits import ANNOUNCED, NAME, SUBSCRIPTIONS
from zq.wire.requests import decode_reply, encode_failure

ID, NONCE, LAST = b"\xff" * 16, b"\xff" * 8, (1 << 63) - 1
MADE = 6 << 20  # bytes at the worst moment; a million empty maps take 64 MiB
LONG = "n" * NAME
TEXT = "\N{GREEK SMALL LETTER ALPHA}" * 1_024


@pytest.mark.parametrize(("kind", "bomb"), list(itertools.product(BODIES, BOMBS)), ids=str)
def test_no_kind_of_frame_takes_a_bomb(kind: type[Body], bomb: str) -> None:
    with pytest.raises(Malformed):
        kind.decode(BOMBS[bomb])


def decode_fence(bomb: bytes) -> object:
    return frames.decode_fence(fence_prefix(ID, NONCE) + bomb)


def decode_failure(bomb: bytes) -> object:
    frame = b"q" + bytes(32) + (1).to_bytes(8, "big") * 2 + bytes(8) + b"\1\0" + bomb
    return decode_reply((frame,))


def decode_extra(bomb: bytes) -> object:
    return unpack_within(bomb, 16)


@pytest.mark.parametrize(
    "decode",
    [
        *(kind.decode for kind in (frames.Hello, frames.Entry, frames.State, frames.Findings, frames.Missing)),
        decode_fence,
        decode_failure,
        decode_extra,
    ],
    ids=lambda decode: getattr(decode, "__qualname__", ""),
)
def test_no_bomb_makes_its_reader_make_much(decode: Callable[[bytes], object]) -> None:
    for bomb in LARGE:
        tracemalloc.start()
        try:
            with pytest.raises(Exception):  # noqa: B017, PT011 - what it is depends on who decodes
                decode(bomb)
            assert tracemalloc.get_traced_memory()[1] < MADE
        finally:
            tracemalloc.stop()


def test_a_batch_is_of_no_more_runs_than_messages_and_of_no_more_messages_than_are_looked_at_at_once() -> None:
    for frame in for_work(ID, ID):
        if frame[:1] == BATCH:
            with pytest.raises(Malformed):
                decode_batch((frame,))
    for count in (COUNT_MOST, COUNT_MOST + 1):
        header = BatchHeader(ID, ID, ID, 0, 1, 0, 1, count, 1, 0, 0)
        frame = encode_batch(header, [Run(ID, number, 1, 0.0) for number in range(1, count + 1)], [b"\xc0" * count])
        if count == COUNT_MOST:
            assert len(decode_batch((frame,))[1].runs) == COUNT_MOST
        else:
            with pytest.raises(Malformed):
                decode_batch((frame,))


def test_a_gap_that_travels_as_a_message_is_short() -> None:
    header = BatchHeader(ID, ID, ID, 0, 1, 0, 1, 1, 1, 0, 0)
    batch = decode_batch((encode_batch(header, [Run(ID, 1, 1, 0.0)], [BOMBS["a million empty maps"]]),))[1]
    with pytest.raises(Malformed):
        gaps_in(batch)


def test_a_short_body_is_not_counted() -> None:
    assert unpack_within(b"\xdc" + (FEW - 3).to_bytes(2, "big") + b"\x90" * (FEW - 3), 0) == [[]] * (FEW - 3)
    with pytest.raises(Malformed, match="more than 0 containers"):
        unpack_within(b"\xdc" + FEW.to_bytes(2, "big") + b"\x90" * FEW, 0)


UNITS = {"KiB": 10, "MiB": 20}


def test_the_limits_of_each_kind_are_those_of_the_protocol() -> None:
    table = Path("docs/protocol.md").read_text().partition("| kind | bytes | containers |\n|---|---|---|\n")[2]
    told = {}
    for line in table.partition("\n\n")[0].splitlines():
        kinds, size, containers = (cell.strip() for cell in line.strip("|").split("|"))
        count, _, unit = size.partition(" ")
        if unit in UNITS:
            limits = int(count) << UNITS[unit], int(containers.replace(",", ""))
            told |= dict.fromkeys(kinds.split(", "), limits)
    for kind in BODIES:
        name = "LEDGER" if kind is frames.LedgerReply else kind.__name__.upper()
        assert told.get(name, told["all others"]) == (kind.BYTES, kind.CONTAINERS), name


# --- the largest that are sent


def of_spools(count: int) -> list[dict[str, Any]]:
    """As a spool tells of streams that are damaged in as many places as it tells of."""
    row = {"title": LONG, "damaged": [{"first": 1, "last": 2}] * LOSSES, "problems": [TEXT] * LINES}
    return [row] * count


FOUR = LAST, LAST, LAST, LAST
EMPTY = vars(frames.Entry(1, NONCE, [], [], [], []))
LARGEST: dict[str, Body] = {
    "hello": frames.Hello(1, 1, NONCE, NONCE, LAST, LONG, LONG, LAST, [["tcp://[" + "f" * 60] * 3] * ADDRESSES),
    "welcome": frames.Welcome(NONCE, LAST, LONG, LONG, LAST, [["tcp://[" + "f" * 60] * 3] * ADDRESSES),
    "goodbye": frames.Goodbye([[LONG, LAST]] * OWED_MOST),
    "entry of short names": frames.Entry(
        **EMPTY
        | {"topics": [["t", 1]] * (ANNOUNCED // (announced.ROW + 1)), "lags": [[1, LONG, ID, ID, LAST, 3]] * ROWS_MOST}
    ),
    "entry of filters": frames.Entry(
        **EMPTY | {"pulls": [["q", ID]] * SUBSCRIPTIONS, "binds": [["q", ID, ["f"]]] * SUBSCRIPTIONS}
    ),
    "entry of readers": frames.Entry(**EMPTY | {"cursors": [[ID, "c", ID, ["f"], 3, 1e9]] * SUBSCRIPTIONS}),
    "peers": frames.Peers([[ID, ["tcp://[f::1]:20000"] * TOLD]] * PEERS),
    "seen": frames.Seen([[LONG, LAST, LAST]] * SEEN_ROWS),
    "recall": frames.Recall(1 << 62, ID, ["f" * 200] * SUBSCRIPTIONS),
    "repair": frames.Repair(LAST, TEXT, LAST, LAST, 1e9),
    "probe": frames.Probe(ID, 2, LAST, TEXT, ID, LAST, LAST, LAST, LAST, LAST, LAST),
    "state": frames.State(
        ID, 2, LAST, [[LAST] * 3] * SETTLED_ROWS, [[LAST, 2, 1e9, TEXT]] * REFUSED_ROWS, *FOUR, closed=True, heard=LAST
    ),
    "inquiry": frames.Inquiry([LAST] * MOST_REQUESTS),
    "missing": frames.Missing([LAST] * MOST_REQUESTS, [LAST] * NAMED),
    "inquire": frames.Inquire(LAST, 2, TEXT, [LONG] * IDS_MOST, TEXT, LAST),
    "letters": frames.Letters(
        LAST, LAST, [[LONG, LAST, ID, LAST, 1e9, LAST, True, bytes(ROWS_BYTES // ROWS)]] * ROWS, True, TEXT
    ),
    "inspect": frames.Inspect(LAST, 5, TEXT, TEXT, LAST, LAST, True, LAST),
}


@pytest.mark.parametrize("what", LARGEST)
def test_the_largest_that_is_sent_is_taken(what: str) -> None:
    frame = LARGEST[what].encode(ID, ID)
    assert type(LARGEST[what]).decode(decode_addressed(frame).body) == LARGEST[what]


def test_every_page_of_what_spools_answer_is_taken() -> None:
    small = [{"first": 1, "last": 2}] * 100_000
    for rows in (of_spools(40), small):
        pages = inspection._pages(rows)
        assert [row for page in pages for row in page] == rows
        for page in pages:
            body = frames.Findings(1, True, page, 0, 0, "", 1, len(pages))
            assert frames.Findings.decode(decode_addressed(body.encode(ID, ID)).body) == body


def test_every_page_of_a_ledger_is_taken() -> None:
    gone = Departed(peer=ID, name="x", ago=1.0, goodbye=True, held={}, published={})
    tables = dict.fromkeys(ledger._TABLES, ()) | {"departed": (gone,) * 20_000}
    told = ledger.to_wire(Ledger(peer=ID, name=LONG, **tables))  # type: ignore[arg-type]
    assert len(told) > 2
    for page in told:
        body = frames.LedgerReply(1, page, 0, 1, 1)
        assert frames.LedgerReply.decode(decode_addressed(body.encode(ID, ID)).body) == body


@pytest.mark.parametrize("name", ["t", LONG])
def test_a_fence_is_answered_with_as_many_topics_as_there_are(name: str) -> None:
    fence = frames.Fence(ID, NONCE, ID, 1.0, [Head(name, 1, 1.0, 2.0, False)] * 20_000)
    assert frames.decode_fence(frames.encode_fence(fence)) == fence


def test_a_failure_of_the_longest_texts_is_taken() -> None:
    frame = b"q" + bytes(32) + (1).to_bytes(8, "big") * 2 + bytes(8) + b"\1\0" + encode_failure(TEXT, TEXT)
    assert decode_reply((frame,)).failure() == (TEXT, TEXT)


def test_containers_are_lists_and_maps_at_any_depth() -> None:
    assert containers_in([1, [], {"a": [{}]}, (2,), "text"]) == 6
    assert containers_in("text") == 0
