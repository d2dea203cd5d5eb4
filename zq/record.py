"""`dataclass` and its kin as in the standard library, without what those cost a program that only starts.

The standard decorator imports `inspect`, and writes and compiles six functions a class: 0.6 ms each, which for sixty
classes was a third of the time from the start of a program to its first message. Here all classes share the same few
functions, and nothing is compiled. Making an instance takes some microseconds, so that what is made for every frame is
an ordinary class with `__slots__`.

What is missing here: inheritance, `order`, `InitVar`, and classes without slots. What asks for `__dataclass_fields__`
(`dataclasses.fields`, `asdict`, `is_dataclass`) gets what it would have got, and imports the standard library's module
only then. Type checkers see the standard library's.
"""

from __future__ import annotations

from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import asdict, dataclass, field, fields, replace

_NOTHING: Any = object()


class _Field:
    """What a class says of one of its fields beside its type."""

    __slots__ = ("compare", "default", "factory", "init", "repr")

    def __init__(
        self,
        *,
        default: Any = _NOTHING,
        default_factory: Any = _NOTHING,
        init: bool = True,
        repr: bool = True,
        compare: bool = True,
    ) -> None:
        self.default = default
        self.factory = default_factory
        self.init = init
        self.repr = repr
        self.compare = compare

    def arguments(self) -> dict[str, Any]:
        """For the standard library's `field`."""
        given = {"default": self.default, "default_factory": self.factory}
        return {name: value for name, value in given.items() if value is not _NOTHING} | {
            "init": self.init,
            "repr": self.repr,
            "compare": self.compare,
        }


class _Standard:
    """`__dataclass_fields__`, made by the standard library when somebody asks for it first."""

    def __init__(self, fields: dict[str, _Field], kw_only: bool) -> None:
        self._fields = fields
        self._kw_only = kw_only

    def __get__(self, instance: object, owner: type) -> Any:
        import dataclasses

        body: dict[str, Any] = {name: dataclasses.field(**what.arguments()) for name, what in self._fields.items()}
        body |= {"__annotations__": dict(owner.__annotations__), "__module__": owner.__module__}
        same: Any = dataclasses.dataclass(kw_only=self._kw_only)(type(owner.__name__, (), body))
        owner.__dataclass_fields__ = same.__dataclass_fields__  # type: ignore[attr-defined]
        return same.__dataclass_fields__


def _dataclass(
    *, slots: bool, frozen: bool = False, eq: bool = True, kw_only: bool = False
) -> Callable[[type[Any]], type[Any]]:
    def build(plain: type[Any]) -> type[Any]:
        if not slots or plain.__bases__ != (object,):
            raise TypeError(f"{plain.__name__} needs the standard library's dataclass")
        fields = {name: _field_of(plain, name) for name in plain.__annotations__}
        body = {name: value for name, value in plain.__dict__.items() if name not in fields}
        for name in ("__dict__", "__weakref__"):
            body.pop(name, None)
        body["__slots__"], body["__annotations__"] = tuple(fields), dict(plain.__annotations__)
        body["__replace__"] = _replace  # what copy.replace of Python 3.13 calls
        body["__match_args__"] = () if kw_only else tuple(name for name, what in fields.items() if what.init)
        body["__dataclass_fields__"], body["__own_fields__"] = _Standard(fields, kw_only), fields
        _give(body, "__repr__", _repr_of([name for name, what in fields.items() if what.repr]))
        if eq:
            _compare(body, [name for name, what in fields.items() if what.compare], frozen)
        if frozen:
            body.update(__setattr__=_refuse_set, __delattr__=_refuse_delete)
            body.update(__getstate__=_getstate, __setstate__=_setstate)
        made: type[Any] = type(plain.__name__, (), body)
        made.__qualname__ = plain.__qualname__
        made.__init__ = _init_of(made, fields, kw_only)
        return made

    return build


def _field_of(plain: type[Any], name: str) -> _Field:
    value = plain.__dict__.get(name, _NOTHING)
    return value if isinstance(value, _Field) else _Field(default=value)


def _give(body: dict[str, Any], name: str, function: Any) -> None:
    """Unless the class has its own."""
    body.setdefault(name, function)


def _init_of(made: type[Any], fields: dict[str, _Field], kw_only: bool) -> Callable[..., None]:
    puts = [(name, made.__dict__[name].__set__) for name, what in fields.items() if what.init]
    order = [] if kw_only else [name for name, _ in puts]
    defaults = {name: what.default for name, what in fields.items() if what.default is not _NOTHING}
    factories = {name: what.factory for name, what in fields.items() if what.factory is not _NOTHING}
    fixed = [(made.__dict__[name].__set__, name) for name, what in fields.items() if not what.init]
    after = made.__dict__.get("__post_init__")

    def __init__(self: Any, /, *given: Any, **named: Any) -> None:  # noqa: N807
        if given:
            if len(given) > len(order):
                raise TypeError(f"{made.__name__} takes {len(order)} arguments by position, not {len(given)}")
            for name, value in zip(order, given, strict=False):
                if name in named:
                    raise TypeError(f"{made.__name__} got two values for {name!r}")
                named[name] = value
        for name, put in puts:
            if name in named:
                put(self, named.pop(name))
            elif name in defaults:
                put(self, defaults[name])
            elif name in factories:
                put(self, factories[name]())
            else:
                raise TypeError(f"{made.__name__} needs a value for {name!r}")
        if named:
            raise TypeError(f"{made.__name__} has no field {next(iter(named))!r}")
        for put, name in fixed:
            if name in factories or name in defaults:
                put(self, factories[name]() if name in factories else defaults[name])
        if after is not None:
            after(self)

    return __init__


def _repr_of(names: list[str]) -> Callable[[Any], str]:
    @recursive_repr()
    def __repr__(self: Any) -> str:  # noqa: N807
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return __repr__


def _compare(body: dict[str, Any], names: list[str], frozen: bool) -> None:
    values: Callable[[Any], Any] = attrgetter(*names) if names else lambda instance: ()

    def __eq__(self: Any, other: object) -> Any:  # noqa: N807
        return values(self) == values(other) if type(other) is type(self) else NotImplemented

    _give(body, "__eq__", __eq__)
    hashed = body.get("__hash__")  # Python has put None there if the class has its own `__eq__`
    if hashed is None:
        body["__hash__"] = (lambda self: hash(values(self))) if frozen else None


def _refuse_set(self: Any, name: str, value: object) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: Any, name: str) -> None:
    from dataclasses import FrozenInstanceError

    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _getstate(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__slots__]


def _setstate(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__slots__, state, strict=True):
        object.__setattr__(self, name, value)


def _replace(instance: Any, /, **changes: Any) -> Any:
    kind = type(instance)
    fields = kind.__own_fields__
    kept = {name: getattr(instance, name) for name, what in fields.items() if what.init and name not in changes}
    return kind(**kept, **changes)


def _fields(of: Any) -> Any:
    import dataclasses

    return dataclasses.fields(of)


def _asdict(instance: Any) -> Any:
    import dataclasses

    return dataclasses.asdict(instance)


if not TYPE_CHECKING:
    dataclass, field = _dataclass, _Field
    asdict, fields, replace = _asdict, _fields, _replace

__all__ = ["asdict", "dataclass", "field", "fields", "replace"]
