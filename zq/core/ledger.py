"""The ledger on its way to another peer and back: in pages, each small enough for the mailbox."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgpack

from zq.info import (
    Departed,
    Gap,
    HeldQueue,
    Ledger,
    PublishedTopic,
    PulledQueue,
    RepliedService,
    RequestedService,
    Span,
    SubscribedTopic,
)
from zq.record import fields
from zq.wire.data import Malformed

Row = TypeVar(
    "Row",
    HeldQueue,
    PulledQueue,
    PublishedTopic,
    SubscribedTopic,
    RequestedService,
    RepliedService,
    Departed,
    Span,
    Gap,
)

PAGE = 128 << 10  # bytes of rows in one page; one row is 30 KB at the very most, a mailbox frame 1 MiB

_TABLES = {
    "held": HeldQueue,
    "pulled": PulledQueue,
    "published": PublishedTopic,
    "subscribed": SubscribedTopic,
    "requested": RequestedService,
    "replied": RepliedService,
    "departed": Departed,
}


def _counts(value: Any) -> bool:
    return type(value) is dict and all(type(key) is str and type(count) is int for key, count in value.items())


# What a field of a row may be, by its annotation.
_KINDS: dict[Any, Callable[[Any], bool]] = {
    "int": lambda value: type(value) is int,
    "int | None": lambda value: value is None or type(value) is int,
    "bool": lambda value: type(value) is bool,
    "float": lambda value: type(value) is float or type(value) is int,
    "str": lambda value: type(value) is str,
    "bytes": lambda value: type(value) is bytes,
    "Mapping[str, int]": _counts,
}
_NESTED = {"tuple[Span, ...]": Span, "tuple[Gap, ...]": Gap}  # rows within a row


def to_wire(ledger: Ledger) -> list[dict[str, Any]]:
    """Its pages: the first has what is there once; the rows go on from page to page."""
    pages: list[dict[str, Any]] = [
        {
            "peer": ledger.peer,
            "name": ledger.name,
            "refused_frames": ledger.refused_frames,
            "turned_away": dict(ledger.turned_away),
            **{t: [] for t in _TABLES},
        }
    ]
    size = 0
    for table in _TABLES:
        for row in getattr(ledger, table):
            packed = _packable(row)
            length = len(msgpack.packb(packed))
            if size and size + length > PAGE:
                pages.append({table: [] for table in _TABLES})
                size = 0
            pages[-1][table].append(packed)
            size += length
    return pages


def _packable(row: Any) -> dict[str, Any]:
    """Without what is as it is by default: most rows have little to tell."""
    told = {field.name: getattr(row, field.name) for field in fields(row)}
    return {
        name: [_packable(part) for part in value] if type(value) is tuple else dict(value) if _is_map(value) else value
        for name, value in told.items()
        if value != ()
    }


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


def from_wire(pages: Iterable[Mapping[str, Any]]) -> Ledger:
    """Raises Malformed when it is none."""
    first: Mapping[str, Any] | None = None
    rows: dict[str, list[Any]] = {table: [] for table in _TABLES}
    try:
        for page in pages:
            first = page if first is None else first
            for table, kind in _TABLES.items():
                rows[table] += _rows(kind, page[table])
        if first is None:
            raise Malformed("a ledger without a page")
        return Ledger(
            peer=_of_kind("bytes", first["peer"]),
            name=_of_kind("str", first["name"]),
            refused_frames=_of_kind("int", first["refused_frames"]),
            turned_away=_of_kind("Mapping[str, int]", first.get("turned_away", {})),
            **{table: tuple(those) for table, those in rows.items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Malformed(f"a ledger of another peer does not decode: {error}") from error


def _rows(kind: Any, rows: Any) -> list[Any]:
    kinds = {field.name: field.type for field in fields(kind)}
    checked = []
    for row in rows:
        if type(row) is not dict:
            raise TypeError(f"{row!r:.60} is no row")
        checked.append(kind(**{name: _of_kind(kinds[name], value) for name, value in row.items() if name in kinds}))
    return checked


def _of_kind(kind: Any, value: Any) -> Any:
    if kind in _NESTED:
        return tuple(_rows(_NESTED[kind], value))
    if not _KINDS[kind](value):
        raise TypeError(f"{value!r:.60} is no {kind}")
    return value
