"""Listings: a table on a terminal, aligned columns in a pipe, JSON for programs."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zq.cli.controls import CONTROLS
from zq.cli.output import Output
from zq.cli.render import line

APART = "  "  # between two columns in a pipe


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its title, and its cell for a row."""

    title: str
    cell: Callable[[Any], object]
    right: bool = False

    def text(self, row: Any) -> str:
        return str(self.cell(row)).translate(CONTROLS)


def emit(data: bytes) -> None:
    """Writes to standard output, at once; BrokenPipeError if nobody reads."""
    Output().write([data])


def record(row: Any) -> dict[str, Any]:
    """A frozen dataclass as a JSON object: every field, ids as hexadecimal digits."""
    return {field.name: plain(getattr(row, field.name)) for field in dataclasses.fields(row)}


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if dataclasses.is_dataclass(value):
        return record(value)
    if isinstance(value, tuple):
        return [plain(part) for part in value]
    return dict(value) if hasattr(value, "items") else value


def seconds(value: float) -> str:
    """A duration for people: `12 ms`, `3.4 s`, `5 min`, `2.5 h`."""
    if value < 1.0:
        return f"{value * 1000:.0f} ms"
    if value < 120.0:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 7200.0 else f"{value / 3600:.1f} h"


def reasons(dropped: Mapping[str, int]) -> str:
    """What was dropped, for people: `3 rejected, 20 drop-oldest`, or `0`."""
    return ", ".join(f"{count:,} {why}" for why, count in dropped.items()) or "0"


def print_table(columns: Sequence[Column], rows: Sequence[Any], *, title: str | None = None) -> None:
    """Prints `rows`: drawn by rich on a terminal, else aligned and never cut to a width."""
    if sys.stdout is not None and sys.stdout.isatty():
        draw(columns, rows, title)
        return
    cells = [[column.title for column in columns]] + [[column.text(row) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [title] if title else []
    for texts in cells:
        aligned = (
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(texts, widths, columns, strict=True)
        )
        lines.append(APART.join(aligned).rstrip())
    emit(b"".join(map(line, lines)))


def draw(columns: Sequence[Column], rows: Sequence[Any], title: str | None) -> None:
    from rich import box  # slow to import, and only a terminal needs it
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(column.text(row)) for column in columns))
    Console().print(table)
