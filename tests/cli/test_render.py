"""How messages look on standard output."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zq import Message
from zq.cli.render import Template, json_line, only_data, raw, readable, to_json, topic_and_data


class Origin:
    """One message's worth of what a received batch knows."""

    topic: str | None = "sensors/kitchen"
    queue: str | None = None
    sender = bytes(range(16))
    attempt = 2
    redelivered = True

    def identify(self, index: int) -> str:
        return f"origin-{index}"

    def sent_at(self, index: int) -> float:
        return 1_700_000_000.5


def message(data: Any) -> Message:
    return Message(data, Origin(), 7)


@pytest.mark.parametrize(
    ("data", "json_text"),
    [
        (b"hi", '{"$base64": "aGk="}'),
        (memoryview(b"hi"), '{"$base64": "aGk="}'),
        (datetime(2026, 5, 4, 12, tzinfo=UTC), '"2026-05-04T12:00:00Z"'),
        (numpy.array([[1, 2], [3, 4]], dtype="<i8"), '{"$array": [[1, 2], [3, 4]], "dtype": "<i8"}'),
        (numpy.array([1.0, math.nan], dtype="<f8"), '{"$array": [1.0, {"$float": "nan"}], "dtype": "<f8"}'),
        ({"a": [math.inf, 1]}, '{"a": [{"$float": "inf"}, 1]}'),
        ("21 °C", '"21 °C"'),
    ],
)
def test_json_is_complete_and_unmistakable(data: Any, json_text: str) -> None:
    assert to_json(data) == json_text


@given(
    st.recursive(
        st.none() | st.floats() | st.binary() | st.text() | st.datetimes(timezones=st.just(UTC)),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_everything_a_message_carries_is_one_line_of_strict_json(data: Any) -> None:
    line = json_line(message(data))
    assert line.count(b"\n") == 1
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_json_line_says_all_that_is_known() -> None:
    assert json.loads(json_line(message([1]))) == {
        "topic": "sensors/kitchen",
        "data": [1],
        "id": "origin-7",
        "sender": "000102030405060708090a0b0c0d0e0f",
        "sent_at": "2023-11-14T22:13:20.500000Z",
        "attempt": 2,
        "redelivered": True,
        "key": None,
        "headers": {},
    }


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("plain", "plain"),
        ({"celsius": 21.4}, '{"celsius": 21.4}'),
        (7, "7"),
        (b"hi", "<2 bytes 6869>"),
        (b"x" * 40, f"<40 bytes {'78' * 32}...>"),
        ({"image": numpy.zeros((480, 640), dtype="u1")}, '{"image": "<array uint8 480x640>"}'),
        ("two\nlines\x1b[2J\x9b\t|", "two\\nlines\\x1b[2J\\x9b\t|"),
    ],
)
def test_readable_is_one_harmless_line(data: Any, text: str) -> None:
    assert readable(data) == text
    assert topic_and_data(message(data)) == f"sensors/kitchen {text}\n".encode()
    assert only_data(message(data)) == f"{text}\n".encode()


def test_raw_leaves_text_and_bytes_as_they_are() -> None:
    assert raw(message(b"\x89PNG\r\n")) == b"\x89PNG\r\n"
    assert raw(message("two\nlines\x1b")) == b"two\nlines\x1b\n"
    assert raw(message({"a": b"hi"})) == b'{"a": {"$base64": "aGk="}}\n'


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{topic} {data}", 'sensors/kitchen {"celsius": 21.44, "tags": ["a", "b"]}'),
        (r"{data[celsius]:.1f}\t{data[tags][1]}", "21.4\tb"),
        ("{sender} {attempt} {queue}|{data[missing]}|{data[tags][9]}", f"{bytes(range(16)).hex()} 2 ||"),
        ("{sent_at:%Y} {topic:.1f}", "2023 sensors/kitchen"),
        ("{{}}", "{}"),
    ],
)
def test_a_format_shows_what_it_names(template: str, text: str) -> None:
    assert Template(template)(message({"celsius": 21.44, "tags": ["a", "b"]})) == f"{text}\n".encode()


@pytest.mark.parametrize("template", ["{nope}", "{0}", "{}", "{data.__class__}", "{data", "{data!r}", "{data:{topic}}"])
def test_a_format_that_no_message_can_fill_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Template(template)
