"""What is asked for each message of a round, told by its number alone, so that roles and judge agree on it."""

from __future__ import annotations

from typing import Literal

Lane = Literal["high", "normal", "low"]

LANES: tuple[Lane, ...] = ("normal", "normal", "high", "normal", "low")
KEYS = ("a", "b")
KEYED = 4  # every fourth message has a key, each key in turn
SURVEY = 8  # every eighth request is to all
DOOMED = 41  # every so manieth message is rejected, and a dead letter


def lane_of(number: int) -> Lane:
    return LANES[number % len(LANES)]


def key_of(number: int) -> str | None:
    """Messages with a key may be passed by others; those of one key keep their order, whatever their lanes."""
    return KEYS[number // KEYED % len(KEYS)] if number % KEYED == 0 else None


def is_doomed(number: int) -> bool:
    return number % DOOMED == 0


def asks_all(number: int) -> bool:
    """Whether this request is to every replier, each of which may be handed it once."""
    return number % SURVEY == 0
