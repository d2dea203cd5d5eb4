"""Hundreds of peers that start at once: each is late with everything, and nobody takes that for its end."""

from __future__ import annotations

import secrets

import pytest

from zq.core import meeting
from zq.core.liveness import SUSPECT_FOR, Life
from zq.core.port import Kind
from zq.testing import Connection, SimulatedNetwork, SimulatedPeer
from zq.wire.frames import ENTRY, HELLO, NOTED, WELCOME


def mailboxes(peer: SimulatedPeer) -> list[Connection]:
    return [each for each in peer.connections.values() if each.kind is Kind.MAILBOX]


def traced(network: SimulatedNetwork) -> list[str]:
    """What is carried from now on."""
    said: list[str] = []
    network.trace = said.append
    return said


def carried(said: list[str], kind: bytes) -> list[str]:
    """Receiver and sender of each frame of that kind."""
    return [line.split(" mailbox ")[0].split(None, 1)[1] for line in said if line.endswith(f" mailbox {kind!r}")]


def test_one_whose_door_is_a_file_has_longer_to_answer_than_one_at_a_port() -> None:
    network = SimulatedNetwork()
    one = network.peer("one")
    here, there = secrets.token_bytes(16), secrets.token_bytes(16)
    one.node.meeting.found(here, ["ipc:///here/mailbox"], "host", one.clock())
    one.node.meeting.found(there, ["tcp://there/mailbox"], "mdns", one.clock())
    one.touch()
    network.run(meeting.FOUND_FOR + 1.0)
    roster = one.node.meeting.roster
    assert here in roster
    assert there not in roster
    network.run(meeting.TAKEN_FOR)
    assert here not in roster


@pytest.mark.parametrize(("crowd", "stays"), [(1, False), (4 * meeting.CROWD, True)])
def test_in_a_crowd_one_that_took_the_connection_has_longer_to_answer(crowd: int, stays: bool) -> None:
    network = SimulatedNetwork()
    one = network.peer("one")
    ids = [secrets.token_bytes(16) for _ in range(crowd)]
    for number, id in enumerate(ids):
        one.node.meeting.found(id, [f"tcp://{number}/mailbox"], "mdns", one.clock())
    for connection in mailboxes(one):
        one.node.connected(connection.number, one.clock())
    one.touch()
    network.run(meeting.FOUND_FOR + 1.0)
    assert all((id in one.node.meeting.roster) == stays for id in ids)


@pytest.mark.parametrize(("crowd", "repeated"), [(1, 2), (4 * meeting.CROWD, 0)])
def test_in_a_crowd_a_hello_is_repeated_later(crowd: int, repeated: int) -> None:
    network = SimulatedNetwork()
    one, other = network.peer("one"), network.peer("other", endpoint="ipc:///other")
    other.node.received = lambda *_: None  # type: ignore[method-assign, assignment]  # its engine is late
    for number in range(crowd - 1):
        one.node.meeting.found(secrets.token_bytes(16), [f"tcp://{number}/mailbox"], "mdns", one.clock())
    one.node.meeting.found(other.id, ["ipc:///other/mailbox"], "host", one.clock())
    said = traced(network)
    one.touch()
    network.run(2.0)
    assert carried(said, HELLO) == ["other < one"] * (1 + repeated)


@pytest.mark.parametrize("takes", [True, False])
def test_a_suspect_at_a_file_that_takes_the_connection_lives_though_its_engine_is_late(takes: bool) -> None:
    network = SimulatedNetwork()
    one, other = (network.peer(name, endpoint=f"ipc:///{name}") for name in ("one", "other"))
    network.introduce()
    assert network.run(1.0, lambda: one.node.has_up(1) and other.node.has_up(1))
    other.stopped_at = network.now
    network.reset(mailboxes(one)[0])
    remote = one.node.meeting.roster.get(other.id)
    assert remote is not None
    assert network.run(0.1, lambda: remote.state is Life.SUSPECT)
    if takes:
        (dial,) = remote.dials.values()
        one.node.connected(dial.connection, one.clock())
        one.touch()
    network.run(10.0)
    assert remote.state is (Life.SUSPECT if takes else Life.GONE)
    other.go_on()
    network.retry_stuck()
    assert network.run(15.0, lambda: one.node.has_up(1))
    assert (one.node.meeting.roster.get(other.id) is remote) == takes


def test_a_suspect_at_a_file_whose_connection_ends_again_is_gone_as_soon_as_any_other() -> None:
    """It had longer as it took the connection: its process lived. Then it was stopped."""
    network = SimulatedNetwork()
    one, other = (network.peer(name, endpoint=f"ipc:///{name}") for name in ("one", "other"))
    network.introduce()
    assert network.run(1.0, lambda: one.node.has_up(1) and other.node.has_up(1))
    other.stopped_at = network.now
    network.reset(mailboxes(one)[0])
    remote = one.node.meeting.roster.get(other.id)
    assert remote is not None
    assert network.run(0.1, lambda: remote.state is Life.SUSPECT)
    (dial,) = remote.dials.values()
    one.node.connected(dial.connection, one.clock())
    one.node.broken(dial.connection, one.clock())
    one.touch()
    network.run(SUSPECT_FOR + 0.1)
    assert remote.state is Life.GONE


def test_who_has_forgotten_us_is_told_again_and_nobody_else() -> None:
    network = SimulatedNetwork()
    peers = one, other, _ = [network.peer(name) for name in ("one", "other", "third")]
    network.introduce()
    met = 5.0
    assert network.run(met, lambda: all(peer.node.has_up(2) for peer in peers))
    network.run(met)
    said = traced(network)
    one.node.meeting._gone(one.node.meeting.roster.get(other.id), one.clock())  # type: ignore[arg-type]
    network.introduce()
    assert network.run(met, lambda: one.node.has_up(2) and other.node.has_up(2))
    network.run(met)
    assert one.node.meeting.roster.get(other.id).entry is not None  # type: ignore[union-attr]
    assert "one < other" in carried(said, ENTRY)
    assert "other < one" in carried(said, NOTED)
    assert not [pair for pair in carried(said, ENTRY) if "third" in pair]


def test_a_welcome_that_was_lost_with_its_connection_is_said_again_on_the_next() -> None:
    network = SimulatedNetwork()
    one, other = network.peer("one"), network.peer("other")
    one.node.meeting.found(other.id, ["tcp://other/mailbox"], "mdns", one.clock())
    one.touch()
    assert network.run(1.0, lambda: bool(mailboxes(other)))
    said = traced(network)
    (back,) = mailboxes(other)
    back.waiting.clear()  # hello and welcome
    other.node.broken(back.number, other.clock())
    other.touch()
    assert network.run(0.3, lambda: one.node.has_up(1)), "without the next hello of the one"
    assert "one < other" in carried(said, WELCOME)
