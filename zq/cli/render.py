"""How message data looks on a terminal, in JSON, and in a format of the user's own.

JSON knows fewer types than a message. What it lacks becomes an object with one `$` key, so that nothing is mistaken
for something else:

    bytes, memoryview     {"$base64": "aGk="}
    ndarray               {"$array": [[1, 2], [3, 4]], "dtype": "<i8"}
    nan, inf, -inf        {"$float": "nan"}
    datetime              "2026-05-04T12:00:00Z"
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from string import Formatter
from typing import Any, Final

from zq import Message
from zq.cli.controls import CONTROLS, IN_JSON

LONGEST_BYTES = 32  # bytes of a buffer shown on a terminal; two fit beside each other in 80 columns
FIELDS = ("topic", "queue", "service", "data", "id", "sender", "sent_at", "attempt", "redelivered", "key", "headers")

Render = Callable[[Message], bytes]  # one message as the bytes that go to standard output


def timestamp(moment: datetime) -> str:
    """RFC 3339, in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def without_floats(data: Any) -> Any:
    """`data` with every nan and inf spelled out: JSON has no word for them."""
    if isinstance(data, float):
        return data if data - data == 0.0 else {"$float": str(data)}
    if isinstance(data, dict):
        return {key: without_floats(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [without_floats(value) for value in data]
    return data


def beyond_json(value: Any) -> Any:
    """What stands for a value that JSON has no type for."""
    if isinstance(value, bytes | memoryview):
        return {"$base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return timestamp(value)
    if hasattr(value, "tolist") and hasattr(value, "dtype"):  # an ndarray, without importing numpy to ask
        return {"$array": without_floats(value.tolist()), "dtype": getattr(value.dtype, "str", str(value.dtype))}
    if hasattr(value, "buffer") and hasattr(value, "shape"):  # zq.Array: an ndarray where numpy is missing
        return {"$base64": base64.b64encode(value.buffer).decode(), "dtype": value.dtype, "shape": list(value.shape)}
    return str(value)  # an element of an exotic ndarray: a date, a complex number


def to_json(data: Any) -> str:
    """`data` as one line of JSON, complete."""
    try:
        text = json.dumps(data, default=beyond_json, ensure_ascii=False, allow_nan=False)
    except ValueError:  # a nan or inf somewhere: rare, so only then walk through all of it
        text = json.dumps(without_floats(data), default=beyond_json, ensure_ascii=False, allow_nan=False)
    return text.translate(IN_JSON)


def summarise(value: Any) -> Any:
    """What stands for a value that has no readable JSON: short, for people."""
    if isinstance(value, bytes | memoryview):
        more = "..." if len(value) > LONGEST_BYTES else ""
        return f"<{len(value)} bytes {bytes(value[:LONGEST_BYTES]).hex()}{more}>"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"<array {value.dtype} {'x'.join(map(str, value.shape)) or 'scalar'}>"
    return beyond_json(value)


def readable(data: Any) -> str:
    """`data` for people: one line, text as it is, the rest as JSON with buffers and arrays abbreviated."""
    if isinstance(data, str):
        text = data
    elif isinstance(data, bytes | memoryview | datetime) or hasattr(data, "dtype"):
        text = str(summarise(data))
    else:
        text = json.dumps(data, default=summarise, ensure_ascii=False)
    return text.translate(CONTROLS)


def line(text: str) -> bytes:
    """One line for a terminal, whatever is in the text."""
    return verbatim(text.translate(CONTROLS))


def verbatim(text: str) -> bytes:
    """`text` as it is, where that is what was asked for."""
    return text.encode(errors="backslashreplace") + b"\n"


def topic_and_data(message: Message) -> bytes:
    """The default of `zq sub`."""
    return line(f"{message.topic} {readable(message.data)}")


def only_data(message: Message) -> bytes:
    """The default of `zq pull`."""
    return line(readable(message.data))


def raw(message: Message) -> bytes:
    """`--raw`: text and a line end; bytes and nothing else, so that an image stays one; other data as JSON."""
    if isinstance(message.data, bytes | memoryview):
        return bytes(message.data)
    return verbatim(message.data if isinstance(message.data, str) else to_json(message.data))


def fields(message: Message) -> dict[str, Any]:
    """All that is known about a message, ready for `to_json`."""
    where = {"topic": message.topic, "queue": message.queue}  # both where the queue is bound to the topic
    if message.service is not None:
        where = {"service": message.service}
    return {name: value for name, value in where.items() if value is not None} | {
        "data": message.data,
        "id": message.id,
        "sender": message.sender.hex(),
        "sent_at": message.sent_at,
        "attempt": message.attempt,
        "redelivered": message.redelivered,
        "key": message.key,
        "headers": dict(message.headers),
    }


def json_line(message: Message) -> bytes:
    """`--json`: one object a line."""
    return line(to_json(fields(message)))


class Template(Formatter):
    r"""`--format`: Python's format fields over the message, `{topic}`, `{data[celsius]:.1f}`, `{sent_at:%H:%M}`.

    `\n` and `\t` stand for themselves typed out, because a shell's single quotes keep them. What a message lacks
    is shown as nothing; a format that does not fit a value (`:.1f` on text) leaves it as it is. Raises ValueError for
    a template that no message can fill.
    """

    ESCAPES: Final = (("\\n", "\n"), ("\\t", "\t"))

    def __init__(self, text: str) -> None:
        for typed, meant in self.ESCAPES:
            text = text.replace(typed, meant)
        self._text = text
        for _, name, spec, conversion in self.parse(text):
            if name is None:
                continue
            first = name.partition("[")[0]
            if first not in FIELDS:
                raise ValueError(f"there is no field {{{first}}}; the fields are {', '.join(FIELDS)}")
            if conversion or "{" in (spec or ""):
                raise ValueError(f"{{{first}}} takes a format such as :.1f, no conversion and no field inside it")

    def __call__(self, message: Message) -> bytes:
        return verbatim(self.format(self._text, message=message))  # its fields are escaped one by one

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        name, _, path = field_name.partition("[")
        value = getattr(kwargs["message"], name)
        for part in path.removesuffix("]").split("][") if path else ():
            try:
                value = value[int(part)] if isinstance(value, list) else value[part]
            except (LookupError, TypeError, ValueError):
                return "", name
        return value.hex() if name == "sender" else value, name

    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None:
            return ""
        if format_spec:
            try:
                return format(value, format_spec).translate(CONTROLS)
            except (TypeError, ValueError):
                pass  # said above: it stays as it is
        return readable(value)
