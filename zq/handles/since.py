"""Where a subscription that reads from a spool begins, as programs say it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

from zq.errors import Refused
from zq.wire.kept import CURSOR_NAME, FROM_AGO, FROM_BEGINNING, FROM_COUNT, FROM_END, FROM_TIME
from zq.wire.names import check_name

Since = Literal["beginning", "end"] | int | timedelta | datetime
COUNT_MOST = 1 << 53  # messages; more than a spool ever has, and exact in any number format

_KINDS = "'beginning', 'end', a count (the last so many messages), a timedelta (so long ago) or a datetime"


def position_of(since: Since) -> tuple[int, float]:
    """Kind and value, as a cursor's reader tells its spool. Refused for what is no position, or one in the future."""
    if since == "beginning":
        return FROM_BEGINNING, 0.0
    if since == "end":
        return FROM_END, 0.0
    if isinstance(since, bool) or not isinstance(since, int | timedelta | datetime):
        raise Refused(f"since is {_KINDS}; not {since!r:.80}")
    if isinstance(since, int):
        if not 0 <= since <= COUNT_MOST:
            raise Refused(f"since={since} is no count of messages; it is how many of the newest to begin with")
        return (FROM_COUNT, float(since)) if since else (FROM_END, 0.0)
    if isinstance(since, timedelta):
        if since < timedelta(0):
            raise Refused(f"since={since!r} is in the future; a timedelta says how long ago, and is not negative")
        return FROM_AGO, since.total_seconds()
    try:
        when = since.timestamp()  # one without a zone is local time
    except (OverflowError, OSError, ValueError) as error:
        raise Refused(f"since={since!r} is no time of this machine: {error}") from error
    now = datetime.now(UTC)
    if when > now.timestamp():
        here = since.isoformat(timespec="seconds")
        there = now.astimezone(since.tzinfo).isoformat(timespec="seconds")
        raise Refused(f"since={here} is in the future, it is {there}; to begin with what comes now, say 'end'")
    return FROM_TIME, when


def check_cursor(name: str) -> str:
    """`name`, if a cursor may be called that."""
    if len(check_name(name, "cursor")) > CURSOR_NAME:
        raise Refused(f"cursor {name!r:.80}: {len(name)} characters; {CURSOR_NAME} are the limit")
    return name
