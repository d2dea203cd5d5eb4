"""Plain sockets in the multicast group of mDNS (RFC 6762), beside those that python-zeroconf has for itself.

Who listens is bound to the group's own address, so that of what is sent to port 5353 nothing meant for another process
comes in here. Who speaks has a port of his own: an answer to him is sent to that port alone ("legacy", section 6.7).
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

PORT = 5_353
GROUPS = {socket.AF_INET: "224.0.0.251", socket.AF_INET6: "ff02::fb"}
PACKET = 9_000  # bytes; the longest that mDNS allows, RFC 6762 section 17


def name_of(address: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """The family of an address, and the address and port as the socket calls want them. OSError for what is none."""
    family, _, _, _, name = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)[0]
    return family, name


def group_of(address: str) -> tuple[socket.AddressFamily, Any]:
    """The group that is reached from a local address, IPv6 on its interface."""
    family, name = name_of(address, PORT)
    return family, (GROUPS[family], *name[1:])


def shared_socket(family: socket.AddressFamily) -> socket.socket:
    """One that does not mind others on its port, as every mDNS responder has it."""
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made


def listener(address: str) -> socket.socket:
    """Hears what comes to the group through the interface of `address`. Raises OSError; EADDRINUSE if the port is taken
    by somebody who does not share it."""
    family, group = group_of(address)
    made = shared_socket(family)
    try:
        made.bind(group)
        if family == socket.AF_INET:
            joined = socket.inet_aton(GROUPS[family]) + socket.inet_aton(address)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
            if hasattr(socket, "IP_MULTICAST_ALL"):
                made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_ALL, 0)  # what others have joined is theirs
        else:
            joined = socket.inet_pton(family, GROUPS[family]) + index_of(address).to_bytes(4, "little")
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, joined)
    except OSError:
        made.close()
        raise
    made.setblocking(False)
    return made


def speaker(address: str) -> socket.socket:
    """Sends to the group through the interface of `address`, from a port of its own. Raises OSError."""
    family, name = name_of(address, 0)
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.bind(name)
        if family == socket.AF_INET:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)  # RFC 6762 section 11
        else:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index_of(address))
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    except OSError:
        made.close()
        raise
    made.setblocking(False)
    return made


def index_of(address: str) -> int:
    """The number of the interface that an IPv6 address says it is of; 0, any, if it does not say."""
    zone = address.partition("%")[2]
    return socket.if_nametoindex(zone) if zone else 0


def plain(address: str) -> str:
    """An address without its scope, and IPv4 as IPv4 even where it came in through IPv6."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
