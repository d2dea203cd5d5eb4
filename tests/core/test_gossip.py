"""Peers tell each other whom they are connected to: enough, no more, and nothing that a liar could gain by."""

from __future__ import annotations

import pytest

from zq.core import gossip
from zq.core.gossip import CANDIDATES, FRAME_BYTES, REPEAT, ROWS, Gossip
from zq.core.liveness import Sign
from zq.core.roster import Dial, Remote, Roster
from zq.core.timers import Timers
from zq.testing import SimulatedNetwork
from zq.wire.frames import Peers
from zq.wire.limits import MAILBOX_FRAME

ME = b"m" * 16


class Bench:
    """A Gossip with a roster of its own, what it sends, and whom it finds."""

    def __init__(self) -> None:
        self.roster, self.timers = Roster(), Timers()
        self.sent: list[tuple[bytes, Peers]] = []
        self.found: list[tuple[bytes, list[str]]] = []
        self.gossip = Gossip(
            ME,
            self.roster,
            self.timers,
            bytes,
            lambda peer, body: self.sent.append((peer, body)),
            lambda id, endpoints, source, now: self.found.append((id, endpoints)),
        )

    def up(self, id: bytes, *endpoints: str, now: float = 0.0, seeks: bool = False) -> Remote:
        remote = self.roster.add(id, now)
        remote.seeks = seeks
        remote.live.step(Sign.PROVEN)
        remote.mailbox = Dial(1, endpoints[0], b"", now)
        remote.endpoints = [[endpoint, "", ""] for endpoint in endpoints]
        self.gossip.on_up(remote, now)
        return remote

    def pass_time(self, until: float) -> None:
        for due in self.timers.due(until):
            due(until)

    def rows(self) -> list[tuple[bytes, bytes, list[str]]]:
        """All that was told: to whom, of whom, which addresses."""
        rows = [(peer, id, endpoints) for peer, body in self.sent for id, endpoints in body.peers]
        self.sent.clear()
        return rows


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_who_seeks_is_told_of_all_at_once_and_all_of_him_soon() -> None:
    bench = Bench()
    bench.up(key(1), "tcp://10.0.0.1:1")
    bench.up(key(2), "tcp://10.0.0.2:1", seeks=True)
    assert bench.rows() == [(key(2), key(1), ["tcp://10.0.0.1:1"])]
    bench.pass_time(1.0)
    assert bench.rows() == [(key(1), key(2), ["tcp://10.0.0.2:1"])]
    bench.pass_time(2.0)
    assert bench.rows() == []


def test_who_has_told_us_of_somebody_is_not_told_of_him() -> None:
    bench = Bench()
    bench.up(key(1), "tcp://10.0.0.1:1")
    bench.up(key(2), "tcp://10.0.0.2:1")
    bench.gossip.on_peers(key(1), Peers([[key(2), ["tcp://10.0.0.2:1"]]]), 0.0)
    bench.pass_time(1.0)
    assert bench.rows() == [(key(2), key(1), ["tcp://10.0.0.1:1"])]
    assert bench.found == []


def test_who_seeks_although_it_is_known_is_told_at_once() -> None:
    bench = Bench()
    for number in (1, 2, 3):
        bench.up(key(number), f"tcp://10.0.0.{number}:1")
    bench.gossip.on_seeker(key(3))
    assert sorted((peer, id) for peer, id, _ in bench.rows()) == [(key(3), key(1)), (key(3), key(2))]
    bench.gossip.on_seeker(b"stranger".ljust(16))
    assert bench.rows() == []


def test_one_of_them_is_told_again_once_in_a_while() -> None:
    bench = Bench()
    for number in range(1, 6):
        bench.up(key(number), f"tcp://10.0.0.{number}:1")
    bench.pass_time(1.0)
    bench.rows()
    bench.pass_time(1.0 + REPEAT)
    again = bench.rows()
    assert len(again) == 4, "all but itself"
    assert len({peer for peer, _, _ in again}) == 1


def test_what_is_for_this_host_stays_on_it() -> None:
    bench = Bench()
    bench.up(key(1), "tcp://127.0.0.1:1", "tcp://10.0.0.1:1")
    bench.up(key(2), "tcp://10.0.0.2:1")
    bench.up(key(3), "tcp://127.0.0.1:3")
    bench.pass_time(1.0)
    told = bench.rows()
    assert (key(2), key(1), ["tcp://10.0.0.1:1"]) in told
    assert (key(3), key(1), ["tcp://127.0.0.1:1", "tcp://10.0.0.1:1"]) in told
    assert all(peer != key(2) for peer, id, _ in told if id == key(3))


def test_peers_without_a_network_say_nothing() -> None:
    bench = Bench()
    for number in range(1, 5):
        bench.up(key(number), f"ipc:///{number}")
    bench.pass_time(60.0)
    assert bench.rows() == []


def test_a_frame_is_bounded_and_the_rest_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    for number in range(1, 600):
        bench.up(key(number), f"tcp://10.0.{number >> 8}.{number & 255}:1")
    bench.pass_time(1.0)
    bench.pass_time(2.0)
    bench.pass_time(3.0)
    bench.sent.clear()
    bench.up(key(1_000), "tcp://10.9.9.9:1", seeks=True)
    assert [len(body.peers) for _, body in bench.sent] == [ROWS]
    bench.pass_time(4.0)
    bench.pass_time(5.0)
    told = [id for peer, id, _ in bench.rows() if peer == key(1_000)]
    assert len(told) == len(set(told)) == 599
    long = ["tcp://" + "x" * 1_000 + str(number) for number in range(99)]
    monkeypatch.setattr(gossip, "ROWS", 10_000)
    for number in range(2_000, 2_100):
        bench.up(key(number), *long, seeks=True)
    assert max(len(body.encode(ME, ME)) for _, body in bench.sent) < FRAME_BYTES + 20_000 < MAILBOX_FRAME


def test_who_lies_makes_us_dial_few_and_nothing_but_tcp() -> None:
    bench = Bench()
    bench.up(key(1), "tcp://10.0.0.1:1")
    lies = [[key(number), ["ipc:///etc/passwd", "inproc://monitor-1", "tcp://127.0.0.1:22"]] for number in range(5, 9)]
    bench.gossip.on_peers(key(1), Peers([*lies, [ME, ["tcp://10.0.0.9:1"]]]), 0.0)
    assert bench.found == []
    for number in range(CANDIDATES):
        bench.roster.add(key(5_000 + number), 0.0)
    bench.gossip.on_peers(key(1), Peers([[key(2), ["tcp://10.0.0.2:1"]]]), 0.0)
    assert bench.found == []
    bench.gossip.on_peers(b"stranger".ljust(16), Peers([[key(3), ["tcp://10.0.0.3:1"]]]), 0.0)
    assert bench.found == []


def test_two_that_only_a_third_can_see_meet_when_they_can() -> None:
    network = SimulatedNetwork()
    middle, one, other = (network.peer(name) for name in ("middle", "one", "other"))
    network.sever(one, other)
    network.introduce()
    up = [peer.node.meeting.roster.up for peer in (middle, one, other)]
    assert network.run(1.0, lambda: [len(each()) for each in up] == [2, 1, 1])
    network.run(60.0)
    network.heal(one, other)
    assert network.run(5 * REPEAT, lambda: [len(each()) for each in up] == [2, 2, 2])
