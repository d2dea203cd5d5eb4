"""Bugs planted into the topic streams of spools, each of which a test has to find; see `tests.planting`.

python -m tests.planted.topic_bugs        plants one after another and says what finds it
python -m tests.planted.topic_bugs NAME   plants one and runs what is to find it

The names say what the code then does. Some are bugs that zq has had.
"""

from __future__ import annotations

import sys
from typing import Any

from tests.planted.spool_bugs import nothing, replace
from tests.planting import Garden
from zq.core import heads
from zq.core.cursors import Found, Moved, StreamCursor
from zq.core.heads import Heads
from zq.core.readers import Readers
from zq.core.stream import Entrance, TopicStream
from zq.core.streams import Streams
from zq.record import replace as with_fields

garden = Garden("tests.planted.topic_bugs", tests="tests")
bug = garden.fault
CORE = "core/test_streams.py"
DURABLE = "contract/test_durable.py"


# --- from publishers to the disk


@bug(f"{CORE}::test_nothing_has_arrived_before_it_is_synced")
def what_has_come_counts_as_arrived() -> None:
    Entrance.keeps = False


@bug(f"{CORE}::test_that_a_publisher_has_vanished_is_stored_and_told_to_cursors_that_come_later")
def a_gap_is_not_stored() -> None:
    replace(Entrance, "tell", lambda tell: nothing)


@bug(f"{CORE}::test_only_a_stream_that_knows_it_has_stopped_looks_whether_it_may_go_on")
def whoever_looks_lets_the_disk_go_on() -> None:
    """One that zq has had."""

    def look(stream: TopicStream) -> None:
        stream.disk.look(stream.id, stream.retention.max_bytes, go_on=True)

    Streams._look = staticmethod(look)  # type: ignore[method-assign]


@bug(f"{CORE}::test_however_many_topics_there_are_none_is_stored_twice_after_a_restart")
def the_last_numbers_of_topics_that_are_not_silent_are_forgotten() -> None:
    """One that zq has had: of more than 65,536 topics all was stored again."""
    heads.LATE = 0.0


@bug(f"{CORE}::test_a_stream_that_goes_on_asks_for_nothing_that_it_has_stored_and_forgotten")
def who_stops_forgets_what_it_has_stored_of_silent_topics() -> None:
    """One that zq has had."""

    def build(stop: Any) -> Any:
        def hasty(self: Streams, stream: TopicStream, *rest: Any) -> None:
            for cursor in stream.subscription.cursors.values() if stream.subscription is not None else ():
                cursor.next = cursor.start
            stop(self, stream, *rest)

        return hasty

    replace(Streams, "_stop", build)


# --- cursors


@bug(f"{CORE}::test_what_a_cursor_that_was_lost_may_have_delivered_is_redelivered")
def what_a_lost_cursor_may_have_delivered_is_not_marked() -> None:
    def build(init: Any) -> Any:
        def unmarked(self: StreamCursor, stretch: Any, found: Found, *rest: Any) -> None:
            init(self, stretch, with_fields(found, doubtful=0), *rest)

        return unmarked

    replace(StreamCursor, "__init__", build)


@bug(f"{CORE}::test_crashes_at_any_moment_lose_nothing_that_had_arrived")
def what_a_killed_spool_had_delivered_is_not_marked() -> None:
    what_a_lost_cursor_may_have_delivered_is_not_marked()


@bug(f"{DURABLE}::test_a_cursor_goes_on_where_it_stood_after_its_reader_and_after_its_spool[blocking]")
def where_a_cursor_stands_is_not_written_down() -> None:
    from zq.spool import topics

    def build(note: Any) -> Any:
        return lambda opened, word: False if isinstance(word, Moved) else note(opened, word)

    replace(topics, "_note", build)


@bug(f"{CORE}::test_a_passing_cursor_ends_though_its_reader_went_before_it_began")
def a_cursor_of_somebody_who_only_looked_back_stays() -> None:
    replace(Readers, "_forget_later", lambda forget: nothing)


@bug(f"{DURABLE}::test_a_time_is_when_the_spool_stored_it[blocking]")
def a_new_cursor_begins_at_the_beginning() -> None:
    def build(create: Any) -> Any:
        return lambda self, stream, name, number, now: create(self, stream, name, 1, now)

    replace(Readers, "_create", build)


@bug(f"{DURABLE}::test_topics_are_trimmed_by_count_and_a_cursor_that_fell_behind_is_told[blocking]")
def nothing_is_trimmed() -> None:
    replace(Streams, "_trim", lambda trim: nothing)


# --- retained values


@bug("contract/test_retained_in_spool.py::test_what_is_not_retained_or_was_cleared_is_not_told[blocking]")
def a_cleared_value_is_told() -> None:
    replace(Heads, "is_cleared", lambda is_cleared: lambda self, key, number: False)


if __name__ == "__main__":
    sys.exit(garden.main(sys.argv[1:]))
