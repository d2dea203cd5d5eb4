"""A peer looks after its own discovery: what has died is made anew, and after a sleep everybody hears of it again."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import zq
from tests.waiting import PATIENCE, eventually
from zq.discovery.host import Entry, HostDirectory
from zq.discovery.mdns import Mdns
from zq.engine import lookout
from zq.engine.lookout import Lookout


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[zq.Peer]:
    """On loopback, with mDNS, and in a hurry to look at itself."""
    monkeypatch.setattr(lookout, "WATCH", 0.05)
    realm = f"test-{secrets.token_hex(4)}"
    with zq.Peer(realm=realm, insecure=True, interfaces=["127.0.0.1"], discovery=["mdns"]) as peer:
        yield peer


def lookout_of(peer: zq.Peer) -> Lookout:
    assert peer._engine is not None
    assert peer._engine._lookout is not None
    return peer._engine._lookout


def test_an_mdns_thread_that_died_is_made_anew(
    peer: zq.Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = lookout_of(peer)
    first = looks._mdns
    assert first is not None
    first.close(timeout=PATIENCE)
    eventually(lambda: looks._mdns is not first and looks._mdns is not None and looks._mdns.is_alive())
    assert caplog.messages == ["the mDNS thread has died or hangs; making a new one"]


def test_who_is_silent_as_he_was_just_heard_by_everybody_answers_who_asks_in_person(
    peer: zq.Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody here hears what is said to everybody."""
    monkeypatch.setattr(Mdns, "_listen", lambda self, now, records: None)
    others = {"insecure": True, "interfaces": ["127.0.0.1"], "discovery": ["mdns"]}
    with zq.Peer(realm=f"test-{secrets.token_hex(4)}", **others) as asking:  # type: ignore[arg-type]
        assert asking.strangers() == 0
        eventually(lambda: asking.strangers(ask=0.2) >= 1)
        assert asking.peers() == []
        assert asking.strangers() >= 1


def test_after_a_sleep_it_is_announced_anew(
    peer: zq.Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "zq.discovery")
    restarted: list[list[str]] = []
    monkeypatch.setattr(Mdns, "restart", lambda self, addresses: restarted.append(list(addresses)))
    looks = lookout_of(peer)
    monkeypatch.setattr(looks._sleep, "_asleep", lambda: 1e9)
    eventually(lambda: restarted)
    assert restarted == [["127.0.0.1"]]
    assert any("the machine has slept for" in message for message in caplog.messages)


def test_entries_of_peers_that_are_being_met_are_not_read_again_and_again(
    host_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds that read each other every second would have no time left for meeting."""
    monkeypatch.setattr(lookout, "SCAN", 0.02)
    there = HostDirectory([host_directory])
    looked: list[Path] = []
    look = HostDirectory._look
    door = host_directory / "silent"
    with socket.socket(socket.AF_UNIX) as listener, zq.Peer() as peer:
        listener.bind(str(door))
        listener.listen()
        assert peer._engine is not None
        engine = peer._engine
        tag = lookout_of(peer)._tag
        monkeypatch.setattr(HostDirectory, "_look", lambda self, path: looked.append(path) or look(self, path))
        id = secrets.token_bytes(16)
        there.announce(Entry(id=id, tag=tag, endpoints=(f"ipc://{door}",), version=1, name="slow"))
        scans: list[int] = []
        scan = HostDirectory.scan
        monkeypatch.setattr(HostDirectory, "scan", lambda self, known: scans.append(len(known)) or scan(self, known))
        eventually(lambda: scans.count(1) >= 3)
        assert len(looked) == 1
        assert engine.call(lambda: id in engine.node.meeting.roster)
    there.close()
