"""What a peer announces fits one frame and what others take; who tells more is cut off, and nobody else notices."""

from __future__ import annotations

import pytest

from tests.core.test_node import Reader, Realm
from zq.core.announced import ROW, Announced, subscriptions
from zq.core.inbox import Inbox, SubscriptionInbox
from zq.core.subscription import INHERIT_PATIENCE
from zq.errors import Refused
from zq.testing import SimulatedPeer
from zq.wire.body import decode_addressed
from zq.wire.frames import ROWS, Entry
from zq.wire.limits import ANNOUNCED, MAILBOX_FRAME, NAME, SUBSCRIPTIONS
from zq.wire.names import Filter

LONG = NAME - 6  # characters of a name to which a number of 6 is added


def filters(count: int) -> list[Filter]:
    return [Filter(f"f/{number}") for number in range(count)]


def subscribe(peer: SimulatedPeer, count: int) -> None:
    inbox = SubscriptionInbox("wait", lambda: None)
    peer.node.subscribe(filters(count), inbox, INHERIT_PATIENCE, peer.clock())
    peer.touch()


def entry_of(peer: SimulatedPeer, version: int, count: int) -> Entry:
    return Entry(version, bytes(8), [[each.text, -1.0, 1] for each in filters(count)], [], [], [])


def test_the_last_subscription_that_others_take_is_taken_and_the_next_is_refused() -> None:
    realm = Realm(2)
    subscribe(realm.peers[0], SUBSCRIPTIONS - 1)
    subscribe(realm.peers[0], 1)
    with pytest.raises(Refused, match="4,096"):
        subscribe(realm.peers[0], 1)
    with pytest.raises(Refused, match="4,096"):
        realm.peers[0].node.pull("jobs", Inbox(lambda: None), prefetch=None, prefetch_bytes=1, topics=filters(1))
    assert realm.run(5.0, lambda: told(realm, "filters") == SUBSCRIPTIONS)
    assert [event for event in realm.events if event[1] == "left"] == []


def told(realm: Realm, what: str) -> int:
    """How long that list is in what the second peer knows of the first."""
    remote = realm.peers[1].node.meeting.roster.get(realm.peers[0].id)
    return 0 if remote is None or remote.entry is None else len(getattr(remote.entry, what))


def test_a_closed_subscription_makes_room() -> None:
    realm = Realm(2)
    peer = realm.peers[0]
    for _ in range(3):
        subscribe(peer, SUBSCRIPTIONS)
        (subscription,) = peer.node.receptions
        peer.node.unsubscribe(subscription, peer.clock())
        peer.touch()
        realm.run(0.1)


def test_no_name_is_so_long_that_what_is_announced_outgrows_its_frame() -> None:
    realm = Realm(2)
    peer, count = realm.peers[0], ANNOUNCED // (NAME + ROW)
    for number in range(count):
        peer.node.publish_topic(f"{'t' * LONG}{number:06}", retain=False, patience=1.0)
    with pytest.raises(Refused, match="KiB"):
        peer.node.publish_topic("t" * NAME, retain=False, patience=1.0)
    peer.touch()
    assert realm.run(5.0, lambda: told(realm, "topics") == count)
    assert [event for event in realm.events if event[1] == "left"] == []


def test_what_is_announced_is_never_made_of_more_than_others_take() -> None:
    said: list[str] = []
    announced = Announced(said.append)
    none = Entry(1, bytes(8), [], [], [], [])
    queues = [f"q{number}" for number in range(20_000)]
    pushes, spools = [[name, 0, 0.0] for name in queues], [[name, bytes(16), bytes(16), 0] for name in queues[:16_000]]
    entry = announced.fit(Entry(**(vars(none) | {"pushes": pushes, "spools": spools})))
    assert Entry.decode(decode_addressed(entry.encode(bytes(16), bytes(16))).body) == entry
    assert ROWS // 2 < len(entry.pushes) + len(entry.spools) < ROWS
    assert len(said) == 1


def test_what_cannot_be_refused_is_cut_and_said_once() -> None:
    said: list[str] = []
    announced = Announced(said.append)
    spools = [[f"{'q' * LONG}{number:06}", bytes(16), bytes(16), 0] for number in range(8_000)]
    few = Entry(1, bytes(8), [["f", -1.0, 1]], [], [], [])
    many = Entry(**(vars(few) | {"spools": spools}))
    for _ in range(2):
        fitting = announced.fit(many)
        assert len(fitting.encode(bytes(16), bytes(16))) <= MAILBOX_FRAME
        assert fitting.spools == spools[: len(fitting.spools)]
        assert len(fitting.spools) > 2_000
        assert fitting.filters == few.filters
    assert len(said) == 1
    streams = Entry(1, bytes(8), [[f"f/{number}", -1.0, 1] for number in range(5_000)], [], [], [])
    assert subscriptions(Announced(said.append).fit(streams)) == SUBSCRIPTIONS


@pytest.mark.parametrize("where", ["filters", "binds", "cursors"])
def test_who_subscribes_to_more_than_the_limit_is_cut_off_for_good_and_others_do_not_notice(where: str) -> None:
    realm = Realm(3)
    victim, honest, liar = realm.peers
    reader = Reader(honest)
    texts = [each.text for each in filters(SUBSCRIPTIONS + 1)]
    rows = {
        "filters": {"filters": [[text, -1.0, 1] for text in texts]},
        "binds": {"binds": [["jobs", bytes(16), texts]]},
        "cursors": {"cursors": [[bytes(16), "c", bytes(16), texts, 0, 0.0]]},
    }[where]
    plain = Entry(1_000, bytes(8), [], [], [], [])
    liar.node.connections.send(victim.id, Entry(**(vars(plain) | rows)))
    assert realm.run(1.0, lambda: victim.node.meeting.cut_offs)
    realm.run(10.0)  # he goes on calling
    assert not [remote for remote in victim.node.meeting.roster if remote.id == liar.id]
    assert victim.node.ledger(victim.clock()).turned_away == {"announcement": 1}
    assert [text for text in victim.troubles if "cut off" in text]
    assert [event for event in realm.events if event[0] == "p0" and event[1] == "left"] == [("p0", "left", "p2")]
    assert [event for event in realm.events if event[0] == "p1" and event[1] in ("left", "suspect")] == []
    realm.publish(victim, b"x")
    assert realm.run(2.0, lambda: reader.look() == [b"x"])


def test_exactly_as_many_as_the_limit_are_taken() -> None:
    realm = Realm(2)
    victim, other = realm.peers
    other.node.connections.send(victim.id, entry_of(other, 1_000, SUBSCRIPTIONS))
    realm.run(1.0)
    assert victim.node.meeting.cut_offs == 0
