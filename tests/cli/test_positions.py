"""Where a subscription begins and how long a topic is kept, as the command line takes them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import click
import pytest
from click.testing import CliRunner

from zq.cli.app import application
from zq.cli.parameters import to_position, to_seconds


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("beginning", "beginning"),
        ("end", "end"),
        ("-10", 10),
        ("10m", timedelta(minutes=10)),
        ("1.5h", timedelta(minutes=90)),
        ("2w", timedelta(days=14)),
        ("2026-11-24T10:00", datetime(2026, 11, 24, 10)),  # noqa: DTZ001 - local time
        ("2026-11-24", datetime(2026, 11, 24)),  # noqa: DTZ001 - the same
        (None, None),
    ],
)
def test_a_position_is_said_in_five_ways(text: str | None, position: Any) -> None:
    assert to_position(None, None, text) == position


@pytest.mark.parametrize("text", ["", "10", "-", "10x", "yesterday", "2026-13-01", "-1.5", "m"])
def test_what_is_no_position_is_named_with_what_is_one(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is no position; say beginning, end, -10"):
        to_position(None, None, text)


def test_durations_have_units() -> None:
    assert [to_seconds(None, None, text) for text in ("90s", "10m", "1.5h", "7d", None)] == [
        90.0, 600.0, 5_400.0, 604_800.0, None
    ]  # fmt: skip
    with pytest.raises(click.BadParameter, match="'10' is no duration"):
        to_seconds(None, None, "10")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["sub", "a", "--since", "10x"], "'10x' is no position"),
        (["spool", "--topic", "a/**", "--dir", "x", "--max-age", "7"], "'7' is no duration"),
        (["spool", "--dir", "x"], "--queue or --topic"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], complaint: str) -> None:
    ended = CliRunner().invoke(application, arguments)
    assert (ended.exit_code, complaint in ended.output) == (2, True), ended.output
