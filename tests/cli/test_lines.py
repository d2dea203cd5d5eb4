"""What a typed line becomes."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zq.cli.lines import BadLine, parse, read


@pytest.mark.parametrize(
    ("line", "data"),
    [
        ("007", "007"),
        ("null", "null"),
        ("1.50", "1.50"),
        ("", ""),
        (' {"a": 1}', ' {"a": 1}'),
        ('{"a": [1, 2.5, null]}', {"a": [1, 2.5, None]}),
        ("[]", []),
    ],
)
def test_only_braces_and_brackets_make_json(line: str, data: Any) -> None:
    assert parse(line) == data


@pytest.mark.parametrize(("line", "data"), [("007x", None), ("null", None), ("1.50", 1.5), ('"a"', "a")])
def test_with_json_every_line_is_json(line: str, data: Any) -> None:
    if line == "007x":
        with pytest.raises(BadLine, match="not JSON"):
            parse(line, every_line_is_json=True)
    else:
        assert parse(line, every_line_is_json=True) == data


@pytest.mark.parametrize("line", ["[INFO] started", "{", "[NaN]", "[Infinity]", "[" * 100_000])
def test_what_should_be_json_and_is_not_is_refused(line: str) -> None:
    with pytest.raises(BadLine, match=r"begins with \{ or \["):
        parse(line)


def collect(stream: bytes, **options: Any) -> tuple[list[tuple[str, Any]], list[str]]:
    complaints: list[str] = []
    return list(read([], complaints.append, stream=io.BytesIO(stream), **options)), complaints


def test_a_bad_line_is_named_and_costs_no_other() -> None:
    found, complaints = collect(b"one\n{bad\n\xff\xfe\r\nfour\r\n{}")
    assert found == [("line 1", "one"), ("line 4", "four"), ("line 5", {})]
    assert [complaint.partition(":")[0] for complaint in complaints] == ["line 2", "line 3"]


def test_blank_lines_are_messages_unless_every_line_is_json() -> None:
    assert collect(b"\na\n") == ([("line 1", ""), ("line 2", "a")], [])
    assert collect(b"\n1\n \n", every_line_is_json=True) == ([("line 2", 1)], [])


def test_arguments_are_the_messages_if_there_are_any() -> None:
    found = list(read(["x", "[1]"], pytest.fail, stream=io.BytesIO(b"never read\n")))
    assert found == [("argument 1", "x"), ("argument 2", [1])]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_value_arrives_as_it_was_written(value: Any) -> None:
    assert parse(json.dumps(value), every_line_is_json=True) == value
