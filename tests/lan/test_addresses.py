"""Interfaces come late, go, and change their addresses; peers follow."""

from __future__ import annotations

import time

import pytest

from tests.lan.conftest import MakeLan, Settle
from tests.lan.hosts import exchange

pytestmark = pytest.mark.lan
FOLLOWED = 5.0  # s from a change of address until traffic flows there


@pytest.mark.parametrize("interfaces", [[], ["eth0"]], ids=["any", "named"])
def test_an_interface_that_comes_late_is_used(make_lan: MakeLan, settle: Settle, interfaces: list[str]) -> None:
    lan = make_lan(2)
    lan.take_interface(1)
    first = settle(lan, 1, discovery=["mdns"], interfaces=interfaces)
    second = settle(lan, 2, discovery=["mdns"])
    assert first.endpoints() == []
    lan.give_interface(1)
    given = time.monotonic()
    for one, other in ((first, second), (second, first)):
        assert one.sees(other)["at"] - given < FOLLOWED
    exchange([first, second], "hello")


def test_a_changed_address_is_followed_without_losing_the_peer(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(3)
    neighbours = first, second, third = [settle(lan, host, discovery=["mdns"]) for host in lan.hosts]
    exchange(neighbours, "before")
    lan.take_interface(1)
    lan.give_interface(1, address="10.77.0.101")
    changed = time.monotonic()
    exchange(neighbours, "after")
    assert time.monotonic() - changed < FOLLOWED
    for other in (second, third):
        assert "left" not in other.kinds(first)
        assert other.said[-1]["at"] - changed < FOLLOWED
    assert [row[0].rpartition(":")[0] for row in first.endpoints()] == ["tcp://10.77.0.101"]
    newcomer = settle(lan, 3, discovery=["mdns"])
    assert newcomer.sees(first)["address"].startswith("tcp://10.77.0.101:")


def test_an_interface_that_was_down_for_long_is_used_again(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(2)
    first, second = (settle(lan, host, discovery=["mdns"]) for host in lan.hosts)
    exchange([first, second], "before")
    lan.take_interface(1)
    taken = time.monotonic()
    for one, other in ((first, second), (second, first)):
        one.sees(other, "left", after=taken)
    lan.give_interface(1)
    given = time.monotonic()
    for one, other in ((first, second), (second, first)):
        assert one.sees(other, after=given)["at"] - given < FOLLOWED
    exchange([first, second], "after")


def test_of_two_interfaces_the_one_that_works_is_used(make_lan: MakeLan, settle: Settle) -> None:
    """Host 2 announces both its addresses on both networks; host 1 has one of them alone."""
    lan = make_lan(2, nics=2)
    lan.take_interface(1, nic=1)
    first, second = (settle(lan, host, discovery=["mdns"]) for host in lan.hosts)
    assert first.sees(second)["address"].startswith(f"tcp://{lan.address(2)}:")
    exchange([first, second], "hello")
    assert len(second.endpoints()) == 2


def test_traffic_moves_to_the_other_interface_when_one_is_lost(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(2, nics=2)
    first, second = (settle(lan, host, discovery=["mdns"]) for host in lan.hosts)
    exchange([first, second], "before")
    lan.take_interface(2, nic=0)
    taken = time.monotonic()
    exchange([first, second], "after")
    assert time.monotonic() - taken < FOLLOWED
    assert "left" not in first.kinds(second)


def test_hosts_with_link_local_addresses_alone_meet(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(2, ipv4=False)
    first, second = (settle(lan, host, discovery=["mdns"]) for host in lan.hosts)
    exchange([first, second], "hello")
    assert first.sees(second)["address"].startswith("tcp://[fe80:")
