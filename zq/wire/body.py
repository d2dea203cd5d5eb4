"""Frames that name their sender and addressee: `kind 1 | addressee 16 | sender 16 | msgpack array`.

How large the array may be, and of how many containers, depends on the kind. What is in it is checked field by field
before anything is made of it. Decoders raise `Malformed` and nothing else; fields that a later version appends are
passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self, dataclass_transform

import msgpack

from zq.errors import Refused
from zq.wire.batch import Buffer
from zq.wire.budget import unpack_within
from zq.wire.data import Malformed
from zq.wire.limits import MAILBOX_FRAME
from zq.wire.names import check_filter, check_name

ID_BYTES = 16
NONCE_BYTES = 8
SMALL = 16 << 10  # bytes of an array that has no lists; a text has 1,024 characters at most
SOME = 16  # containers of one

_ADDRESS = struct.Struct(">c16s16s")


def address(kind: bytes, addressee: bytes, sender: bytes) -> bytes:
    return _ADDRESS.pack(kind, addressee, sender)


class Addressed(NamedTuple):
    kind: bytes
    addressee: bytes
    sender: bytes
    body: Buffer


def decode_addressed(frame: Buffer) -> Addressed:
    if not _ADDRESS.size <= len(frame) <= MAILBOX_FRAME:
        raise Malformed("a mailbox frame is cut short or too large")
    kind, addressee, sender = _ADDRESS.unpack_from(frame)
    return Addressed(kind, addressee, sender, memoryview(frame)[_ADDRESS.size :])


def bytes_of(size: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is bytes and len(value) == size


def is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def is_seconds(value: Any) -> bool:
    return (type(value) is float or type(value) is int) and value == value  # NaN is no time


def is_text(value: Any) -> bool:
    return type(value) is str and len(value) <= 1024


def is_name(value: Any) -> bool:
    return _passes(check_name, value, "name")


def is_filter(value: Any) -> bool:
    return _passes(check_filter, value)


def _passes(check: Callable[..., str], *arguments: Any) -> bool:
    try:
        check(*arguments)
    except Refused:
        return False
    return True


def list_of(*checks: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A list of rows, each as long as `checks`; a single check means plain values."""
    if len(checks) == 1:
        return lambda value: type(value) is list and all(map(checks[0], value))
    width = len(checks)
    return lambda value: (
        type(value) is list
        and all(
            type(row) is list
            and len(row) == width
            and all(check(cell) for check, cell in zip(checks, row, strict=True))
            for row in value
        )
    )


def is_map(value: Any) -> bool:
    return type(value) is dict


def is_bytes(value: Any) -> bool:
    return type(value) is bytes


def is_flag(value: Any) -> bool:
    return type(value) is bool


is_id, is_nonce = bytes_of(ID_BYTES), bytes_of(NONCE_BYTES)


@dataclass_transform(eq_default=True, frozen_default=True)
class Body:
    """The msgpack array of an addressed frame. Its fields are those that a subclass annotates, each with a check.

    Frozen and compared like a dataclass, without the code that one generates: with a dozen of them that would be a
    tenth of the time in which a short-lived program starts, sends and ends.
    """

    KIND: ClassVar[bytes]
    CHECKS: ClassVar[tuple[Callable[[Any], bool], ...]]
    FIELDS: ClassVar[tuple[str, ...]] = ()
    LATER: ClassVar[tuple[Any, ...]] = ()  # defaults of the last fields: they were appended
    BYTES: ClassVar[int] = SMALL  # of the array
    CONTAINERS: ClassVar[int] = SOME  # of the array, itself and those in maps included

    def __init_subclass__(cls) -> None:
        cls.FIELDS = tuple(cls.__annotations__)
        cls.LATER = tuple(getattr(cls, name) for name in cls.FIELDS if hasattr(cls, name))

    def __init__(self, *fields: Any, **named: Any) -> None:
        self.__dict__.update(zip(self.FIELDS, fields, strict=False), **named)
        missing = len(self.FIELDS) - len(self.__dict__)
        if 0 < missing <= len(self.LATER):
            self.__dict__.update(zip(self.FIELDS[-missing:], self.LATER[-missing:], strict=True))
        if tuple(self.__dict__) != self.FIELDS:
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(self.FIELDS)}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"

    def encode(self, addressee: bytes, sender: bytes) -> bytes:
        fields = [self.__dict__[name] for name in self.FIELDS]
        return address(self.KIND, addressee, sender) + bytes(msgpack.packb(fields))

    @classmethod
    def decode(cls, body: Buffer) -> Self:
        return cls(*cls.checked(cls.unpacked(body)))

    @classmethod
    def unpacked(cls, body: Buffer) -> list[Any]:
        """Its fields, whatever they are."""
        return unpack_array(body, cls.__name__, cls.BYTES, cls.CONTAINERS)

    @classmethod
    def checked(cls, fields: list[Any]) -> list[Any]:
        """The fields this version knows; later ones may append more, and earlier ones lack what was appended."""
        known = fields[: len(cls.CHECKS)]
        missing = len(cls.CHECKS) - len(known)
        if 0 < missing <= len(cls.LATER):
            known += cls.LATER[-missing:]
        if len(known) < len(cls.CHECKS) or not all(
            check(value) for check, value in zip(cls.CHECKS, known, strict=True)
        ):
            raise Malformed(f"a {cls.__name__} has a field of the wrong kind or too few")
        return known


def unpack_array(body: Buffer, what: str, most: int = SMALL, containers: int = SOME) -> list[Any]:
    """`most` bytes and so many `containers`, else Malformed."""
    if len(body) > most:
        raise Malformed(f"a {what} of {len(body):,} bytes; {most:,} are the limit")
    try:
        fields = unpack_within(body, containers)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Malformed(f"a {what} does not decode: {error}") from error
    if type(fields) is not list:
        raise Malformed(f"a {what} is not an array")
    return fields
