"""Endpoints as peers tell them to each other: which of them mean something to whom.

A loopback address is this host's alone, and so is the scope of an IPv6 link-local one (`fe80::1%eth0`): the interface
may have another name on the other side of the cable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

TCP = "tcp://"
ROWS = 256  # addresses that are told; of one peer 16 are dialled
_LOOPBACK = ("tcp://127.", "tcp://[::1]", "tcp://localhost:")
_LINK_LOCAL = ("tcp://[fe8", "tcp://[fe9", "tcp://[fea", "tcp://[feb")  # fe80::/10


def is_local(endpoint: str) -> bool:
    """Whether it is for this host alone: loopback, or no network address at all."""
    return not endpoint.startswith(TCP) or endpoint.startswith(_LOOPBACK)


def is_file(endpoint: str) -> bool:
    """Whether it is a Unix socket, whose path has its peer's id: nobody else is ever there."""
    return not endpoint.startswith(TCP)


def is_link_local(endpoint: str) -> bool:
    return endpoint.lower().startswith(_LINK_LOCAL)


def tellable(rows: Sequence[list[str]], reached: str) -> list[list[str]]:
    """Those of our rows that are told to whom we dial at `reached`: what is for this host stays on it.

    A peer that has nothing else tells it all the same: it is nowhere else. At most ROWS.
    """
    abroad = [] if is_local(reached) else [row for row in rows if not is_local(row[0])]
    return (abroad or list(rows))[:ROWS]


def at_host_of(reached: str, told: str) -> str:
    """The endpoint `told` on the host part of `reached`: behind a forwarded port only that address leads there."""
    host, _, _ = reached.rpartition(":")
    port = told.rpartition(":")[2]
    return f"{host}:{port}" if reached.startswith(TCP) and told.startswith(TCP) and port.isdecimal() else told


def in_zones(endpoints: Iterable[str], zones: Sequence[str]) -> list[str]:
    """`endpoints` with each link-local address as it may be reached from here: through each of our `zones`.

    One that somebody tells has the scope of his interface or none. Without zones it leads nowhere and is left out.
    """
    reachable: list[str] = []
    for endpoint in endpoints:
        address, bracket, port = endpoint.partition("]")
        if is_link_local(endpoint) and bracket:
            plain = address.partition("%")[0]
            reachable += [f"{plain}%{zone}]{port}" for zone in zones]
        else:
            reachable.append(endpoint)
    return reachable
