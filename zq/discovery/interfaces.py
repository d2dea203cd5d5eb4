"""The addresses of this machine, and which of them a peer opens TCP on."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence

from zq.errors import Refused
from zq.logs import Logger

log = Logger(__name__)

DOCKER = re.compile(r"docker\d+|br-[0-9a-f]{12}|veth[0-9a-f]+")  # interfaces that docker makes, for itself alone


def endpoint(address: str, port: int) -> str:
    """The ZeroMQ endpoint of an IPv4 or IPv6 address."""
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def zone_of(address: str) -> str:
    """The interface that an IPv6 link-local address is of (`fe80::1%eth0`); empty for others."""
    return address.partition("%")[2]


def interface_addresses(interfaces: Sequence[str] = (), *, at_start: bool = True) -> list[str]:
    """The addresses to open TCP on: of `interfaces`, each a name or an address, or all but loopback and docker's.

    IPv6 link-local addresses, with their scope, count only on an interface that has no others. An interface without
    an address has none yet. Raises Refused for one that does not exist, `at_start` only, and says which do.
    """
    if interfaces and all(map(_can_bind, interfaces)):
        return list(dict.fromkeys(interfaces))
    named = named_addresses()
    known = {address for addresses in named.values() for address in addresses}
    chosen: list[str] = []
    for interface in interfaces:
        if interface in known or _can_bind(interface):
            chosen.append(interface)
        elif interface in named:
            chosen += named[interface]
            if at_start and not named[interface]:
                log.warning("%s has no address yet; we listen there as soon as it has", interface)
        elif at_start:
            there = ", ".join(f"{name} ({' '.join(addresses)})" for name, addresses in named.items())
            raise Refused(f"{interface} is not an interface of this machine; there are {there}")
    if not interfaces:
        for name, addresses in named.items():
            if not DOCKER.fullmatch(name):
                chosen += [address for address in addresses if not is_loopback(address)]
        if at_start and not chosen:
            log.warning("this machine has no network but loopback yet; we listen as soon as it has")
    return list(dict.fromkeys(chosen))


def named_addresses() -> dict[str, list[str]]:
    """The interfaces of this machine with the addresses that count."""
    import ifaddr  # comes with zeroconf; not needed for addresses that are given and there

    named: dict[str, list[str]] = {}
    link_local: dict[str, list[str]] = {}
    for adapter in ifaddr.get_adapters(include_unconfigured=True):
        addresses = named.setdefault(adapter.nice_name, [])
        for ip in adapter.ips:
            text = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            if ":" in text and not _is_ready(text, adapter.nice_name):
                continue  # the kernel still looks whether somebody else has it
            if ":" in text and ipaddress.ip_address(text).is_link_local:
                link_local.setdefault(adapter.nice_name, []).append(f"{text.partition('%')[0]}%{adapter.nice_name}")
            else:
                addresses.append(text)
    for name, addresses in link_local.items():
        named[name] = named[name] or addresses
    return named


def _is_ready(address: str, interface: str) -> bool:
    plain = address.partition("%")[0]
    return _can_bind(f"{plain}%{interface}" if ipaddress.ip_address(plain).is_link_local else plain)


def _can_bind(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
        # Not the address alone: what it says of its scope must become a number.
        family, kind, _, _, name = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)[
            0
        ]
        with socket.socket(family, kind) as probe:
            probe.bind(name)
    except (ValueError, OSError):
        return False
    return True
