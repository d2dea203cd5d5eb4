"""The ledger on its way to another peer and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from zq.info import HeldQueue, Ledger, PublishedTopic, PulledQueue, RepliedService, RequestedService, SubscribedTopic
from zq.wire.data import Malformed

Row = TypeVar("Row", HeldQueue, PulledQueue, PublishedTopic, SubscribedTopic, RequestedService, RepliedService)

# What a field of a row may be, by its annotation.
_KINDS: dict[Any, Callable[[Any], bool]] = {
    "int": lambda value: type(value) is int,
    "str": lambda value: type(value) is str,
    "bytes": lambda value: type(value) is bytes,
    "Mapping[str, int]": lambda value: (
        type(value) is dict and all(type(reason) is str and type(count) is int for reason, count in value.items())
    ),
}


def to_wire(ledger: Ledger) -> dict[str, Any]:
    return {name: value for name, value in asdict(ledger).items() if name not in ("others", "unknown")}


def from_wire(fields_of: Mapping[str, Any]) -> Ledger:
    """Raises Malformed when it is none."""
    try:
        return Ledger(
            peer=_of_kind("bytes", fields_of["peer"]),
            name=_of_kind("str", fields_of["name"]),
            held=_rows(HeldQueue, fields_of["held"]),
            pulled=_rows(PulledQueue, fields_of["pulled"]),
            published=_rows(PublishedTopic, fields_of["published"]),
            subscribed=_rows(SubscribedTopic, fields_of["subscribed"]),
            requested=_rows(RequestedService, fields_of.get("requested", ())),
            replied=_rows(RepliedService, fields_of.get("replied", ())),
            refused_frames=_of_kind("int", fields_of["refused_frames"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Malformed(f"a ledger of another peer does not decode: {error}") from error


def _rows(kind: type[Row], rows: Any) -> tuple[Row, ...]:
    kinds = {field.name: field.type for field in fields(kind)}
    checked = []
    for row in rows:
        if type(row) is not dict:
            raise TypeError(f"{row!r:.60} is no row")
        known = {name: _of_kind(kinds[name], value) for name, value in row.items() if name in kinds}
        checked.append(kind(**known))
    return tuple(checked)


def _of_kind(kind: Any, value: Any) -> Any:
    if not _KINDS[kind](value):
        raise TypeError(f"{value!r:.60} is no {kind}")
    return value
