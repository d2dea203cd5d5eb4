"""Hosts of one LAN meet, lose each other, and meet again."""

from __future__ import annotations

import time

import pytest

from tests.lan.conftest import MakeLan, Settle
from tests.lan.hosts import exchange

pytestmark = pytest.mark.lan
VANISHED = 8.0  # s until a host that is not reached any more is gone; promised are 5 s of a machine that runs
HEALED = 4.0  # s from the end of a partition until messages flow; promised are 2 s


def test_two_hosts_meet_by_mdns_alone_and_exchange_messages(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(2)
    first, second = (settle(lan, host, discovery=["mdns"]) for host in lan.hosts)
    for one, other in ((first, second), (second, first)):
        seen = one.sees(other)
        assert set(seen["found_by"]) <= {"mdns", "hello"}
        assert seen["address"].startswith(f"tcp://{lan.address(other.host)}:")
    exchange([first, second], "hello")


def test_a_partition_is_noticed_and_its_end_as_well(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(2)
    first, second = (settle(lan, host, discovery=["mdns"]) for host in lan.hosts)
    exchange([first, second], "before")
    lan.partition([1], [2])
    cut = time.monotonic()
    for one, other in ((first, second), (second, first)):
        assert one.sees(other, "left", after=cut)["at"] - cut < VANISHED
    healed = time.monotonic()
    lan.heal()
    for one, other in ((first, second), (second, first)):
        assert one.sees(other, after=healed)["at"] - healed < HEALED
    exchange([first, second], "after")
    assert time.monotonic() - healed < HEALED
