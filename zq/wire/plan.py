"""How a message of a queue wants to be treated by whoever holds it: its lane, its key, from when on and until when.

A holder reads the plan from the object the sender made, not from the bytes; the bytes carry it for the next holder,
with times as what remains of them, since clocks of different hosts have nothing in common.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import msgpack

from zq.errors import Refused
from zq.message import KEY, PRIORITY
from zq.wire.data import Extended, Packed
from zq.wire.limits import SECONDS

Lane = Literal["high", "normal", "low"]

NORMAL, HIGH, LOW = 0, 1, 2  # lanes as frames number them; a message without options is in the normal one
LANES: Final[dict[str, int]] = {"high": HIGH, "normal": NORMAL, "low": LOW}
PRIORITIES: Final[dict[int, int | None]] = {HIGH: 1, NORMAL: None, LOW: -1}  # as the extra fields say it


class Plan(NamedTuple):
    """What the sender asked for; times in seconds from when the holder takes the message."""

    lane: int = NORMAL
    key: str | None = None
    ttl: float | None = None
    delay: float = 0.0

    @property
    def groups(self) -> bool:
        """Whether messages with this plan can be held together: none of them has a fate of its own."""
        return self.key is None and self.ttl is None and not self.delay

    @property
    def extra(self) -> list[Any]:
        """Its part of the extra fields: key, priority, ttl, delay."""
        return [self.key, PRIORITIES[self.lane], self.ttl, self.delay or None]


class Planned(Extended):
    """A message with a plan. Its bytes end with ttl and delay."""

    plan: Plan


def plan_of(key: str | None, lane: str, ttl: float | None, delay: float) -> Plan | None:
    """What the options of a send ask for; None if that is nothing. Refused for what cannot be."""
    if lane not in LANES:
        raise Refused(f"lane is one of {', '.join(LANES)}; not {lane!r:.40}")
    for what, seconds in (("ttl", ttl), ("delay", delay)):
        if not _is_time(seconds) and not (what == "ttl" and seconds is None):
            raise Refused(f"{what} is seconds from 0 to {SECONDS:,}, not {seconds!r:.40}")
    if ttl is not None and ttl < delay:
        raise Refused(f"a ttl of {ttl:g} s is over before a delay of {delay:g} s is; nobody would ever get the message")
    if key is None and lane == "normal" and ttl is None and not delay:
        return None
    return Plan(LANES[lane], key, None if ttl is None else float(ttl), float(delay))


def _is_time(seconds: Any) -> bool:
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds <= SECONDS


def plan_in(extra: list[Any]) -> Plan | None:
    """The lane and the key that extra fields tell; None if it is the normal lane and no key."""
    lane = next((lane for lane, priority in PRIORITIES.items() if priority == extra[PRIORITY]), NORMAL)
    return None if lane == NORMAL and extra[KEY] is None else Plan(lane, extra[KEY])


def planned(item: bytes | Packed, plan: Plan) -> Planned | Packed:
    """A packed message, whose extra fields say the plan, as one that its holder can treat so."""
    if isinstance(item, Packed):
        body = Planned(item.body)
        body.plan = plan
        return Packed(body, item.parts)
    whole = Planned(item)
    whole.plan = plan
    return whole


def remaining(body: bytes, plan: Plan, ttl: float | None, delay: float | None = None) -> bytes:
    """The message as it leaves its holder: `ttl` seconds are left of its time, and `delay` of its delay."""
    if plan.ttl is None and not plan.delay:
        return body
    tail = len(_seconds(plan.ttl)) + len(_seconds(plan.delay or None))
    return b"".join((body[:-tail], _seconds(ttl), _seconds(delay)))


def _seconds(seconds: float | None) -> bytes:
    return bytes(msgpack.packb(seconds))
