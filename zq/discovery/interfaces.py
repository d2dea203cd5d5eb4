"""The addresses of this machine, and which of them a peer opens TCP on."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence

from zq.errors import Refused

DOCKER = re.compile(r"docker\d+|br-[0-9a-f]{12}|veth[0-9a-f]+")  # interfaces that docker makes, for itself alone


def endpoint(address: str, port: int) -> str:
    """The ZeroMQ endpoint of an IPv4 or IPv6 address."""
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def interface_addresses(interfaces: Sequence[str] = ()) -> list[str]:
    """The addresses to open TCP on: of `interfaces`, each a name or an address, or all but loopback and docker's.

    IPv6 link-local addresses are left out. Raises Refused for an interface that does not exist and says which do.
    """
    if interfaces and all(map(_can_bind, interfaces)):
        return list(dict.fromkeys(interfaces))
    import ifaddr  # comes with zeroconf; not needed for addresses that are given and there

    named: dict[str, list[str]] = {}
    for adapter in ifaddr.get_adapters():
        texts = [ip.ip if isinstance(ip.ip, str) else ip.ip[0] for ip in adapter.ips]
        named.setdefault(adapter.nice_name, []).extend(
            text for text in texts if not ipaddress.ip_address(text).is_link_local or "." in text
        )
    known = {address for addresses in named.values() for address in addresses}
    chosen: list[str] = []
    for interface in interfaces:
        if not (addresses := [interface] if interface in known or _can_bind(interface) else named.get(interface, [])):
            there = ", ".join(f"{name} ({' '.join(addresses)})" for name, addresses in named.items())
            what = "has no address" if interface in named else "is not an interface of this machine"
            raise Refused(f"{interface} {what}; there are {there}")
        chosen += addresses
    if not interfaces:
        for name, addresses in named.items():
            if not DOCKER.fullmatch(name):
                chosen += [address for address in addresses if not is_loopback(address)]
        if not chosen:
            raise Refused("this machine has no network but loopback; name one to use, such as 127.0.0.1")
    return list(dict.fromkeys(chosen))


def _can_bind(address: str) -> bool:
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except (ValueError, OSError):
        return False
    return True
