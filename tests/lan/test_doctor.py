"""`zq doctor` names what is wrong on a LAN on which exactly that is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.lan.conftest import MakeLan, Settle
from tests.lan.hosts import Neighbour
from tests.lan.lan import ROOT, Lan, run
from tests.waiting import eventually
from zq.security.keys import new_key_file, read_keys, today
from zq.security.lock import Lock

pytestmark = pytest.mark.lan
ZQ = Path(sys.executable).parent / "zq"
DEADLINE = 30.0  # s for one command
BOUND = 12.0  # s that it may take: 5, the start of an interpreter, and other work on the machine
PORT = 20_000

# Holds a UDP port without sharing it, as a badly configured responder does; says when.
HOLD = """
import socket, sys
held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
held.bind(("", 5353))
print("held", flush=True)
sys.stdin.read()
"""

# A host that never stops sending to the group of mDNS; says when it has begun.
CHATTER = """
import socket, sys, threading
address = sys.argv[1]
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
sender.sendto(bytes(12), ("224.0.0.251", 5353))
print("begun", flush=True)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
while not ended.wait(0.02):
    sender.sendto(bytes(12), ("224.0.0.251", 5353))
"""

# A peer of a protocol version that there is not yet.
FUTURE = """
import json, sys
import zq.wire.frames
zq.wire.frames.VERSION = 7
import zq
with zq.Peer(**json.loads(sys.argv[1])) as peer:
    peer.settle(timeout=20.0)
    print("open", flush=True)
    sys.stdin.read()
"""

# A peer that tells its clock, on a host whose clock is wrong by so many seconds; says when it is there.
WRONG_CLOCK = """
import json, sys, time
right, off = time.time, float(sys.argv[1])
time.time = lambda: right() + off
import zq.doctor
from threading import Event
zq.doctor.listen(json.loads(sys.argv[2]), until=Event().wait, began=lambda name: print(name, flush=True))
"""

# Announces a record of our realm, whose tag everybody sees, without the key; says when it is on the network.
FORGER = """
import asyncio, sys
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf
from zq.discovery.sighting import SERVICE
async def forge(address, tag):
    id = "ab" * 16
    text = {"v": "1", "id": id, "tag": tag, "port": "20000", "proof": "0" * 32}
    info = AsyncServiceInfo(SERVICE, f"{id}.{SERVICE}", port=20000, properties=text, server=f"{id}.local.",
                            parsed_addresses=[address])
    async with AsyncZeroconf(interfaces=[address]) as responder:
        await responder.async_register_service(info, cooperating_responders=True)
        print("announced", flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(forge(*sys.argv[1:]))
"""

# A port where something listens that is not zq; says when.
OTHER_SERVICE = """
import socket, sys, threading
def answer():
    while True:
        connection, _ = server.accept()
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\\r\\n")
        connection.close()
server = socket.create_server(("", int(sys.argv[1])))
threading.Thread(target=answer, daemon=True).start()
print("listening", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def settle(settle: Settle) -> Settle:
    """Returns when the peer's mDNS is there to answer a doctor."""

    def settle_one(lan: Lan, host: int, **options: Any) -> Neighbour:
        neighbour = settle(lan, host, **options)
        neighbour.settle()
        return neighbour

    return settle_one


class Findings:
    """What one `zq doctor` has found."""

    def __init__(
        self, lan: Lan, host: int, *arguments: str, mode: str = "--insecure", under: tuple[str, ...] = ()
    ) -> None:
        began = time.monotonic()
        directory = tempfile.mkdtemp(prefix=f"{lan.name}-{host}-")
        done = subprocess.run(
            [*lan.command(host), *under, str(ZQ), "doctor", "--json", "--realm", "lan", *mode.split(), *arguments],
            cwd=ROOT,
            env=os.environ | {"ZQ_HOST_DIR": directory},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        self.seconds = time.monotonic() - began
        self.code = done.returncode
        self.rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert self.rows, done.stderr

    def have(self, level: str, check: str, *words: str) -> bool:
        return any(
            row["level"] == level and row["check"] == check and all(word in str(row) for word in words)
            for row in self.rows
        )

    def __repr__(self) -> str:
        return "\n".join(f"{row['level']:<8}{row['check']}: {row['subject']}: {row['what']}" for row in self.rows)

    def problems(self) -> list[str]:
        return [f"{row['check']}: {row['what']}" for row in self.rows if row["level"] == "problem"]


@contextmanager
def running(lan: Lan, host: int, script: str, *arguments: str) -> Iterator[None]:
    """On a host, from its first line of output until the end of the block."""
    directory = tempfile.mkdtemp(prefix=f"{lan.name}-{host}-")
    with subprocess.Popen(
        [*lan.command(host), sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env=os.environ | {"ZQ_HOST_DIR": directory},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline()
            yield
        finally:
            process.terminate()


def key_file(directory: Path, name: str) -> Path:
    path = directory / name
    path.write_text(new_key_file(today()))
    path.chmod(0o600)
    return path


def test_a_healthy_lan_has_no_problem(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(2)
    settle(lan, 2, name="worker")
    found = Findings(lan, 1, "--peer", lan.address(2))
    assert found.problems() == []
    assert found.code == 0
    assert found.have("ok", "interface", "eth0", lan.address(1)), found
    assert found.have("ok", "multicast", lan.address(1)), found
    assert found.have("ok", "peer", "our multicast reaches it"), found
    assert found.have("ok", "peer", "its multicast reaches us"), found
    assert found.have("ok", "peer", "worker", "is met at"), found
    assert found.have("note", "peer", "its clock is not known", "--listen"), found


def test_who_listens_for_a_doctor_tells_its_clock(make_lan: MakeLan) -> None:
    lan = make_lan(2)
    directory = tempfile.mkdtemp(prefix=f"{lan.name}-2-")
    with subprocess.Popen(
        [*lan.command(2), str(ZQ), "doctor", "--listen", "--insecure", "--realm", "lan"],
        env=os.environ | {"ZQ_HOST_DIR": directory},
        stderr=subprocess.PIPE,
        text=True,
    ) as listener:
        try:
            assert listener.stderr is not None
            while "listens" not in listener.stderr.readline():
                assert listener.poll() is None
            found = Findings(lan, 1, "--peer", lan.address(2))
        finally:
            listener.terminate()
        assert listener.wait(DEADLINE) == 0
    assert found.have("ok", "peer", "its clock is 0.0 s"), found


@pytest.mark.parametrize(("sent", "received"), [(False, True), (True, False)])
def test_multicast_that_the_network_blocks_one_way_is_named_with_its_way(
    make_lan: MakeLan, settle: Settle, sent: bool, received: bool
) -> None:
    """Blocked at the other host: what it sends does not reach us, what it should receive is ours."""
    lan = make_lan(2)
    lan.block_multicast(2, sent=sent, received=received)
    settle(lan, 2, port=PORT)
    found = Findings(lan, 1, "--peer", lan.address(2))
    assert found.have("problem", "peer", "our multicast does not reach it", "ZQ_SEEDS") == received, found
    assert found.have("problem", "peer", "its multicast does not reach us", "ZQ_SEEDS") == sent, found
    assert found.code == 1


def test_multicast_that_the_network_blocks_is_no_problem_to_who_has_a_seed(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(2)
    lan.block_multicast(2)
    settle(lan, 2, port=PORT)
    found = Findings(lan, 1, "--peer", lan.address(2), "--seeds", f"{lan.address(2)}:{PORT}")
    assert found.problems() == []
    assert found.have("warning", "peer", "our multicast does not reach it"), found
    assert found.have("ok", "peer", "is met at", "seed"), found


@pytest.mark.parametrize(
    ("hook", "says"), [("input", "does not come in again"), ("output", "a firewall rule of this host forbids it")]
)
def test_a_firewall_of_this_host_that_drops_mdns_is_noticed_without_another_host(
    make_lan: MakeLan, hook: str, says: str
) -> None:
    lan = make_lan(1)
    drop(lan, 1, hook, "udp dport 5353 drop")
    found = Findings(lan, 1)
    assert found.have("problem", "multicast", says), found
    assert found.have("note", "firewall", "1 of its rules", hook), found
    assert found.code == 1


def test_what_others_send_is_not_taken_for_what_comes_back(make_lan: MakeLan) -> None:
    lan = make_lan(2)
    drop(lan, 1, "input", f"ip saddr {lan.address(1)} udp dport 5353 drop")
    with subprocess.Popen(
        [*lan.command(2), sys.executable, "-c", CHATTER, lan.address(2)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as chatter:
        assert chatter.stdout is not None
        assert chatter.stdout.readline() == "begun\n"
        found = Findings(lan, 1)
        assert chatter.stdin is not None
        chatter.stdin.close()
    assert found.have("problem", "multicast", "does not come in again"), found


def drop(lan: Lan, host: int, hook: str, rule: str) -> None:
    rules = f"table inet filter {{ chain {hook} {{ type filter hook {hook} priority 0; policy accept;\n{rule}\n}}\n}}\n"
    run(*lan.command(host), "nft", "-f", "-", text=rules)


def test_a_firewall_there_that_drops_tcp_is_told_from_a_port_where_nobody_listens(
    make_lan: MakeLan, settle: Settle
) -> None:
    lan = make_lan(2)
    settle(lan, 2, port=PORT)
    nobody = Findings(lan, 1, "--peer", f"{lan.address(2)}:{PORT + 1}")
    assert nobody.have("problem", "peer", "no peer listens on that port", "ZQ_PORT"), nobody
    drop(lan, 2, "input", "tcp dport 20000-32767 drop")
    dropped = Findings(lan, 1, "--peer", lan.address(2))
    assert dropped.have("problem", "peer", "no answer over TCP", "in to that host"), dropped


def test_it_ends_in_time_when_nothing_answers(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(2)
    settle(lan, 2, port=PORT)
    lan.lose(2, 100)
    found = Findings(lan, 1, "--peer", f"{lan.address(2)}:{PORT}", "--seeds", f"{lan.address(2)}:{PORT + 1}")
    assert found.have("problem", "peer", "no answer over TCP"), found
    assert found.have("warning", "peer", "nobody there answers mDNS"), found
    assert found.seconds < BOUND


def test_a_firewall_here_that_drops_tcp_is_told_from_one_there(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(2)
    drop(lan, 1, "input", "tcp dport 20000-32767 drop")
    settle(lan, 2, port=PORT)
    found = Findings(lan, 1, "--peer", lan.address(2))
    assert found.have("problem", "peer", "does not reach us", "in to this host"), found


def test_a_host_without_a_route_to_it_is_named(make_lan: MakeLan) -> None:
    found = Findings(make_lan(1), 1, "--peer", f"192.0.2.1:{PORT}")
    assert found.have("problem", "peer", "cannot be reached", "unreachable", "a route"), found


def test_an_interface_without_an_address_or_multicast_is_named(make_lan: MakeLan) -> None:
    lan = make_lan(1, nics=2)
    run("ip", "-n", lan.namespace(1), "link", "set", "eth1", "multicast", "off")
    found = Findings(lan, 1)
    assert found.have("warning", "interface", "eth1", "without multicast", "multicast on"), found
    lan.take_interface(1, nic=0)
    lan.take_interface(1, nic=1)
    found = Findings(lan, 1)
    assert found.have("note", "interface", "eth0", "is down"), found
    assert found.have("problem", "interface", "no interface with an address"), found


def test_a_tunnel_is_named(make_lan: MakeLan) -> None:
    lan = make_lan(1)
    run("ip", "-n", lan.namespace(1), "link", "add", "tun0", "type", "veth", "peer", "name", "far")
    run("ip", "-n", lan.namespace(1), "link", "set", "far", "up")
    run("ip", "-n", lan.namespace(1), "addr", "add", "10.99.0.1/24", "dev", "tun0")
    run("ip", "-n", lan.namespace(1), "link", "set", "tun0", "up")
    assert Findings(lan, 1).have("note", "interface", "tun0", "VPN", "ZQ_SEEDS")


def test_whoever_holds_the_port_of_mdns_is_named(make_lan: MakeLan) -> None:
    lan = make_lan(1)
    with subprocess.Popen(
        [*lan.command(1), sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        found = Findings(lan, 1)
        assert found.have("problem", "port 5353", f"(pid {holder.pid})", "does not share it"), found
        assert holder.stdin is not None
        holder.stdin.close()


def test_who_shares_the_port_of_mdns_is_named_and_no_problem(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(1)
    settle(lan, 1)
    assert Findings(lan, 1).have("ok", "port 5353", "shared by", "(pid ")


def test_another_realm_is_named(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(2)
    settle(lan, 2, realm="default")
    found = Findings(lan, 1)
    assert found.have("warning", "realm", "of realm 'default'", "ZQ_REALM=default here"), found
    found = Findings(lan, 1, "--peer", lan.address(2))
    assert found.have("problem", "peer", "of realm 'default'"), found


def test_a_mixture_of_key_and_insecure_is_named_from_either_side(
    make_lan: MakeLan, settle: Settle, tmp_path: Path
) -> None:
    lan = make_lan(2)
    key = key_file(tmp_path, "realm.key")
    settle(lan, 2, insecure=None, key_file=str(key))
    found = Findings(lan, 1, "--peer", lan.address(2))
    assert found.have("warning", "realm", "mDNS", "locked with a realm key", "ZQ_KEY_FILE"), found
    assert found.have("problem", "peer", "locked with a realm key", "ZQ_KEY_FILE"), found
    settle(lan, 1)
    found = Findings(lan, 2, "--peer", lan.address(1), mode=f"--key-file {key}")
    assert found.have("problem", "peer", "of realm 'lan', insecure", "the same ZQ_KEY_FILE"), found


def test_another_key_is_told_from_the_same_key_in_another_realm(
    make_lan: MakeLan, settle: Settle, tmp_path: Path
) -> None:
    lan = make_lan(3)
    mine, theirs = key_file(tmp_path, "mine.key"), key_file(tmp_path, "theirs.key")
    settle(lan, 2, insecure=None, key_file=str(theirs))
    settle(lan, 3, insecure=None, key_file=str(mine), realm="default")
    found = Findings(lan, 1, "--peer", lan.address(2), mode=f"--key-file {mine}")
    assert found.have("problem", "peer", "of another key", "zq key show"), found
    assert found.have("warning", "realm", "of realm 'default', with this key"), found
    assert mine.read_text().split()[-1] not in repr(found.rows)


def test_another_protocol_version_is_named(make_lan: MakeLan) -> None:
    lan = make_lan(2)
    directory = tempfile.mkdtemp(prefix=f"{lan.name}-2-")
    options = json.dumps({"realm": "lan", "insecure": True})
    with subprocess.Popen(
        [*lan.command(2), sys.executable, "-c", FUTURE, options],
        cwd=ROOT,
        env=os.environ | {"ZQ_HOST_DIR": directory},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as future:
        assert future.stdout is not None
        assert future.stdout.readline() == "open\n"
        found = Findings(lan, 1, "--peer", lan.address(2))
        assert future.stdin is not None
        future.stdin.close()
    assert found.have("problem", "realm", "protocol version 7, here it is 1", "the same version of zq"), found
    assert found.have("problem", "peer", "protocol version 7"), found


def test_names_that_collide_are_named(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(3)
    settle(lan, 2, name="twin")
    settle(lan, 3, name="twin")
    assert Findings(lan, 1).have("warning", "peers", "2 peers have the name 'twin'", "ZQ_NAME")


def test_an_address_of_a_host_that_leads_nowhere_is_named_beside_the_one_that_works(
    make_lan: MakeLan, settle: Settle
) -> None:
    lan = make_lan(2, nics=2)
    lan.take_interface(1, nic=1)
    settle(lan, 2, port=PORT)
    found = Findings(lan, 1, "--peer", lan.address(2))
    assert found.have("note", "peer", f"{lan.address(2, 1)}:{PORT}", "not reached from here"), found
    assert found.problems() == []


def test_without_a_key_nothing_is_sent(make_lan: MakeLan) -> None:
    """No datagram and no connection: the counters of the namespace do not move while it examines."""
    lan = make_lan(2)

    def sent() -> list[str]:
        lines = run(*lan.command(1), "cat", "/proc/net/snmp").splitlines()
        return [line for line in lines if line.startswith(("Tcp:", "Udp:"))]

    before = sent()
    done = run(*lan.command(1), str(ZQ), "doctor")
    assert "nothing listens on any network" in done
    assert "ZQ_KEY_FILE" in done
    assert sent() == before


def test_a_host_with_several_things_wrong_is_told_each_with_what_mends_it(make_lan: MakeLan) -> None:
    """Few descriptors, no cable, docker's bridge, and a firewall that drops what it does not know."""
    lan = make_lan(1, nics=2)
    run("ip", "-n", lan.switch, "link", "set", "p1x1", "down")
    for line in ("link add docker0 type bridge", "addr add 172.17.0.1/16 dev docker0", "link set docker0 up"):
        run("ip", "-n", lan.namespace(1), *line.split())
    rules = "table inet filter { chain in { type filter hook input priority 0; policy drop; iif lo accept; }; }"
    run(*lan.command(1), "nft", "-f", "-", text=rules)
    found = Findings(lan, 1, under=("prlimit", "--nofile=300"))
    assert found.have("warning", "machine", "file descriptors", "at most 300", "LimitNOFILE="), found
    assert found.have("warning", "interface", "eth1", "no cable", "connect eth1"), found
    assert found.have("note", "interface", "docker0", "docker's own", "ZQ_INTERFACES"), found
    assert found.have("warning", "firewall", "drops what no rule of it accepts", "UDP port 5353"), found
    assert found.have("problem", "multicast", lan.address(1), "does not come in again", "5353"), found
    assert found.seconds < BOUND
    found = Findings(lan, 1, "--interfaces", "eth7,nosuch")
    assert found.have("problem", "interface", "not an interface of this machine", "eth0"), found


def test_a_clock_that_is_wrong_is_named_and_a_problem_while_a_key_is_replaced(
    make_lan: MakeLan, tmp_path: Path
) -> None:
    lan = make_lan(2)
    key = key_file(tmp_path, "realm.key")
    with running(lan, 2, WRONG_CLOCK, "-90", json.dumps({"realm": "lan", "key_file": str(key)})):
        found = Findings(lan, 1, "--peer", lan.address(2), mode=f"--key-file {key}")
    assert found.have("warning", "peer", "s behind this one", "NTP"), found
    assert found.code == 0
    old, new = (new_key_file(today()).splitlines()[-1] for _ in range(2))
    key.write_text(f"{old} until {today() + timedelta(days=20)}\n{new}\n")
    with running(lan, 2, WRONG_CLOCK, "7200", json.dumps({"realm": "lan", "key_file": str(key)})):
        found = Findings(lan, 1, "--peer", lan.address(2), mode=f"--key-file {key}")
    assert found.have("problem", "peer", "s ahead of this one", "the day of the new key", "NTP"), found


def test_a_forged_record_and_a_port_where_something_else_listens_are_named(make_lan: MakeLan, tmp_path: Path) -> None:
    lan = make_lan(2)
    key = key_file(tmp_path, "realm.key")
    tag = Lock(read_keys(key), "lan", today()).tag
    with running(lan, 2, FORGER, lan.address(2), tag), running(lan, 2, OTHER_SERVICE, "20000"):
        found = Findings(lan, 1, "--peer", f"{lan.address(2)}:20000", mode=f"--key-file {key}")
    assert found.have("warning", "realm", "mDNS", "written by somebody without the key", "it is not dialled"), found
    assert found.have("problem", "peer", "something listens there that is no zq peer", "ZQ_PORT"), found


def test_peers_counts_those_that_its_key_does_not_open(make_lan: MakeLan, settle: Settle, tmp_path: Path) -> None:
    """On other hosts: of another key, of the same under another realm, insecure; those of the own are listed."""
    lan = make_lan(4)
    mine, theirs = key_file(tmp_path, "mine.key"), key_file(tmp_path, "theirs.key")
    settle(lan, 2, insecure=None, key_file=str(theirs))
    settle(lan, 3)
    settle(lan, 4, insecure=None, key_file=str(mine), name="ours", realm="lan")

    def look() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*lan.command(1), str(ZQ), "peers", "--realm", "lan", "--key-file", str(mine)],
            cwd=ROOT,
            env=os.environ | {"ZQ_HOST_DIR": tempfile.mkdtemp(prefix=f"{lan.name}-1-")},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )

    # It gives them half a second; with other work on the machine somebody may be later.
    said = "zq: 2 zq peers near that this key does not open\n"
    done = eventually(lambda: done if (done := look()).stderr == said else None, DEADLINE)
    title, row = done.stdout.splitlines()
    assert title.split()[:2] == ["peer", "host"]
    assert row.startswith("ours")
    assert {"mdns", "hello"} & set(row.split())  # whoever of the two has seen the other first
    assert f"tcp://{lan.address(4)}:" in row
