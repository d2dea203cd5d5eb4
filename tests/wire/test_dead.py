"""Dead letters as bytes: they say why they are dead, and become what they were."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zq.wire import dead, limits
from zq.wire.data import Extended, pack, unpack
from zq.wire.dead import AT, HISTORY, QUEUE, REASON, Failure

FAILURE = Failure(1, "nacked", "worker", b"w" * 16, 5.5, "ValueError: no")


def wrapped(item: bytes, *, reason: str = "no", history: tuple[Failure, ...] = (FAILURE,)) -> Any:
    """Data and extra fields, checked as a receiver does."""
    letter = dead.wrap(item, type(item) is Extended, "jobs", reason, 7.25, history)
    return unpack(letter, 1, extended=True)[0]


def headers_of(extra: list[Any]) -> dict[str, str]:
    return dict(zip(extra[1][::2], extra[1][1::2], strict=True))


def item_with(headers: dict[str, str] | None = None, id: str | None = None) -> bytes:
    flat = None if headers is None else [text for pair in headers.items() for text in pair]
    item = pack({"order": 7}, [id, flat, None, None, None, None])
    assert isinstance(item, bytes)
    return item


def test_a_letter_tells_queue_reason_time_and_history() -> None:
    data, extra = wrapped(item_with({"trace": "1"}, "order-7"))
    assert (data, extra[0]) == ({"order": 7}, "order-7")
    headers = headers_of(extra)
    assert {name: headers[name] for name in ("trace", QUEUE, REASON, AT)} == {
        "trace": "1", QUEUE: "jobs", REASON: "no", AT: "7.25",
    }  # fmt: skip
    assert dead.history_of(headers) == [FAILURE]
    assert json.loads(headers[HISTORY]) == [[1, "nacked", "worker", "77" * 16, 5.5, "ValueError: no"]]


@given(
    st.recursive(st.none() | st.integers(-9, 9) | st.text(max_size=9), st.lists, max_leaves=9),
    st.none() | st.text(max_size=9),
    st.none() | st.dictionaries(st.text(max_size=9), st.text(max_size=9), min_size=1, max_size=4),
)
@settings(deadline=None)
def test_a_letter_becomes_the_message_it_was(data: Any, id: str | None, headers: dict[str, str] | None) -> None:
    flat = None if headers is None else [text for pair in headers.items() for text in pair]
    extra = None if id is None and flat is None else [id, flat, None, None, None, None]
    item = pack(data, extra)
    assert isinstance(item, bytes)
    letter = dead.wrap(item, extra is not None, "jobs", "no", 1.0, [FAILURE])
    before = dead.unwrap(letter)
    assert (type(before), before) == (type(item), item)
    assert dead.id_of(letter) == id


@pytest.mark.parametrize("own", [61, limits.HEADERS])
def test_a_message_with_all_the_headers_it_may_have_is_still_one(own: int) -> None:
    item = item_with({str(number): "x" for number in range(own)})
    _, extra = wrapped(item)
    assert len(extra[1]) == 2 * limits.HEADERS
    assert dead.unwrap(dead.wrap(item, True, "jobs", "no", 1.0, [])) == item


def test_of_a_history_that_is_too_long_the_newest_is_told() -> None:
    failures = tuple(FAILURE._replace(attempt=attempt, reason="\N{SNAKE}" * 1_000) for attempt in range(1, 21))
    _, extra = wrapped(item_with(), reason="x" * 2_000, history=failures)
    told = dead.history_of(headers_of(extra))
    assert [failure.attempt for failure in told] == list(range(21 - len(told), 21))
    assert told
    assert len(headers_of(extra)[REASON]) == dead.REASON_MOST


ENDLESS = ['[[Infinity, "", "", "", 1, ""]]', f'[[1, "", "", "", 1{"0" * 400}, ""]]']


@pytest.mark.parametrize("text", ["", "{", "[[1]]", "[1]", '[["x", 1, 2, 3, 4, 5]]', "[" * 100_000, *ENDLESS])
def test_a_history_that_is_none_is_passed_over(text: str) -> None:
    assert dead.history_of({HISTORY: text}) == []


def test_without_its_data_a_letter_still_says_why_it_is_dead() -> None:
    letter = dead.wrap(item_with({str(number): "x" * 8_000 for number in range(60)}, "i"), True, "jobs", "no", 1.0, [])
    told = dead.without_data(letter)
    [(data, extra)] = unpack(told, 1, extended=True)
    assert (data, extra[0], headers_of(extra)[REASON]) == (None, "i", "no")
    assert len(told) < 16_384
