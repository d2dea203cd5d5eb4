"""What people type becomes message data.

A line that begins with `{` or `[` is JSON, every other line is text, so `007`, `null` and `1.50` arrive as they were
typed. With `--json` every line is JSON (blank lines are skipped), and numbers, `true` and `null` are what they say.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from zq.cli.notes import note

Complain = Callable[[str], None]


class BadLine(ValueError):
    """A line that is no message; the text says why and what to do."""


def no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def parse(line: str, *, every_line_is_json: bool = False) -> Any:
    """The data that `line` stands for; BadLine if it should be JSON and is not."""
    if not every_line_is_json and not line.startswith(("{", "[")):
        return line
    try:
        return json.loads(line, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, ValueError) else "nested too deeply"
        if not every_line_is_json:
            why += "; a line that begins with { or [ has to be JSON"
        raise BadLine(f"not JSON: {why}") from None


def read(
    arguments: Sequence[str], complain: Complain, *, every_line_is_json: bool = False, stream: BinaryIO | None = None
) -> Iterator[tuple[str, Any]]:
    """Yields where each message stood ("argument 2", "line 7") and its data.

    Arguments are the messages if there are any, else the lines of `stream` (default: standard input), each as soon as
    it is there. A bad line goes to `complain`, and reading goes on with the next one.
    """
    if arguments:
        sources: Iterator[tuple[str, str | bytes]] = ((f"argument {n}", text) for n, text in enumerate(arguments, 1))
    else:
        sources = ((f"line {n}", line) for n, line in enumerate(standard_input() if stream is None else stream, 1))
    for where, raw in sources:
        try:
            line = raw if isinstance(raw, str) else without_end(raw).decode()
            if every_line_is_json and not line.strip():
                continue
            data = parse(line, every_line_is_json=every_line_is_json)
        except UnicodeDecodeError:
            complain(f"{where}: not UTF-8")
        except BadLine as error:
            complain(f"{where}: {error}")
        else:
            yield where, data


def standard_input() -> Iterable[bytes]:
    """Its lines; none if it is closed."""
    if sys.stdin is None:
        return ()
    if sys.stdin.isatty():
        note("one message a line; end with Ctrl-D")
    return sys.stdin.buffer


def without_end(line: bytes) -> bytes:
    """`line` without the line end that a Unix or Windows program put there."""
    return line.removesuffix(b"\n").removesuffix(b"\r")
