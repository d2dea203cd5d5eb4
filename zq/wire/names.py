"""Names of topics, queues and realms, and the filters that select topics.

A name is 1 to 255 of the characters `A-Z a-z 0-9 . _ : -` and `/`, which separates its segments; no segment is
empty. A filter is a name in which a segment may be `*`, exactly one segment, or `**`, zero or more segments.
"""

from __future__ import annotations

import re

from zq.errors import Refused
from zq.record import dataclass, field
from zq.wire.limits import NAME

DEAD = ".dead"  # what the queue of a queue's dead messages is called: its name and this

_SEGMENT = "[A-Za-z0-9._:-]+"
_NAME = re.compile(f"{_SEGMENT}(?:/{_SEGMENT})*")
_STRANGE = re.compile("[^A-Za-z0-9._:/-]")


def check_name(name: str, what: str) -> str:
    """`name`, if a `what` ("topic", "queue", "realm") may be called that; Refused says what is wrong and where."""
    if not isinstance(name, str):
        raise Refused(f"a {what} is named by a str, not by {name!r:.60}")
    if not _NAME.fullmatch(name) or len(name) > NAME:
        raise Refused(f"{what} {name!r:.80}: {_complaint(name)}")
    return name


def check_queue(name: str) -> str:
    """`name`, if one may push to a queue called that. Pulling from a dead queue is fine: `check_name` takes it."""
    if check_name(name, "queue").endswith(DEAD):
        raise Refused(f"queue {name!r}: names that end in {DEAD} are reserved for messages that nobody could process")
    return name


def check_not_dead(name: str, what: str) -> None:
    """Refused for a topic or filter that is called like a queue of dead letters."""
    if name.endswith(DEAD):
        raise Refused(
            f"{what} {name!r}: names that end in {DEAD} are reserved for the dead letters of queues; pull from such a "
            "queue, or look with `zq dead ls`"
        )


def check_filter(text: str) -> str:
    """`text`, if it is a filter; Refused says what is wrong and where."""
    if not isinstance(text, str):
        raise Refused(f"a filter is a str, not {text!r:.60}")
    plain = "/".join("wild" if segment in ("*", "**") else segment for segment in text.split("/"))
    if not _NAME.fullmatch(plain) or len(text) > NAME:
        raise Refused(f"filter {text!r:.80}: {_filter_complaint(text)}")
    return text


@dataclass(frozen=True, slots=True)
class Filter:
    """A checked filter, hashable, equal by its text. `matches` takes time linear in the topic, whatever the filter."""

    text: str
    _pattern: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_filter(self.text)
        object.__setattr__(self, "_pattern", _compile(self.text) if "*" in self.text else None)

    def matches(self, topic: str) -> bool:
        """Whether `topic`, a checked name, is one of those selected."""
        if self._pattern is None:
            return topic == self.text
        return self._pattern.match(topic + "/") is not None

    def covers(self, other: Filter) -> bool:
        """Whether it selects every topic that `other` does. Time is the product of their segments."""
        mine, theirs = self.text.split("/"), other.text.split("/")
        # covered[j]: those of mine that have been looked at, from the last one on, cover theirs from j on
        covered = [*[False] * len(theirs), True]
        for segment in reversed(mine):
            before, covered = covered, [False] * (len(theirs) + 1)
            for at in range(len(theirs), -1, -1):
                if segment == "**":
                    covered[at] = before[at] or (at < len(theirs) and covered[at + 1])
                elif at < len(theirs) and theirs[at] != "**":
                    covered[at] = before[at + 1] and segment in ("*", theirs[at])
        return covered[0]

    def prefixes(self) -> tuple[bytes, ...]:
        """The fewest and longest byte strings such that `topic + b"\\0"` of every match begins with one of them.

        They are what a subscriber asks ZeroMQ for, so a few topics that do not match may come along.
        """
        segments = self.text.split("/")
        wild = next((index for index, segment in enumerate(segments) if segment in ("*", "**")), None)
        if wild is None:
            return (self.text.encode() + b"\0",)
        if wild == 0:
            return (b"",)
        lead = "/".join(segments[:wild]).encode()
        if all(segment == "**" for segment in segments[wild:]):
            return (lead + b"\0", lead + b"/")
        return (lead + b"/",)

    def __str__(self) -> str:
        return self.text


def _compile(text: str) -> re.Pattern[str]:
    """A pattern for topics with a `/` appended.

    The segments between two `**` are found at the leftmost place they fit, for good: an atomic group. As they are
    a fixed number of segments, a later place could only leave less room for the rest. So nothing is ever tried
    twice, where plain `.*` for `**` would take time exponential in the number of `**`.
    """
    chunks = [
        ["[^/]++/" if segment == "*" else re.escape(segment) + "/" for segment in chunk.split("/") if segment]
        for chunk in re.split(r"(?:(?<=/)|^)\*\*(?=/|$)", text)
    ]
    first, *others = ["".join(chunk) for chunk in chunks]
    if not others:
        return re.compile(first + r"\Z")
    *middle, last = others
    found = "".join(rf"(?>(?:[^/]++/)*?{chunk})" for chunk in middle if chunk)
    return re.compile(first + found + (rf"(?:[^/]++/)*?{last}\Z" if last else ""))


def _complaint(name: str) -> str:
    """Why `name` is none."""
    if not name:
        return "a name has at least one character"
    if strange := _STRANGE.search(name):
        return f"{strange.group()!r} at position {strange.start()}; use A-Z a-z 0-9 . _ : - and / between segments"
    if len(name) > NAME:
        return f"{len(name)} characters; {NAME} are the limit"
    return f"an empty segment at position {_empty_segment(name)}; a / stands only between two segments"


def _filter_complaint(text: str) -> str:
    """Why `text` is not a filter."""
    position = 0
    for segment in text.split("/"):
        if "*" in segment and segment not in ("*", "**"):
            return f"{segment!r} at position {position}; * and ** stand for whole segments"
        position += len(segment) + 1
    return _complaint(text.replace("*", "-"))


def _empty_segment(name: str) -> int:
    return 0 if name.startswith("/") else len(name) if name.endswith("/") and "//" not in name else name.index("//") + 1
