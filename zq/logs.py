"""Loggers that cost nothing until somebody listens, or until something is wrong.

`logging` takes a twentieth of the time in which a short-lived program starts, sends and ends. As long as nobody has
imported it nobody can have asked to see what is merely told; a warning imports it, and is shown as ever.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

_CALLER = 2  # frames from a record to the line that it is about


class Logger:
    """What zq uses of `logging.getLogger(name)`."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def _logger(self) -> logging.Logger:
        import logging

        return logging.getLogger(self._name)

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
