"""One question to the LAN: which peers of zq are there, whatever their realm? And by which way does each answer?

Nothing is announced and nobody is dialled. Two questions are asked: the group, from a port of our own, and if hosts
are named each of them, directly. A responder answers such a question directly, and repeats the answer to the group (RFC
6762 section 6.7). So three things are told apart for a host on which a peer runs: that it answers the group's question
(our multicast reaches it), that it answers the direct one (it has a responder), that its answer to the group is heard
(its multicast reaches us).
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from typing import Any, Literal

from zq.discovery.group import PACKET, PORT, group_of, listener, name_of, plain, speaker
from zq.discovery.sighting import SERVICE, Sighting, sighting
from zq.record import dataclass

WAYS = 3  # in which a host can answer; see above
AGAIN = 0.4  # s until the question is repeated: a packet may be lost
QUEUED = 1_000  # packets that are read when the time is over; a socket's buffer holds a few hundred
RECORDS = 1_024  # peers that are listed; a flood of forged records ends here

Way = Literal["group", "host", "heard"]  # an answer to the group's question, to the direct one, or to everybody


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one packet says of one peer, and where it came from."""

    source: str  # address
    way: Way
    peer: Sighting


def ask(
    addresses: Sequence[str], *, duration: float, hosts: Sequence[str] = (), host_duration: float = 0.0
) -> list[Answer]:
    """Asks from local `addresses`, and each of `hosts` (addresses) directly; returns what came in `duration` seconds.

    While not one of the hosts has answered in every way it goes on, for `host_duration` seconds in all. What has come
    while the machine stalled counts, though the time for it was over before anybody looked.

    An address from which nothing can be sent is left out: what is wrong with it, a probe of the interface tells.
    """
    packet = _question()
    ways: dict[socket.socket, Way] = {}
    sending: list[tuple[socket.socket, Any]] = []
    answers: dict[tuple[str, Way, bytes], Answer] = {}
    try:
        for address in addresses:
            try:
                family, group = group_of(address)
                ways[made := speaker(address)] = "group"
                sending.append((made, group))
                ways[listener(address)] = "heard"
            except OSError:
                continue
        for host in hosts:
            try:
                family, name = name_of(host, PORT)
                ways[made := socket.socket(family, socket.SOCK_DGRAM)] = "host"
                made.setblocking(False)
                sending.append((made, name))
            except OSError:
                continue
        began, again, late = time.monotonic(), 0.0, 0
        end = began + max(duration, host_duration if hosts else 0.0)
        while late < QUEUED:
            now = time.monotonic()
            if now >= began + duration and len({each.way for each in answers.values() if each.source in hosts}) == WAYS:
                break
            if again <= now < end:
                again = now + AGAIN
                for made, name in sending:
                    _send(made, packet, name)
            ready = select.select(list(ways), [], [], max(min(end, again) - now, 0.0))[0]
            if now >= end:
                late += len(ready) or QUEUED
            for made in ready:
                for answer in _read(made, ways[made]):
                    if len(answers) < RECORDS:
                        answers[answer.source, answer.way, answer.peer.id] = answer
    finally:
        for made in ways:
            made.close()
    return list(answers.values())


def _send(made: socket.socket, packet: bytes, name: Any) -> None:
    try:
        made.sendto(packet, name)
    except OSError:
        pass  # no route, or a rule of this host: no answer will come, and that is what is told


def _read(made: socket.socket, way: Way) -> list[Answer]:
    try:
        packet, name = made.recvfrom(PACKET)
    except OSError:
        return []  # gone meanwhile, or the host says that nobody listens
    source = plain(str(name[0]))
    return [Answer(source=source, way=way, peer=peer) for peer in _peers(packet, source)]


def _question() -> bytes:
    from zeroconf._dns import DNSQuestion
    from zeroconf._protocol.outgoing import DNSOutgoing
    from zeroconf.const import _CLASS_IN, _FLAGS_QR_QUERY, _TYPE_PTR

    out = DNSOutgoing(_FLAGS_QR_QUERY)
    out.add_question(DNSQuestion(SERVICE, _TYPE_PTR, _CLASS_IN))
    return out.packets()[0]


def _peers(packet: bytes, source: str) -> list[Sighting]:
    """The peers that a packet speaks of; what makes no sense is passed over, for anybody can send it."""
    from zeroconf import ServiceInfo
    from zeroconf._dns import DNSAddress, DNSService, DNSText
    from zeroconf._protocol.incoming import DNSIncoming
    from zeroconf.const import _FLAGS_QR_MASK, _FLAGS_QR_RESPONSE

    message = DNSIncoming(packet)
    if not message.valid or message.flags & _FLAGS_QR_MASK != _FLAGS_QR_RESPONSE:
        return []
    records = message.answers()
    texts = {record.name: record.text for record in records if isinstance(record, DNSText)}
    found: list[Sighting] = []
    for service in [record for record in records if isinstance(record, DNSService)]:
        if not service.name.endswith(SERVICE):
            continue
        addresses = [
            socket.inet_ntop(socket.AF_INET if len(record.address) == 4 else socket.AF_INET6, record.address)
            for record in records
            if isinstance(record, DNSAddress) and record.name == service.server
        ]
        loopback = source.startswith("127.") or source == "::1"
        try:
            info = ServiceInfo(SERVICE, service.name, properties=texts.get(service.name, b""))
            seen = sighting(service.name, info.properties, service.port, addresses, loopback=loopback)
        except ValueError:
            continue
        if seen is not None:
            found.append(seen)
    return found
