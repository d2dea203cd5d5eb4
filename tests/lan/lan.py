"""A LAN of several hosts on this machine: a network namespace a host, joined by a bridge in a namespace of its own.

Host I has the address 10.77.0.I on eth0 and, with `nics=2`, 10.78.0.I on eth1; nothing of it touches the machine's own
network. Cables are cut, blocked and made lossy by nftables on the bridge, so that a host notices nothing but silence.
Needs Linux, root, iproute2 and nftables; `why_not` says what is missing.

Whatever becomes of the process that made it, the LAN is taken down: leaving the block does it, and so does a warden,
a process that waits for the end of this one.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent.parent
NETWORKS = ("10.77.0", "10.78.0")  # of the first and the second interface of each host
ARP_TABLE = 30  # hosts; with more the kernel's table of 1,024 neighbours, shared by all namespaces, overflows
COMMAND = 60.0  # s for one command of the tools; they take milliseconds
GRACE = 2.0  # s that processes in a namespace get to end before they are killed
MULTICAST = "ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 ether type { ip, ip6 }"  # ARP passes

_numbers = itertools.count(1)


def why_not() -> str:
    """Why there can be no LAN here; empty if there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need root on Linux"
    for tool, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(tool) is None:
            return f"{tool} is missing; install the package {package}"
    probe = f"zq{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, timeout=COMMAND)
    if made.returncode != 0:
        return f"no network namespace can be made: {made.stderr.strip()}"
    run("ip", "netns", "del", probe)
    return ""


def run(*command: str, text: str | None = None) -> str:
    """Runs a command and returns what it prints. Raises RuntimeError with its complaint when it fails."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=COMMAND)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode} {done.stderr.strip()}")
    return done.stdout


def batch(lines: Iterable[str], *flags: str) -> None:
    """Many commands of `ip` in one process."""
    run("ip", *flags, "-batch", "-", text="\n".join(lines) + "\n")


class Lan:
    """`hosts` hosts on one network, or on two with `nics=2`; with `ipv4=False` they have IPv6 link-local addresses.

    `with Lan(3) as lan` makes it and takes it down, with every process in it. Hosts are numbered from 1.
    """

    def __init__(self, hosts: int, *, nics: int = 1, ipv4: bool = True) -> None:
        self.hosts = range(1, hosts + 1)
        self.name = f"zq{os.getpid()}x{next(_numbers)}"
        self.switch = f"{self.name}-sw"
        self._nics = nics
        self._ipv4 = ipv4
        self._rules: dict[str, list[str]] = {}
        self._warden: subprocess.Popen[bytes] | None = None

    # --- life

    def __enter__(self) -> Self:
        self._warden = subprocess.Popen(
            [sys.executable, "-m", "tests.lan.warden", self.name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            start_new_session=True,  # what interrupts the tests must not interrupt the clearing up
        )
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends every process in its namespaces and removes them. Idempotent."""
        take_down(self.name)
        if self._warden is not None:
            assert self._warden.stdin is not None
            self._warden.stdin.close()
            self._warden.wait(COMMAND)
            self._warden = None

    def _build(self) -> None:
        names = [self.switch, *map(self.namespace, self.hosts)]
        batch(f"netns add {name}" for name in names)
        nics = range(self._nics)
        batch(
            [
                line
                for nic in nics
                for line in (
                    f"link add br{nic} type bridge mcast_snooping 0 forward_delay 0",
                    f"link set br{nic} up",
                )
            ],
            "-n",
            self.switch,
        )
        batch(
            f"link add p{nic}x{host} netns {self.switch} type veth peer name eth{nic} "
            f"netns {self.namespace(host)} address {self._mac(host, nic)}"
            for host in self.hosts
            for nic in nics
        )
        batch((f"link set p{nic}x{host} master br{nic} up" for host in self.hosts for nic in nics), "-n", self.switch)
        for host in self.hosts:
            self._set_up(host)

    def _set_up(self, host: int) -> None:
        namespace = self.namespace(host)
        disabled = "0" if not self._ipv4 else "1"
        keys = [f"net.ipv6.conf.{which}.disable_ipv6={disabled}" for which in ("all", "default")]
        run("ip", "netns", "exec", namespace, "sysctl", "-qw", *keys)
        lines = ["link set lo up"]
        for nic in range(self._nics):
            if self._ipv4:
                lines.append(f"addr add {self.address(host, nic)}/24 brd + dev eth{nic}")
            lines.append(f"link set eth{nic} up")
            if len(self.hosts) > ARP_TABLE:
                lines += [
                    f"neigh replace {self.address(other, nic)} lladdr {self._mac(other, nic)} "
                    f"dev eth{nic} nud permanent"
                    for other in self.hosts
                    if other != host
                ]
        batch(lines, "-n", namespace)

    # --- names

    def namespace(self, host: int) -> str:
        return f"{self.name}-{host}"

    @staticmethod
    def address(host: int, nic: int = 0) -> str:
        return f"{NETWORKS[nic]}.{host}"

    @staticmethod
    def _mac(host: int, nic: int) -> str:
        return f"02:7a:71:0{nic}:00:{host:02x}"

    def command(self, host: int) -> list[str]:
        """What stands before a command that is to run on a host; the process keeps its id."""
        return ["ip", "netns", "exec", self.namespace(host)]

    # --- what goes wrong

    # Each of these may be ended alone: it returns what `mend` wants to know.

    def partition(self, some: Sequence[int], others: Sequence[int]) -> str:
        """Nothing passes between the two groups."""
        return self._set(
            f"partition {some} {others}",
            [
                f"iifname {self._ports(*some)} oifname {self._ports(*others)} drop",
                f"iifname {self._ports(*others)} oifname {self._ports(*some)} drop",
            ],
        )

    def one_way(self, silent: int, listener: int) -> str:
        """Nothing that `silent` sends reaches `listener`; the way back is open."""
        return self._set(
            f"one way {silent} {listener}", [f"iifname {self._ports(silent)} oifname {self._ports(listener)} drop"]
        )

    def block_multicast(self, host: int, *, sent: bool = True, received: bool = True) -> None:
        """No multicast leaves or reaches the host; everything else passes."""
        rules = [f"iifname {self._ports(host)} {MULTICAST} drop"] if sent else []
        rules += [f"oifname {self._ports(host)} {MULTICAST} drop"] if received else []
        self._set(f"multicast {host}", rules)

    def lose(self, host: int, percent: int) -> str:
        """Each frame of the host's cable is lost with this chance, in either direction."""
        chance = f"numgen random mod 100 < {percent} drop" if percent < 100 else "drop"
        return self._set(
            f"loss {host}", [f"iifname {self._ports(host)} {chance}", f"oifname {self._ports(host)} {chance}"]
        )

    def mend(self, what: str) -> None:
        """One of these ends; nothing happens if it has ended already."""
        if self._rules.pop(what, None) is not None:
            self._apply()

    def heal(self) -> None:
        """All of these end. Interfaces and addresses stay as they are."""
        self._rules.clear()
        self._apply()

    def pull_out(self, host: int) -> None:
        """The host vanishes from the network: its cables are out, and it is told nothing but that."""
        for nic in range(self._nics):
            run("ip", "-n", self.switch, "link", "set", f"p{nic}x{host}", "down")

    def plug_in(self, host: int) -> None:
        """What `pull_out` has pulled out."""
        for nic in range(self._nics):
            run("ip", "-n", self.switch, "link", "set", f"p{nic}x{host}", "up")

    def sleep(self, host: int) -> None:
        """The host is suspended: nothing on it runs, and the network says nothing of that."""
        self._signal(host, signal.SIGSTOP)

    def wake(self, host: int) -> None:
        self._signal(host, signal.SIGCONT)

    def _signal(self, host: int, number: signal.Signals) -> None:
        for pid in pids_in(self.namespace(host)):
            os.kill(int(pid), number)

    def take_interface(self, host: int, nic: int = 0) -> None:
        """The interface goes down, and loses its address as with DHCP."""
        name = self.namespace(host)
        run("ip", "-n", name, "addr", "flush", "dev", f"eth{nic}")
        run("ip", "-n", name, "link", "set", f"eth{nic}", "down")

    def give_interface(self, host: int, nic: int = 0, address: str = "") -> None:
        """The interface comes up with its address, or another one."""
        name = self.namespace(host)
        run("ip", "-n", name, "link", "set", f"eth{nic}", "up")
        run("ip", "-n", name, "addr", "add", f"{address or self.address(host, nic)}/24", "brd", "+", "dev", f"eth{nic}")

    def packets(self) -> int:
        """Frames that all hosts have sent so far."""
        listed = json.loads(run("ip", "-n", self.switch, "-s", "-j", "link", "show"))
        ports = [link for link in listed if link["ifname"].startswith("p")]
        return sum(int(link["stats64"]["rx"]["packets"]) for link in ports)

    @staticmethod
    def _ports(*hosts: int) -> str:
        return "{ " + ", ".join(f'"p{nic}x{host}"' for host in hosts for nic in (0, 1)) + " }"

    def _set(self, what: str, rules: list[str]) -> str:
        self._rules[what] = rules
        self._apply()
        return what

    def _apply(self) -> None:
        rules = [f"  {rule}" for rules in self._rules.values() for rule in rules]
        lines = ["add table bridge lan", "delete table bridge lan", "table bridge lan {"]
        lines += [" chain cable {", "  type filter hook forward priority 0; policy accept;", *rules, " }", "}"]
        run("ip", "netns", "exec", self.switch, "nft", "-f", "-", text="\n".join(lines) + "\n")


def take_down(name: str) -> None:
    """Ends what runs in the namespaces of the LAN of that name, by process id, and removes them."""
    listed = [line.split()[0] for line in run("ip", "netns", "list").splitlines() if line.strip()]
    mine = [space for space in listed if re.fullmatch(rf"{name}-(sw|\d+)", space)]
    for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
        pids = {int(pid) for space in mine for pid in pids_in(space)} - {os.getpid()}
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # it has ended by itself
        if number is signal.SIGCONT:
            continue  # one that is stopped would not end
        deadline = time.monotonic() + GRACE
        while any(map(is_running, pids)) and time.monotonic() < deadline:
            time.sleep(0.01)  # they are not our children: nobody tells us of their end
    for space in mine:
        subprocess.run(["ip", "netns", "del", space], capture_output=True, timeout=COMMAND)
    for directory in Path(tempfile.gettempdir()).glob(f"{name}-*"):
        shutil.rmtree(directory, ignore_errors=True)


def pids_in(space: str) -> list[str]:
    return subprocess.run(
        ["ip", "netns", "pids", space], capture_output=True, text=True, timeout=COMMAND
    ).stdout.split()


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
