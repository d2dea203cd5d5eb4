"""zq.record does what the standard library's dataclasses do: every case here is run with both."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import zq
from zq import record


def classes(kit: Any) -> SimpleNamespace:
    @kit.dataclass(frozen=True, slots=True, kw_only=True)
    class Value:
        name: str
        size: int = 3
        parts: tuple[int, ...] = ()

    @kit.dataclass(eq=False, slots=True)
    class State:
        name: str
        seen: list[int] = kit.field(default_factory=list)
        hidden: int = kit.field(default=1, repr=False)

        def __post_init__(self) -> None:
            self.name = self.name.upper()

    @kit.dataclass(slots=True)
    class Pair:
        left: int
        right: int = kit.field(default=0, compare=False)

    @kit.dataclass(frozen=True, slots=True)
    class Checked:
        text: str
        length: int = kit.field(init=False, repr=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "length", len(self.text))

    @kit.dataclass(frozen=True, slots=True)
    class Own:
        text: str

        def __repr__(self) -> str:
            return "own"

        def __hash__(self) -> int:
            return 7

    return SimpleNamespace(Value=Value, State=State, Pair=Pair, Checked=Checked, Own=Own)


def outcome(call: Callable[[Any], Any], kit: Any) -> Any:
    made = classes(kit)
    made.replace = kit.replace
    try:
        return call(made)
    except Exception as error:
        return type(error)


def changed(instance: Any, name: str) -> Any:
    setattr(instance, name, 5)
    return getattr(instance, name)


def deleted(instance: Any, name: str) -> None:
    delattr(instance, name)


CASES: dict[str, Callable[[Any], Any]] = {
    "defaults": lambda it: (it.Value(name="a").size, it.Value(name="a").parts),
    "by position where only names are taken": lambda it: it.Value("a"),
    "a value is missing": lambda it: it.Value(size=1),
    "a field that is none": lambda it: it.Value(name="a", other=1),
    "too many by position": lambda it: it.Pair(1, 2, 3),
    "two values for one": lambda it: it.Pair(1, left=2),
    "a field that is not given": lambda it: it.Checked("abc", length=3),
    "one that is set afterwards": lambda it: it.Checked("abc").length,
    "repr": lambda it: repr(it.Value(name="a")).split(".")[-1],
    "repr without what is hidden": lambda it: repr(it.State("a")).split(".")[-1],
    "its own repr": lambda it: repr(it.Own("a")),
    "equal": lambda it: it.Value(name="a") == it.Value(name="a"),
    "different": lambda it: it.Value(name="a") == it.Value(name="b"),
    "another class": lambda it: it.Value(name="a") == ("a", 3, ()),
    "equal but for what does not count": lambda it: it.Pair(1, 2) == it.Pair(1, 3),
    "equal by identity": lambda it: it.State("a") == it.State("a"),
    "hash of a value": lambda it: len({it.Value(name="a"), it.Value(name="a"), it.Value(name="b")}),
    "its own hash": lambda it: hash(it.Own("a")),
    "hash of what may change": lambda it: hash(it.Pair(1)),
    "hash by identity": lambda it: len({it.State("a"), it.State("a")}),
    "set where nothing is": lambda it: changed(it.Value(name="a"), "size"),
    "set where something is": lambda it: changed(it.State("a"), "name"),
    "delete": lambda it: deleted(it.Value(name="a"), "size"),
    "factories make one each": lambda it: it.State("a").seen is it.State("a").seen,
    "after the fields": lambda it: it.State("a").name,
    "replace": lambda it: it.replace(it.Value(name="a"), size=9).size,
    "replace keeps": lambda it: it.replace(it.Value(name="a", size=4), parts=(1,)).size,
    "replace what is made afterwards": lambda it: it.replace(it.Checked("abc"), text="a").length,
    "replace what is not there": lambda it: it.replace(it.Value(name="a"), other=9),
    "match": lambda it: (it.Value.__match_args__, it.Checked.__match_args__, it.Pair.__match_args__),
    "slots": lambda it: it.Value.__slots__,
    "fields": lambda it: [(each.name, each.type, each.default, each.kw_only) for each in dataclasses.fields(it.Value)],
    "fields that are hidden": lambda it: [(each.name, each.repr, each.init) for each in dataclasses.fields(it.State)],
    "as a dict": lambda it: dataclasses.asdict(it.State("a")),
    "is one": lambda it: dataclasses.is_dataclass(it.Value),
    "replaced by the standard library": lambda it: dataclasses.replace(it.Value(name="a"), size=9).size,
    "qualified name": lambda it: it.Value.__qualname__.split(".")[-1],
}


@pytest.mark.parametrize("case", CASES)
def test_it_does_what_dataclasses_do(case: str) -> None:
    expected = outcome(CASES[case], dataclasses)
    assert outcome(CASES[case], record) == expected


def test_what_it_cannot_do_is_refused() -> None:
    class Base:
        pass

    class Below(Base):
        name: str

    with pytest.raises(TypeError, match="standard library"):
        record.dataclass(slots=True)(Below)
    with pytest.raises(TypeError, match="standard library"):
        record.dataclass(slots=False)(Base)


def test_public_values_can_be_copied_and_compared() -> None:
    gap = zq.Gap(publisher=b"p" * 16, topic="t", first=1, last=2)
    assert copy.copy(gap) == gap
    assert dataclasses.replace(gap, last=3) != gap
    if sys.version_info >= (3, 13):
        assert copy.replace(gap, last=3).last == 3


def test_the_standard_fields_are_made_once() -> None:
    """They cost as much as a class: a ledger of a thousand rows asks for them a thousand times."""
    first = dataclasses.fields(zq.Gap)
    assert all(one is other for one, other in zip(first, dataclasses.fields(zq.Gap), strict=True))
