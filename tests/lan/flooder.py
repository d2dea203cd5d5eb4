"""A host without the key that fills the LAN with forged mDNS records, as many as it is told, of every kind.

Each packet is another, so that none is passed over as a repetition: of peers that there are none of, and of one that
there is, with other addresses; every record says "forget what you had", and one in four is a goodbye.
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import struct
import time

from tests.processes.roles import listen, role, say

GROUP, PORT = "224.0.0.251", 5353  # RFC 6762
SERVICE = (b"_zq", b"_tcp", b"local")
PTR, TXT, SRV, A = 12, 16, 33, 1
FLUSH = 0x8001  # class IN, and what was heard before is to be forgotten
_HEADER, _RECORD = struct.Struct(">6H"), struct.Struct(">HHIH")


@role
def flooder(address: str, tag: str, victim: str) -> None:
    """Says `ready`; then for each `[port, packets a second, seconds]` says how many it has sent there."""
    os.nice(19)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        out.bind((address, PORT))
        say("ready")
        numbers = itertools.count()
        while (word := listen()) is not None:
            port, rate, seconds = word
            began, sent = time.monotonic(), 0
            while sent < rate * seconds:
                out.sendto(packet(next(numbers), tag, victim), (GROUP, port))
                sent += 1
                time.sleep(max(began + sent / rate - time.monotonic(), 0.0))  # the rate that was asked for
            say(sent)


def packet(number: int, tag: str, victim: str) -> bytes:
    id = victim if number % 2 else secrets.token_hex(16)
    lifetime = 0 if number % 4 == 3 else 120
    instance, host = name(id.encode(), *SERVICE), name(id.encode(), b"local")
    said = ("v=1", f"id={id}", f"tag={tag}", "port=20000", f"proof={secrets.token_hex(32)}")
    text = b"".join(bytes([len(each)]) + each.encode() for each in said)
    records = (
        record(name(*SERVICE), PTR, FLUSH, lifetime, instance),
        record(instance, SRV, FLUSH, lifetime, struct.pack(">3H", 0, 0, 20_000) + host),
        record(instance, TXT, FLUSH, lifetime, text),
        record(host, A, FLUSH, lifetime, bytes((10, 77, number >> 8 & 255, number & 255))),
    )
    return _HEADER.pack(0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def name(*labels: bytes) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def record(owner: bytes, kind: int, family: int, lifetime: int, data: bytes) -> bytes:
    return owner + _RECORD.pack(kind, family, lifetime, len(data)) + data
