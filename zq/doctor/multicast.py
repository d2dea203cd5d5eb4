"""Whether mDNS can work on this host: its port, and a datagram to its group from each interface to itself.

The probe is a question for a random name that nobody has, so nobody answers. It goes out as mDNS does and is looped
back by the kernel, so it shows what this host itself does to multicast: routes, interfaces, rules of its firewall. What
the network does, only another host can tell; see `zq.doctor.remote`.
"""

from __future__ import annotations

import errno
import secrets
import select
import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path

from zq.discovery.group import PACKET, PORT, group_of, listener, shared_socket, speaker
from zq.doctor.finding import Finding, note, ok, problem, warning
from zq.doctor.holders import holders
from zq.doctor.machine import SEEDS

CHECK = "multicast"
PORT_CHECK = "port 5353"
PROBE = 0.5  # s; a looped datagram takes microseconds
QUEUED = 1_000  # datagrams of others that are read after that; a socket's buffer holds a few hundred
_TXT, _IN = 16, 1  # of DNS, RFC 1035


def examine_port(root: Path = Path("/")) -> Finding:
    """Whether zq gets UDP port 5353, which every mDNS responder shares with the others."""
    there = ", ".join(map(str, holders(PORT, "udp", root)))
    try:
        with shared_socket(socket.AF_INET) as probe:
            probe.bind(("", PORT))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return problem(PORT_CHECK, "udp", f"cannot be bound: {error.strerror}", SEEDS)
        what = f"held by {there or 'a process of another user'}, which does not share it: mDNS cannot start"
        fix = "end that process or make it share the port (avahi: disallow-other-stacks=no)"
        return problem(PORT_CHECK, "udp", what, f"{fix}; else {SEEDS}")
    return ok(PORT_CHECK, "udp", f"shared by {there}" if there else "free")


def probe(addresses: Sequence[str], duration: float = PROBE) -> dict[str, str]:
    """For each local address why a datagram to the group does not come back to this host; empty if it does."""
    waiting: dict[socket.socket, tuple[str, bytes]] = {}
    result: dict[str, str] = {}
    opened: list[socket.socket] = []
    try:
        for address in addresses:
            name = secrets.token_hex(16).encode()
            try:
                opened.append(hearing := listener(address))
                opened.append(speaking := speaker(address))
            except OSError as error:
                result[address] = f"the group cannot be joined: {error.strerror}"
                continue
            try:
                speaking.sendto(question(name), group_of(address)[1])
            except OSError as error:
                barred = error.errno in (errno.EPERM, errno.EACCES)
                why = "a firewall rule of this host forbids it" if barred else str(error.strerror)
                result[address] = f"nothing can be sent: {why}"
                continue
            waiting[hearing] = address, name
        end, late = time.monotonic() + duration, 0
        while waiting and late < QUEUED:
            left = end - time.monotonic()
            ready = select.select(list(waiting), [], [], max(left, 0.0))[0]
            if left <= 0:
                late += len(ready) or QUEUED  # the machine may have stalled: what has come meanwhile still counts
            for hearing in ready:
                address, name = waiting[hearing]
                try:
                    packet = hearing.recv(PACKET)
                except OSError:
                    continue
                if name in packet:
                    result[address] = ""
                    del waiting[hearing]
        for address, _ in waiting.values():
            result[address] = "what is sent does not come in again: a firewall rule of this host, most likely"
    finally:
        for each in opened:
            each.close()
    return result


def question(name: bytes) -> bytes:
    """An mDNS question for the text record of `name`._zq-doctor._udp.local, which nobody has."""
    labels = (name, b"_zq-doctor", b"_udp", b"local")
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack(">6H", 0, 0, 1, 0, 0, 0) + encoded + struct.pack(">2H", _TXT, _IN)


def examine_multicast(addresses: Sequence[str], results: dict[str, str], *, other_ways: bool) -> list[Finding]:
    """`other_ways`: peers are found by seeds or a shared directory as well."""
    found: list[Finding] = []
    for address in addresses:
        why = results.get(address, "")
        if address == "::1" and why:
            found.append(note(CHECK, address, "Linux has no multicast there"))
        elif why:
            worse = warning if other_ways else problem
            fix = f"allow UDP port {PORT} in this host's firewall, in and out; else {SEEDS}"
            found.append(worse(CHECK, address, why, fix))
        else:
            found.append(ok(CHECK, address, "a datagram to the group goes out and comes in, on this host"))
    return found
