"""Loggers that cost nothing until somebody listens, or until something is wrong.

`logging` takes a twentieth of the time in which a short-lived program starts, sends and ends. As long as nobody has
imported it nobody can have asked to see what is merely told; a warning imports it, and is shown as ever.

What a line says of others comes from the network, as does what many an error says: names, paths, addresses. All of it
is escaped here, in one place, whoever logs it: nothing that came from elsewhere begins a line of its own, moves the
cursor of a terminal, or turns the direction of what follows.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

_CALLER = 2  # frames from a record to the line that it is about
_prefix = ""  # of warnings where nobody has set up `logging`


def prefix(text: str) -> None:
    """Of warnings that nobody else shows: a command says who speaks, as on all of its lines. Of the whole process."""
    global _prefix
    _prefix = text


class Logger:
    """What zq uses of `logging.getLogger(name)`."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def _logger(self) -> logging.Logger:
        import logging

        logger = logging.getLogger(self._name)
        logger.addFilter(_escape)  # once, however often it is called
        if _prefix and logging.lastResort is not None:
            logging.lastResort.setFormatter(logging.Formatter(f"{_prefix}%(message)s"))
        return logger

    def debug(self, text: str, *values: Any) -> None:
        if "logging" in sys.modules:
            self._logger().debug(text, *values, stacklevel=_CALLER)

    def info(self, text: str, *values: Any) -> None:
        if "logging" in sys.modules:
            self._logger().info(text, *values, stacklevel=_CALLER)

    def warning(self, text: str, *values: Any) -> None:
        self._logger().warning(text, *values, stacklevel=_CALLER)

    def error(self, text: str, *values: Any) -> None:
        self._logger().error(text, *values, stacklevel=_CALLER)

    def exception(self, text: str, *values: Any) -> None:
        self._logger().exception(text, *values, stacklevel=_CALLER)

    def critical(self, text: str, *values: Any, exc_info: BaseException | None = None) -> None:
        self._logger().critical(text, *values, exc_info=exc_info, stacklevel=_CALLER)


# --- what is shown of others


def escaped(text: str) -> str:
    """One line of characters that can be seen; the others are spelled out as in Python, `\\n`, `\\x1b`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Shown:
    """A value as it stands in a line."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return escaped(str(self._value))

    def __repr__(self) -> str:
        return escaped(repr(self._value))


def _escape(record: logging.LogRecord) -> bool:
    """A filter of loggers that lets everything through."""
    values = record.args if isinstance(record.args, tuple) else (record.args,) if record.args else ()
    record.args = tuple(value if isinstance(value, int | float) else _Shown(value) for value in values)
    if record.exc_info and record.exc_info[1] is not None and record.exc_text is None:
        record.exc_text = _traceback(record.exc_info[1])
    return True


def _traceback(error: BaseException) -> str:
    """As ever, but what an error says of itself is one line."""
    import traceback

    lines: list[str] = []
    for part in traceback.TracebackException.from_exception(error).format():
        is_ours = part.startswith(('  File "', "Traceback (", "\n"))  # where it came from; it has several lines
        lines += part.splitlines() if is_ours else [part.removesuffix("\n")]
    return "\n".join(map(escaped, lines))
