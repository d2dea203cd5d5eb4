"""Arrays on the wire, described without numpy: `Array`, and what a numpy array must be to become one.

A `dtype` is what numpy calls `dtype.str` ("<f8"), or for structured types a tuple of the item's size in bytes and
one `(name, dtype, offset, shape)` for every field. Only types of plain bytes can be described: no objects, nothing
that needs unpickling, nothing whose layout depends on the machine.
"""

from __future__ import annotations

import importlib
import re
import sys
from functools import cache, lru_cache
from math import prod
from types import ModuleType
from typing import Any, Literal

from zq.errors import Refused
from zq.record import dataclass

# A str, or (item size, (name, dtype, offset, shape), ...); the recursion is beyond what a type checker follows.
DType = str | tuple[Any, ...]
Order = Literal["C", "F"]

DIMENSIONS = 64  # what numpy 2 allows
NESTING = 8  # structured types inside each other; more has no use and costs recursion

_PLAIN = re.compile(r"([<>|])([biufcSUVmM])([1-9][0-9]{0,8})(\[[0-9]{0,9}(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?")
# Bytes an item of a kind can have; other kinds take any number. Long doubles (16 bytes) differ between machines.
_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16), "m": (8,), "M": (8,)}
_UTF32 = 4  # bytes of a character of kind U
_KINDS = 256  # types whose description is remembered; a program has a handful, and strangers may name many


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """An n-dimensional array without numpy: what a sent numpy array arrives as where numpy is not installed.

    `buffer` is a read-only view of the items, contiguous in `order`; a writable buffer is copied once. Sending an
    `Array` and sending the numpy array it describes are the same. Refused if the parts do not fit together.
    """

    dtype: DType
    shape: tuple[int, ...]
    order: Order = "C"
    buffer: memoryview

    def __post_init__(self) -> None:
        shape = tuple(self.shape)
        if len(shape) > DIMENSIONS or not all(type(length) is int and length >= 0 for length in shape):
            raise Refused(f"shape {shape!r:.80} is not up to {DIMENSIONS} lengths of 0 or more")
        if self.order not in ("C", "F"):
            raise Refused(f"order {self.order!r:.20} is neither 'C' nor 'F'")
        buffer = memoryview(self.buffer)
        wanted = item_size(self.dtype) * prod(shape)
        if buffer.nbytes != wanted:
            raise Refused(f"an array of {wanted} bytes cannot have a buffer of {buffer.nbytes}")
        if not buffer.readonly:
            buffer = memoryview(bytes(buffer))
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "buffer", buffer.cast("B"))

    def to_numpy(self) -> Any:
        """The items as a read-only `numpy.ndarray`, not copied. ImportError without numpy, Refused if it cannot."""
        numpy = numpy_if_installed()  # only who asks for it needs it
        if numpy is None:
            raise ImportError("numpy is not installed")
        try:
            return numpy.ndarray(self.shape, _numpy_dtype(self.dtype), self.buffer, order=self.order)
        except (ValueError, TypeError, OverflowError, RuntimeError) as error:
            raise Refused(f"numpy cannot make an array of {self.dtype!r:.80}, {self.shape!r:.80}: {error}") from error

    def __repr__(self) -> str:
        return f"<Array {self.dtype!r:.80} {self.shape!r:.80} {self.order}: {self.buffer.nbytes} bytes>"


def item_size(dtype: object, nesting: int = NESTING) -> int:
    """Bytes of one item. Refused unless `dtype` is one that this module describes."""
    if isinstance(dtype, str):
        return _plain_size(dtype)
    if not isinstance(dtype, tuple) or len(dtype) < 2 or not _is_length(dtype[0]) or not dtype[0] or not nesting:
        raise Refused(f"{dtype!r:.60} is not the type of an array that can be sent")
    size = int(dtype[0])
    for item in dtype[1:]:
        if not isinstance(item, tuple) or len(item) != 4 or not isinstance(item[0], str) or not _is_length(item[2]):
            raise Refused(f"{item!r:.60} does not describe a field of an array")
        _, inner, offset, shape = item
        if not isinstance(shape, tuple) or len(shape) > DIMENSIONS or not all(map(_is_length, shape)):
            raise Refused(f"{shape!r:.60} is not the shape of a field of an array")
        if offset + item_size(inner, nesting - 1) * prod(shape) > size:
            raise Refused(f"field {item[0]!r:.60} lies outside of its item of {size} bytes")
    return size


@lru_cache(_KINDS)
def _plain_size(dtype: str) -> int:
    match = _PLAIN.fullmatch(dtype)
    if match is None or (match[4] and match[2] not in "mM"):
        raise Refused(f"{dtype!r:.60} is not the type of an array that can be sent")
    size = int(match[3])
    if size not in _SIZES.get(match[2], (size,)):
        raise Refused(f"{dtype!r:.60} is an array type that differs between machines, or none")
    return size * _UTF32 if match[2] == "U" else size


def from_numpy(array: Any, numpy: ModuleType, *, copy: bool) -> Array:
    """`array`, a numpy.ndarray, as an Array. Refused says what about it cannot be sent.

    The items are copied only if they are not contiguous or, with `copy`, if anybody could still write to them.
    """
    masked = sys.modules.get("numpy.ma")  # importing it takes longer than a start of zq; without it there is none
    if masked is not None and isinstance(array, masked.MaskedArray):
        raise Refused("a masked array would lose its mask; send its data and its mask")
    dtype = _description(array.dtype)
    plain = numpy.asarray(array)  # a view without what subclasses add
    fortran = plain.flags.f_contiguous and not plain.flags.c_contiguous
    frozen = not copy or _is_frozen(plain, numpy)
    if not (fortran or plain.flags.c_contiguous):
        # Zeros, because numpy copies field by field: what lies between fields would be whatever was in memory before.
        contiguous = numpy.zeros(plain.shape, plain.dtype)
        contiguous[...] = plain
        plain, frozen = contiguous, True
    order: Order = "F" if fortran else "C"
    items = plain.reshape(-1, order=order).view(numpy.uint8)
    buffer = memoryview(items if frozen else items.copy()).toreadonly()
    return _made(dtype, plain.shape, order, buffer)


def _made(dtype: DType, shape: tuple[int, ...], order: Order, buffer: memoryview) -> Array:
    """An Array whose parts are known to fit together: checking them is most of what a small array costs."""
    array = object.__new__(Array)
    for name, value in (("dtype", dtype), ("shape", shape), ("order", order), ("buffer", buffer)):
        object.__setattr__(array, name, value)
    return array


@cache
def numpy_if_installed() -> ModuleType | None:
    """numpy, imported at the first array that arrives; None where it is not installed."""
    try:
        return importlib.import_module("numpy")
    except ImportError:
        return None


@lru_cache(_KINDS)
def _description(dtype: Any) -> DType:
    """A numpy dtype as ours. Refused if we have no words for it."""
    described = _described(dtype)
    if _numpy_dtype(described) != dtype:
        raise Refused(f"an array of {dtype!r:.60} cannot be sent; convert it to a plain type")
    return described


def _described(dtype: Any) -> DType:
    """A numpy dtype as ours; what we have no words for comes out as something that is not equal to it or is refused."""
    if dtype.hasobject:
        raise Refused("an array of Python objects cannot be sent; use a list, or an array of a plain type")
    if dtype.names is None:
        described: DType = str(dtype.str)
    else:
        fields = []
        for name in dtype.names:
            field, offset = dtype.fields[name][:2]
            base, shape = field.subdtype or (field, ())
            fields.append((str(name), _described(base), int(offset), tuple(int(length) for length in shape)))
        described = (int(dtype.itemsize), *fields)
    item_size(described)
    return described


@lru_cache(_KINDS)
def _numpy_dtype(dtype: DType) -> Any:
    """The numpy dtype that `dtype`, already checked, describes. Only where numpy is installed."""
    numpy = importlib.import_module("numpy")
    if isinstance(dtype, str):
        return numpy.dtype(dtype)
    names, formats, offsets, shapes = zip(*dtype[1:], strict=True)
    inner = [_numpy_dtype(format) for format in formats]
    formats = tuple((format, shape) if shape else format for format, shape in zip(inner, shapes, strict=True))
    return numpy.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": dtype[0]})


def _is_frozen(array: Any, numpy: ModuleType) -> bool:
    """Whether neither `array` nor anything whose memory it shows can be written to."""
    owner = array
    while isinstance(owner, numpy.ndarray):
        if owner.flags.writeable:
            return False
        if owner.base is None:
            return True
        owner = owner.base
    try:
        return memoryview(owner).readonly
    except TypeError:  # it has no buffer to ask, so it may be writable
        return False


def _is_length(value: object) -> bool:
    return type(value) is int and value >= 0
