"""Each way to find others does it alone, and says so."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.lan.conftest import MakeLan, Settle
from tests.lan.hosts import Neighbour, exchange
from tests.waiting import eventually

pytestmark = pytest.mark.lan
PORT = 20_000


def rungs(*neighbours: Neighbour) -> set[str]:
    """All that any of them has said of how it found another."""
    return {rung for each in neighbours for said in each.said for rung in said.get("found_by", ())}


def test_seeds_alone_are_enough_and_gossip_does_the_rest(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(4)
    for host in lan.hosts:
        lan.block_multicast(host)
    first, *others = (
        settle(lan, host, discovery=["mdns"], port=PORT, seeds=[f"{lan.address(1)}:{PORT}"]) for host in lan.hosts
    )
    everyone = [first, *others]
    for one in everyone:
        for other in everyone:
            if one is not other:
                one.sees(other)
    exchange(everyone, "hello")
    assert {"seed", "gossip"} <= rungs(*others) <= {"seed", "gossip", "hello"}
    assert "joined" not in first.kinds(first), "it has dialled itself, and noticed"


def test_a_seed_may_come_last(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(3)
    seeds = [f"{lan.address(1)}:{PORT}", "no.such.host.invalid:20000"]
    early = [settle(lan, host, discovery=[], seeds=seeds) for host in (2, 3)]
    for each in early:
        each.settle()
        assert each.kinds(early[0]) == each.kinds(early[1]) == []
    last = settle(lan, 1, discovery=[], port=PORT)
    for one in (*early, last):
        for other in (*early, last):
            if one is not other:
                one.sees(other)
    eventually(lambda: "no.such.host.invalid" in early[0].errors())
    assert early[0].errors().count("no.such.host.invalid") == 1


def test_a_shared_directory_alone_is_enough(make_lan: MakeLan, settle: Settle, tmp_path: Path) -> None:
    lan = make_lan(3)
    shared = tmp_path / "shared"
    neighbours = [settle(lan, host, discovery=[f"dir:{shared}"]) for host in lan.hosts]
    exchange(neighbours, "hello")
    assert {"dir"} <= rungs(*neighbours) <= {"dir", "hello", "gossip"}
    assert sorted(path.stem for path in shared.iterdir()) == sorted(each.id for each in neighbours)
    neighbours[0].leave()
    assert sorted(path.stem for path in shared.iterdir()) == sorted(each.id for each in neighbours[1:])


@pytest.mark.parametrize(("sent", "received"), [(True, True), (True, False), (False, True)])
def test_multicast_that_is_blocked_at_one_host_is_made_up_for(
    make_lan: MakeLan, settle: Settle, sent: bool, received: bool
) -> None:
    """The host whose multicast does not pass has a seed; everybody else needs nothing."""
    lan = make_lan(3)
    lan.block_multicast(3, sent=sent, received=received)
    neighbours = [settle(lan, host, discovery=["mdns"], port=PORT) for host in (1, 2)]
    neighbours.append(settle(lan, 3, discovery=["mdns"], seeds=[f"{lan.address(1)}:{PORT}"]))
    exchange(neighbours, secrets.token_hex(4))


def test_loopback_is_never_announced_off_the_host(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(3)
    neighbours = [
        settle(lan, host, discovery=["mdns"], interfaces=["lo", "eth0"], port=PORT, seeds=[f"{lan.address(1)}:{PORT}"])
        for host in lan.hosts
    ]
    exchange(neighbours, "hello")
    assert any("127.0.0.1" in row[0] for row in neighbours[0].endpoints())
    said = [said for each in neighbours for said in each.said if "address" in said]
    assert said
    assert not [each for each in said if "127.0.0.1" in each["address"]]
