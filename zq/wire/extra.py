"""The extra fields of a message, `[id, headers, key, priority, ttl, delay]`, checked for sender and receiver alike."""

from __future__ import annotations

from typing import Any

from zq.message import DELAY, HEADERS, ID, KEY, PRIORITY, TTL
from zq.wire import limits

FIELDS = 6


def extra_problem(extra: Any) -> str:
    """What is wrong with the extra fields of a message; empty if nothing is."""
    if type(extra) is not list or len(extra) != FIELDS:
        return f"the extra fields of a message are a list of {FIELDS}"
    for name, text in (("id", extra[ID]), ("key", extra[KEY])):
        if text is not None and (type(text) is not str or len(text) > limits.NAME):
            return f"{name} {text!r:.60} is not a str of up to {limits.NAME} characters"
    if extra[PRIORITY] is not None and type(extra[PRIORITY]) is not int:
        return f"priority {extra[PRIORITY]!r:.60} is not an int"
    for name, seconds in (("ttl", extra[TTL]), ("delay", extra[DELAY])):
        if seconds is not None and (type(seconds) not in (int, float) or not 0 <= seconds <= limits.SECONDS):
            return f"{name} {seconds!r:.60} is not a number of seconds from 0 to {limits.SECONDS:,}"
    return "" if extra[HEADERS] is None else _headers_problem(extra[HEADERS])


def _headers_problem(flat: Any) -> str:
    if type(flat) is not list or len(flat) % 2 or len(flat) > 2 * limits.HEADERS:
        return f"headers are up to {limits.HEADERS} pairs of str"
    for index, text in enumerate(flat):
        if type(text) is not str or len(text) > limits.HEADER:
            what = f"the value of header {flat[index - 1]!r:.40}" if index % 2 else f"header name {text!r:.40}"
            return f"{what} is not a str of up to {limits.HEADER:,} characters"
    return ""
