"""What a machine is, told from a tree of files like its own."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from zq.doctor.firewall import examine_firewall
from zq.doctor.holders import holders
from zq.doctor.machine import container, descriptors, is_wsl, surroundings
from zq.doctor.multicast import probe
from zq.doctor.networks import Interface, examine_interface, examine_interfaces, interfaces


def put(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize(
    ("path", "text", "kind"),
    [
        (".dockerenv", "", "docker"),
        ("run/.containerenv", "", "podman"),
        ("proc/1/cgroup", "0::/kubepods/besteffort/pod1\n", "kubepods"),
        ("proc/1/cgroup", "0::/init.scope\n", ""),
    ],
)
def test_a_container_shows_in_its_files(tmp_path: Path, path: str, text: str, kind: str) -> None:
    put(tmp_path, path, text)
    assert container(tmp_path) == kind
    assert [finding.level for finding in surroundings(tmp_path)] == ["note" if kind else "ok"]


def test_wsl_shows_in_its_kernel(tmp_path: Path) -> None:
    assert not is_wsl(tmp_path)
    put(tmp_path, "proc/sys/kernel/osrelease", "5.15.153.1-microsoft-standard-WSL2\n")
    (finding,) = surroundings(tmp_path)
    assert finding.level == "warning"
    assert "networkingMode=mirrored" in finding.fix


def test_a_machine_that_shows_nothing_is_no_error(tmp_path: Path) -> None:
    assert surroundings(tmp_path / "nothing")[0].level == "ok"
    assert holders(5353, "udp", tmp_path / "nothing") == []
    assert interfaces(tmp_path / "nothing", {"eth0": ["10.0.0.1"]}) == [Interface(name="eth0", addresses=("10.0.0.1",))]


@pytest.mark.parametrize(
    ("peers", "hard", "level"), [(0, 65_536, "ok"), (0, 1_024, "warning"), (60, 512, "problem"), (9_999, -1, "ok")]
)
def test_descriptors_are_weighed_against_the_peers_that_are_here(peers: int, hard: int, level: str) -> None:
    finding = descriptors(peers, (256, hard))
    assert finding.level == level
    assert bool(finding.fix) == (level != "ok")


def test_the_holder_of_a_port_is_found_by_its_socket(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    put(tmp_path, "proc/net/udp", head + "  1: 00000000:14E9 00000000:0000 07 0:0 0:0 0 70 0 4711 2 0 0\n")
    put(
        tmp_path,
        "proc/net/udp6",
        head + "  1: 00000000000000000000000000000000:14E9 0:0 07 0:0 0:0 0 99 0 4712 2 0 0\n",
    )
    put(tmp_path, "proc/31/comm", "avahi-daemon\n")
    (tmp_path / "proc/31/fd").mkdir()
    (tmp_path / "proc/31/fd/5").symlink_to("socket:[4711]")
    assert [str(each) for each in holders(5353, "udp", tmp_path)] == ["avahi-daemon (pid 31)", "a process of user 99"]
    assert holders(5354, "udp", tmp_path) == []


def test_this_process_does_not_name_itself_as_holder() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        assert os.getpid() not in [each.pid for each in holders(held.getsockname()[1], "udp")]


@pytest.mark.parametrize(
    ("flags", "addresses", "carrier", "level", "says"),
    [
        (0x1003, ("10.0.0.1",), True, "ok", "10.0.0.1"),
        (0x1002, ("10.0.0.1",), True, "note", "is down"),
        (0x1003, (), False, "note", "no cable"),
        (0x1003, ("10.0.0.1",), False, "warning", "no cable"),
        (0x0003, ("10.0.0.1",), True, "warning", "without multicast"),
        (None, ("10.0.0.1",), True, "ok", "10.0.0.1"),
    ],
)
def test_what_is_wrong_with_an_interface_is_named(
    flags: int | None, addresses: tuple[str, ...], carrier: bool, level: str, says: str
) -> None:
    each = Interface(name="eth0", addresses=addresses, flags=flags, carrier=carrier)
    finding = examine_interface(each, wanted=False, mdns=True)
    assert (finding.level, says in finding.what) == (level, True)


def test_docker_bridges_and_loopback_are_not_what_a_peer_listens_on() -> None:
    there = [
        Interface(name="lo", addresses=("127.0.0.1",), flags=0x9),
        Interface(name="docker0", addresses=("172.17.0.1",), flags=0x1003),
    ]
    found = examine_interfaces(there, (), mdns=True)
    assert [(finding.subject, finding.level) for finding in found] == [("docker0", "note"), ("all", "problem")]
    chosen = examine_interfaces(there, ("lo",), mdns=True)
    assert [(finding.subject, finding.level) for finding in chosen] == [("lo", "ok")]


def rules(policy: str, *expressions: object) -> list[dict[str, object]]:
    chain = {"family": "inet", "table": "filter", "name": "input", "type": "filter", "hook": "input", "policy": policy}
    of = {"family": "inet", "table": "filter", "chain": "input"}
    return [{"chain": chain}, *({"rule": of | {"expr": [expression]}} for expression in expressions)]


def test_a_firewall_that_drops_by_default_and_knows_nothing_of_zq_is_a_warning(tmp_path: Path) -> None:
    (finding,) = examine_firewall(rules("drop", {"accept": None}), (20_000, 20_100), tmp_path)
    assert (finding.level, "20000-20100" in finding.fix) == ("warning", True)
    known = rules("drop", {"match": {"right": 5353}}, {"match": {"right": {"range": [20_000, 20_100]}}})
    (finding,) = examine_firewall(known, (20_000, 20_100), tmp_path)
    assert finding.level == "note"
    assert examine_firewall(rules("accept"), (1, 2), tmp_path)[0].level == "ok"
    assert examine_firewall(rules("accept", {"reject": {"type": "tcp reset"}}), (1, 2), tmp_path)[0].level == "note"
    assert examine_firewall(None, (1, 2), tmp_path)[0].level == "note"


def test_a_table_of_iptables_is_noticed(tmp_path: Path) -> None:
    put(tmp_path, "proc/net/ip_tables_names", "nat\nfilter\n")
    assert examine_firewall(None, (1, 2), tmp_path)[0].subject == "iptables"


def test_a_datagram_that_has_come_back_counts_though_the_machine_has_stalled_meanwhile() -> None:
    """The time for it is over before anybody has looked."""
    assert probe(["127.0.0.1"], duration=0.0) == {"127.0.0.1": ""}
