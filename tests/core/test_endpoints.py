"""Which addresses mean something to whom."""

from __future__ import annotations

import pytest

from zq.core.endpoints import at_host_of, in_zones, is_link_local, is_local, tellable

LOOPBACK, LAN = ["tcp://127.0.0.1:1", "f", "w"], ["tcp://10.0.0.1:1", "f", "w"]


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("tcp://127.0.0.1:1", True),
        ("tcp://127.9.9.9:1", True),
        ("tcp://[::1]:1", True),
        ("ipc:///run/x", True),
        ("inproc://x", True),
        ("tcp://10.0.0.1:1", False),
        ("tcp://[fe80::1%eth0]:1", False),
        ("tcp://1.2.7.127:1", False),
    ],
)
def test_what_is_of_this_host_alone(endpoint: str, local: bool) -> None:
    assert is_local(endpoint) == local


def test_loopback_addresses_stay_on_their_host() -> None:
    assert tellable([LOOPBACK, LAN], LAN[0]) == [LAN]
    assert tellable([LOOPBACK, LAN], LOOPBACK[0]) == [LOOPBACK, LAN]
    assert tellable([LOOPBACK], LAN[0]) == [LOOPBACK], "who has nothing else is nowhere else"


def test_feed_and_work_are_where_the_mailbox_was_reached() -> None:
    assert at_host_of("tcp://gateway:20000", "tcp://10.0.0.1:20001") == "tcp://gateway:20001"
    assert at_host_of("tcp://[fe80::1%eth1]:20000", "tcp://[fe80::1%eth0]:20001") == "tcp://[fe80::1%eth1]:20001"
    assert at_host_of("ipc:///a.m", "ipc:///a.f") == "ipc:///a.f"


def test_a_link_local_address_is_tried_through_our_own_interfaces() -> None:
    assert is_link_local("tcp://[FE80::1]:1")
    assert not is_link_local("tcp://[fec0::1]:1")
    told = ["tcp://[fe80::1%enp3s0]:1", "tcp://10.0.0.1:1"]
    assert in_zones(told, ["eth0", "eth1"]) == ["tcp://[fe80::1%eth0]:1", "tcp://[fe80::1%eth1]:1", told[1]]
    assert in_zones(told, []) == [told[1]]
