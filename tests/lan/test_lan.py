"""The simulated LAN itself: its hosts reach each other, its faults bite, and nothing of it is left behind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.lan.conftest import MakeLan
from tests.lan.lan import ROOT, Lan, pids_in, run
from tests.waiting import eventually

pytestmark = pytest.mark.lan

# Two datagrams to a host's port, one as multicast; told that they have been sent, says which of them have come, or do
# within half a second.
RECEIVE = """
import select, socket, struct, sys
address = sys.argv[1]
plain, group = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
plain.bind((address, 7001))
group.bind(("239.1.2.3", 7002))
group.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.2.3") + socket.inet_aton(address))
print("ready", flush=True)
sys.stdin.readline()
came = set()
while len(came) < 2 and (ready := select.select([plain, group], [], [], 0.5)[0]):
    for each in ready:
        each.recv(100)
        came.add("plain" if each is plain else "group")
print(*sorted(came), flush=True)
"""
SEND = """
import socket, sys
own, to = sys.argv[1:]
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
sender.sendto(b"x", (to, 7001))
sender.sendto(b"x", ("239.1.2.3", 7002))
"""


def passes(lan: Lan, sender: int, receiver: int) -> set[str]:
    """Which of the two datagrams come from one host to the other."""
    addresses = [lan.address(sender), lan.address(receiver)]
    with subprocess.Popen(
        [*lan.command(receiver), sys.executable, "-c", RECEIVE, addresses[1]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        run(*lan.command(sender), sys.executable, "-c", SEND, *addresses)
        process.stdin.write("sent\n")
        process.stdin.flush()
        return set(process.stdout.readline().split())


def test_hosts_reach_each_other_unless_something_is_wrong(make_lan: MakeLan) -> None:
    lan = make_lan(2)
    both = {"plain", "group"}
    assert passes(lan, 1, 2) == both
    lan.block_multicast(2)
    assert passes(lan, 1, 2) == {"plain"}
    lan.heal()
    lan.one_way(1, 2)
    assert passes(lan, 1, 2) == set()
    lan.heal()
    lan.lose(1, 100)
    assert passes(lan, 1, 2) == set()
    lan.heal()
    assert passes(lan, 1, 2) == both


def spaces(name: str) -> list[str]:
    return [line for line in run("ip", "netns", "list").splitlines() if line.startswith(f"{name}-")]


@pytest.mark.usefixtures("namespaces")
def test_nothing_is_left_of_a_lan_with_a_process_in_it() -> None:
    with Lan(2) as lan:
        process = subprocess.Popen([*lan.command(1), "sleep", "60"])
        assert len(spaces(lan.name)) == 3
        eventually(lambda: str(process.pid) in pids_in(lan.namespace(1)))
    assert process.wait(20.0) != 0
    assert spaces(lan.name) == []


MAKER = """
import sys
from tests.lan.lan import Lan
with Lan(2) as lan:
    print(lan.name, flush=True)
    sys.stdin.read()
"""


@pytest.mark.usefixtures("namespaces")
def test_nothing_is_left_of_a_lan_whose_maker_was_killed() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", MAKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as maker:
        assert maker.stdout is not None
        name = maker.stdout.readline().strip()
        assert len(spaces(name)) == 3
        maker.kill()
        maker.wait()
        eventually(lambda: spaces(name) == [])
