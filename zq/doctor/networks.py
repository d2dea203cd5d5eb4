"""The interfaces of this machine: which of them a peer would use, and whether they are fit for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zq.discovery.interfaces import DOCKER, interface_addresses, is_loopback, named_addresses
from zq.doctor.finding import Finding, failure, note, ok, problem, warning
from zq.doctor.machine import SEEDS, read
from zq.errors import Refused

CHECK = "interface"
UP, POINT_TO_POINT, MULTICAST = 0x1, 0x10, 0x1000  # IFF_ flags, linux/if.h
TUNNEL = re.compile(r"(?:tun|tap|wg|ppp|utun|ipsec|tailscale|zt|nordlynx|cscotun|vpn|gpd)[0-9a-z]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One interface as the system shows it; `flags` is None where it does not."""

    name: str
    addresses: tuple[str, ...] = ()
    flags: int | None = None
    carrier: bool = True  # a cable, or an access point

    def has(self, flag: int) -> bool:
        return self.flags is None or bool(self.flags & flag)


def interfaces(root: Path = Path("/"), named: Mapping[str, Sequence[str]] | None = None) -> list[Interface]:
    """Those with an address and, on Linux, those without."""
    if named is None:
        named = named_addresses()
    there = root / "sys/class/net"
    names = dict.fromkeys([*named, *(sorted(path.name for path in there.iterdir()) if there.is_dir() else ())])
    found = []
    for name in names:
        flags = read(there / name / "flags").strip()
        found.append(
            Interface(
                name=name,
                addresses=tuple(named.get(name, ())),
                flags=int(flags, 16) if re.fullmatch(r"0x[0-9a-f]+", flags) else None,
                carrier=read(there / name / "carrier").strip() != "0",
            )
        )
    return found


def examine_interfaces(there: Sequence[Interface], chosen: Sequence[str], *, mdns: bool) -> list[Finding]:
    """Of those the settings choose (names or addresses; empty: all), what keeps a peer from using them."""
    found: list[Finding] = []
    usable = False
    for each in there:
        wanted = each.name in chosen or any(address in chosen for address in each.addresses)
        loopback = bool(each.addresses) and all(map(is_loopback, each.addresses))
        if not wanted and (chosen or loopback or each.name == "lo"):
            continue
        if not wanted and DOCKER.fullmatch(each.name):
            found.append(note(CHECK, each.name, "docker's own; not used unless ZQ_INTERFACES names it"))
            continue
        finding = examine_interface(each, wanted=wanted, mdns=mdns and not loopback)
        usable = usable or (bool(each.addresses) and finding.level != "problem")
        found.append(finding)
    if not usable:
        fix = "give one an address (a cable, Wi-Fi, DHCP)" + (", or choose another in ZQ_INTERFACES" if chosen else "")
        found.append(
            problem(CHECK, "all", "no interface with an address to listen on: nobody can reach this host", fix)
        )
    return found


def examine_interface(each: Interface, *, wanted: bool, mdns: bool) -> Finding:
    """One that a peer uses or would like to. What is wrong with one that nobody named is worth a note only."""
    missing = warning if wanted else note
    if not each.has(UP):
        return missing(CHECK, each.name, "is down", f"ip link set {each.name} up")
    if not each.addresses:
        what = "has no address" + ("" if each.carrier else ", and no cable or access point")
        return missing(CHECK, each.name, what, f"give {each.name} an address, by DHCP for instance")
    where = ", ".join(each.addresses)
    if not each.carrier:
        return warning(CHECK, each.name, f"{where}, but no cable or access point", f"connect {each.name}")
    if TUNNEL.fullmatch(each.name):
        what = f"{where}: a tunnel (VPN); most pass no multicast"
        return note(CHECK, each.name, what, f"for peers behind it, {SEEDS}" if mdns else "")
    if mdns and not each.has(MULTICAST):
        what = f"{where}, without multicast: mDNS cannot work there"
        return warning(CHECK, each.name, what, f"ip link set {each.name} multicast on; else {SEEDS}")
    return ok(CHECK, each.name, where)


def usable_addresses(chosen: Sequence[str]) -> tuple[list[str], list[Finding]]:
    """The addresses a peer listens on, or why it does not start."""
    try:
        return interface_addresses(chosen, at_start=bool(chosen)), []
    except (Refused, OSError) as error:
        return [], [failure(CHECK, ", ".join(chosen) or "all", error)]
