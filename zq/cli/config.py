"""`zq config`: every setting, its value, and where that comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from zq.cli import connection, parameters
from zq.cli.notes import OK
from zq.cli.render import line, to_json
from zq.cli.table import Column, emit, print_table
from zq.options import OPTIONS, load


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting in force."""

    name: str
    kind: str  # as in `zq.options.Option`
    value: Any
    otherwise: str  # what happens without a value
    origin: str

    @property
    def text(self) -> str:
        """The value as one would write it in the environment; in brackets what stands in for it."""
        if isinstance(self.value, bool):
            return str(self.value).lower()
        if isinstance(self.value, tuple):
            return ("-" if self.kind == "range" else ",").join(map(str, self.value)) or f"({self.otherwise})"
        return f"({self.otherwise})" if self.value is None else str(self.value)


COLUMNS = (
    Column("setting", lambda setting: setting.name),
    Column("value", lambda setting: setting.text),
    Column("from", lambda setting: setting.origin),
)


@click.command()
@parameters.as_json
@connection.setting_options
def config(as_json: bool, settings: dict[str, Any]) -> int:
    """Show every setting in force, and where its value comes from: an argument, a variable, a file, or the default."""
    loaded = load(**settings)
    rows = [
        Setting(
            name=option.name,
            kind=option.kind,
            value=getattr(loaded, option.name),
            otherwise=option.otherwise,
            origin=loaded.origin[option.name],
        )
        for option in OPTIONS
    ]
    if as_json:
        for row in rows:
            value = str(row.value) if isinstance(row.value, Path) else row.value
            emit(line(to_json({"name": row.name, "value": value, "origin": row.origin})))
    else:
        print_table(COLUMNS, rows)
    return OK
