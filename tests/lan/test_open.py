"""A peer that is open to a network without a key says so, wherever its logs go, at every start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lan.conftest import MakeLan, Settle
from tests.waiting import eventually

pytestmark = pytest.mark.lan

OPEN = """
import sys, zq
for _ in range(2):
    with zq.Peer(insecure=True, discovery=[], interfaces=sys.argv[1:]):
        pass
"""


def test_every_start_without_a_key_says_that_everybody_can_take_part(make_lan: MakeLan) -> None:
    """Nothing is set up to take its logs."""
    lan = make_lan(1)

    def warnings(interface: str) -> list[str]:
        command = [*lan.command(1), sys.executable, "-c", OPEN, interface]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30.0, check=True)
        return [line for line in ended.stderr.splitlines() if "insecure" in line]

    lines = warnings("eth0")
    assert len(lines) == 2
    assert all(lan.address(1) in line and "key_file" in line for line in lines)
    assert warnings("lo") == []


def test_an_interface_that_comes_late_is_warned_of_too(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(1)
    lan.take_interface(1)
    early = settle(lan, 1, discovery=[])
    assert early.endpoints() == []
    assert "insecure: " not in early.errors()
    lan.give_interface(1)
    eventually(lambda: early.endpoints() != [])
    eventually(lambda: "insecure: " in early.errors())
    assert early.errors().count("insecure: ") == 1


PEER = """
import json, sys, zq
with zq.Peer(**json.loads(sys.argv[1])) as peer, peer.publisher("news"), peer.puller("jobs"):
    print("ready", flush=True)
    sys.stdin.read()
"""
SCAN = """
import errno, socket, sys
open_ports = []
for port in range(1, 65_536):
    with socket.socket() as caller:
        caller.settimeout(5.0)
        reached = caller.connect_ex((sys.argv[1], port))
    assert reached in (0, errno.ECONNREFUSED), (port, errno.errorcode[reached])
    if reached == 0:
        open_ports.append(port)
print(*open_ports)
"""


SCANNED = 150.0  # s for all ports; on a machine that is not busy it takes 5


@pytest.mark.timeout(SCANNED + 30.0)
@pytest.mark.parametrize(
    ("options", "doors"), [("{}", 0), ('{"insecure": true, "discovery": ["none"]}', 3)], ids=["by itself", "opened"]
)
def test_nothing_of_a_peer_can_be_reached_from_another_host_unless_it_was_opened(
    make_lan: MakeLan, tmp_path: Path, options: str, doors: int
) -> None:
    """Every TCP port is tried; of UDP the kernel says what listens."""
    lan = make_lan(2)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZQ_")}
    with subprocess.Popen(
        [*lan.command(1), sys.executable, "-c", PEER, options],
        env={**environment, "ZQ_HOST_DIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as peer:
        try:
            assert peer.stdout is not None
            assert peer.stdout.readline() == "ready\n"
            scan = [*lan.command(2), sys.executable, "-c", SCAN, lan.address(1)]
            found = subprocess.run(scan, capture_output=True, text=True, timeout=SCANNED, check=True).stdout.split()
            assert len(found) == doors
            listening = [*lan.command(1), "ss", "--no-header", "--udp", "--listening"]
            assert subprocess.run(listening, capture_output=True, text=True, timeout=10.0, check=True).stdout == ""
        finally:
            peer.kill()
