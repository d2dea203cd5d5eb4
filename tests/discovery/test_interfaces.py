"""Which addresses a peer opens TCP on."""

from __future__ import annotations

from types import SimpleNamespace

import ifaddr
import pytest

from zq.discovery import interfaces
from zq.discovery.interfaces import endpoint, interface_addresses, zone_of
from zq.errors import Refused


def adapter(name: str, *addresses: str) -> SimpleNamespace:
    ips = [SimpleNamespace(ip=(text, 0, 0) if ":" in text else text) for text in addresses]
    return SimpleNamespace(nice_name=name, ips=ips)


MACHINE = [
    adapter("lo", "127.0.0.1", "::1"),
    adapter("eth0", "192.0.2.7", "2001:db8::7", "fe80::1"),
    adapter("docker0", "172.17.0.1"),
    adapter("br-0123456789ab", "172.18.0.1"),
    adapter("wlan0"),
]


def has(monkeypatch: pytest.MonkeyPatch, *adapters: SimpleNamespace) -> None:
    """This is what the machine has; those without an address are listed only to who asks for them."""
    monkeypatch.setattr(
        ifaddr,
        "get_adapters",
        lambda include_unconfigured=False: [each for each in adapters if each.ips or include_unconfigured],
    )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, *MACHINE)
    monkeypatch.setattr(interfaces, "_is_ready", lambda address, interface: True)


def test_addresses_that_are_here_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ifaddr, "get_adapters")  # not even asked for
    assert interface_addresses(["127.0.0.1", "127.0.0.2", "127.0.0.1"]) == ["127.0.0.1", "127.0.0.2"]


def test_the_real_loopback_interface_is_known_by_name() -> None:
    assert "127.0.0.1" in interface_addresses(["lo"])


@pytest.mark.usefixtures("machine")
def test_a_name_stands_for_its_addresses_without_link_local_ones() -> None:
    assert interface_addresses(["eth0"]) == ["192.0.2.7", "2001:db8::7"]
    assert interface_addresses(["docker0", "192.0.2.7"]) == ["172.17.0.1", "192.0.2.7"]


@pytest.mark.usefixtures("machine")
def test_none_named_means_all_but_loopback_and_those_of_docker() -> None:
    assert interface_addresses() == ["192.0.2.7", "2001:db8::7"]


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("unknown", "why"),
    [
        ("eth1", "is not an interface of this machine"),
        ("198.51.100.1", "is not an interface of this machine"),
    ],
)
def test_an_unknown_interface_is_refused_and_told_which_there_are(unknown: str, why: str) -> None:
    with pytest.raises(Refused) as caught:
        interface_addresses(["127.0.0.1", unknown])
    assert str(caught.value).startswith(f"{unknown} {why}; there are lo (127.0.0.1 ::1), eth0 (192.0.2.7 2001:db8::7)")


@pytest.mark.usefixtures("machine")
def test_an_interface_without_an_address_has_none_yet(caplog: pytest.LogCaptureFixture) -> None:
    assert interface_addresses(["192.0.2.7", "wlan0"]) == ["192.0.2.7"]
    assert caplog.messages == ["wlan0 has no address yet; we listen there as soon as it has"]
    assert interface_addresses(["wlan0"], at_start=False) == []
    assert len(caplog.messages) == 1


@pytest.mark.usefixtures("machine")
def test_an_interface_that_goes_takes_only_its_own_addresses_along() -> None:
    assert interface_addresses(["eth0", "eth9"], at_start=False) == ["192.0.2.7", "2001:db8::7"]


def test_a_machine_without_a_network_waits_for_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    has(monkeypatch, *MACHINE[:1])
    assert interface_addresses() == []
    assert caplog.messages == ["this machine has no network but loopback yet; we listen as soon as it has"]


def test_link_local_addresses_count_where_there_are_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "_is_ready", lambda address, interface: True)
    has(monkeypatch, *MACHINE, adapter("eth1", "fe80::2"), adapter("eth2", "fe80::3%4"))
    assert interface_addresses() == ["192.0.2.7", "2001:db8::7", "fe80::2%eth1", "fe80::3%eth2"]
    assert interface_addresses(["eth1"]) == ["fe80::2%eth1"]
    assert zone_of("fe80::2%eth1") == "eth1"
    assert zone_of("192.0.2.7") == ""


def test_an_endpoint_brackets_ipv6() -> None:
    assert endpoint("127.0.0.1", 7000) == "tcp://127.0.0.1:7000"
    assert endpoint("::1", 7000) == "tcp://[::1]:7000"


def test_an_address_that_cannot_be_bound_yet_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, *MACHINE)  # none of them is of this machine
    assert interface_addresses(["eth0"]) == ["192.0.2.7"]
