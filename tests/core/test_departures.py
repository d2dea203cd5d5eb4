"""Who is gone is remembered with its last words, for as long as it is gone, and not without bounds."""

from __future__ import annotations

from zq.core.departures import NAMES_MOST, REMEMBERED, Departures
from zq.core.liveness import Liveness
from zq.core.roster import Remote
from zq.info import Departed
from zq.wire.frames import Entry


def remote(number: int, *, goodbye: bool = False, joined: bool = True, topics: int = 0, queues: int = 1) -> Remote:
    entry = Entry(
        1,
        bytes(8),
        [],
        [[f"t/{index}", index] for index in range(topics)],
        [[f"q/{index}", index + 1, 0.0] for index in range(queues)],
        [],
        [],
        [],
    )
    return Remote(
        id=number.to_bytes(16, "big"),
        found_at=0.0,
        live=Liveness(),
        name=f"p{number}",
        entry=entry,
        goodbye=goodbye,
        joined_at=1.0 if joined else None,
    )


def test_what_a_vanished_peer_said_last_is_remembered_until_it_is_back() -> None:
    departures = Departures()
    departures.on_gone(remote(1, topics=3), 10.0)
    assert departures.rows(12.5) == (
        Departed(
            peer=(1).to_bytes(16, "big"),
            name="p1",
            ago=2.5,
            goodbye=False,
            held={"q/0": 1},
            published={"t/1": 1, "t/2": 2},
        ),
    )
    departures.on_up((1).to_bytes(16, "big"))
    assert departures.rows(13.0) == ()


def test_who_left_in_order_has_left_nothing_behind_and_who_never_joined_is_nobody() -> None:
    departures = Departures()
    departures.on_gone(remote(1, goodbye=True), 1.0)
    departures.on_gone(remote(2, joined=False), 1.0)
    assert departures.rows(1.0) == ()
    departures.on_gone(remote(3, goodbye=True, topics=2), 1.0)
    assert [(row.held, row.published) for row in departures.rows(1.0)] == [({}, {"t/1": 1})]


def test_it_is_bounded_the_newest_peers_and_the_largest_counts() -> None:
    departures = Departures()
    for number in range(REMEMBERED + 3):
        departures.on_gone(remote(number, queues=NAMES_MOST + 5), float(number))
    rows = departures.rows(1_000.0)
    assert [row.name for row in rows] == [f"p{number}" for number in range(3, REMEMBERED + 3)]
    assert min(rows[0].held.values()) == 6
    assert len(rows[0].held) == NAMES_MOST
