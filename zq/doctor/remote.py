"""Another host, `--peer HOST` or `--peer HOST:PORT`: can a peer there and one here meet, and if not, why not?

An ordinary peer on that host is enough; `zq doctor --listen` is one that also tells its clock.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from zq.discovery.group import plain
from zq.discovery.question import Answer
from zq.doctor.finding import Finding, note, ok, problem, warning
from zq.doctor.greeting import Greeting
from zq.doctor.machine import SEEDS
from zq.doctor.realm import Realm
from zq.errors import Refused
from zq.info import PeerInfo
from zq.options import Settings, host_and_port
from zq.wire.frames import VERSION

CHECK = "peer"
CLOCK_TOPIC = "zq/doctor/clock"  # on which `zq doctor --listen` tells its time
CLOCK_GOOD, CLOCK_FAR = 1.0, 3_600.0  # s of difference that nobody notices; that make days begin at other times
TICK = 0.2  # s between two of its messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Another host: what was asked for, its addresses, and the port if it was named."""

    name: str
    addresses: tuple[str, ...]
    port: int | None


def find_host(text: str, timeout: float) -> Host:
    """Raises Refused for what is no host, or a name that no name server knows within `timeout` seconds."""
    parts = host_and_port(text)
    name, port = parts if parts is not None else (text.strip("[]"), None)
    answer: list[tuple[str, ...]] = []
    why: list[str] = []

    def look_up(flags: int = 0) -> None:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=flags)
            answer.append(tuple(dict.fromkeys(str(each[4][0]) for each in found)))
        except (OSError, UnicodeError) as error:
            why.append(str(error))

    look_up(socket.AI_NUMERICHOST)
    if answer:  # an address needs no name server, and no thread that the machine may hold up
        return Host(name=name, addresses=answer[0], port=port)
    why.clear()
    thread = threading.Thread(target=look_up, name="zq-doctor-name", daemon=True)  # name servers take their time
    thread.start()
    thread.join(timeout)
    if not answer:
        raise Refused(f"{text}: {why[0] if why else 'no name server answers'}; give its address, or HOST:PORT")
    return Host(name=name, addresses=answer[0], port=port)


def ports_to_try(host: Host, settings: Settings, answers: Sequence[Answer]) -> list[int]:
    """Mailbox ports that may be that host's: the one named, those it announces, that of a seed, our own."""
    if host.port is not None:
        return [host.port]
    ports = [each.peer.port for each in answers if each.source in host.addresses and each.peer.port]
    for seed in settings.seeds:
        parts = host_and_port(seed)
        if parts is not None and parts[0] in (host.name, *host.addresses):
            ports.append(parts[1])
    if settings.port is not None:
        ports.append(settings.port)
    return list(dict.fromkeys(ports))


def of_host(host: Host, met: Sequence[PeerInfo]) -> list[PeerInfo]:
    """Those who were met at one of its addresses, and at its port if one was named."""
    found = []
    for each in met:
        parts = host_and_port(each.address.removeprefix("tcp://"))
        if parts is None or parts[0] not in host.addresses:
            continue
        if host.port in (None, parts[1]):
            found.append(each)
    return found


def met(host: Host, each: PeerInfo) -> Finding:
    """A peer of that host that is met."""
    where = each.address.removeprefix("tcp://")
    found_by = ", ".join(each.found_by)
    return Finding(
        check=CHECK,
        level="ok",
        subject=host.name,
        what=f"{each.name} (pid {each.pid}) is met at {where}, found by {found_by}: key, realm and version fit",
    )


def examine_ways(host: Host, answers: Sequence[Answer], *, other_ways: bool) -> list[Finding]:
    """Whether multicast passes between that host and this one, in each direction."""
    ways = {each.way for each in answers if each.source in {plain(address) for address in host.addresses}}
    if not ways:
        what = "nobody there answers mDNS: no peer runs there with mdns, or UDP port 5353 does not pass"
        return [warning(CHECK, host.name, what, f"start a peer or `zq doctor --listen` there; else {SEEDS}")]
    worse = warning if other_ways else problem
    found: list[Finding] = []
    fix = f"{SEEDS}; or let the network pass multicast (no client isolation, IGMP querier, host network)"
    if "group" in ways:
        found.append(ok(CHECK, host.name, "our multicast reaches it"))
    else:
        found.append(worse(CHECK, host.name, "our multicast does not reach it, though it answers", fix))
    if "heard" in ways:
        found.append(ok(CHECK, host.name, "its multicast reaches us"))
    else:
        found.append(worse(CHECK, host.name, "its multicast does not reach us, though it answers", fix))
    return found


def examine_reached(
    host: Host, port: int, greetings: Sequence[tuple[str, Greeting]], realm: Realm, answers: Sequence[Answer]
) -> list[Finding]:
    """Why a peer at that port was not met, from what a greeting at each address came to."""
    settings = realm.settings
    where = f"{host.name}:{port}"
    opened = [greeting for _, greeting in greetings if greeting.reached == "open"]
    if not opened:
        return [unreached(where, greetings[0][1], settings)]
    mechanism = next((greeting.mechanism for greeting in opened if greeting.mechanism), "")
    if not mechanism:
        return [problem(CHECK, where, "something listens there that is no zq peer", "the port in its ZQ_PORT")]
    expected = "CURVE" if settings.key_file is not None else "NULL"
    seen = next((each.peer for each in answers if each.source in host.addresses and each.peer.port == port), None)
    if seen is not None and not realm.is_ours(seen.tag):
        stranger = realm.explain(seen.tag, mechanism)
        return [problem(CHECK, where, f"a zq peer {stranger.what}", stranger.fix)]
    if mechanism != expected:
        stranger = realm.explain("", mechanism)
        return [problem(CHECK, where, f"a zq peer {stranger.what}", stranger.fix)]
    if seen is None:
        stranger = realm.explain("")
        what = f"a zq peer that does not meet us: {stranger.what}, or it cannot dial us back"
        fix = f"{stranger.fix}; allow TCP ports {settings.ports[0]}-{settings.ports[1]} in to this host"
        return [problem(CHECK, where, what, fix)]
    if seen.version != VERSION:
        what = f"a zq peer with protocol version {seen.version}; here it is {VERSION}"
        return [problem(CHECK, where, what, "the same version of zq on both")]
    what = "a peer of this realm that we reach, and that does not reach us: TCP does not pass from there to here"
    fix = f"allow TCP ports {settings.ports[0]}-{settings.ports[1]} in to this host, in its firewall"
    return [problem(CHECK, where, what, fix)]


def unreached(where: str, greeting: Greeting, settings: Settings) -> Finding:
    if greeting.reached == "refused":
        what = "reached, and no peer listens on that port"
        return problem(CHECK, where, what, "ZQ_PORT there, and the same port here; or start it")
    if greeting.reached == "silent":
        fix = f"allow TCP ports {settings.ports[0]}-{settings.ports[1]} in to that host, in its firewall"
        return problem(CHECK, where, "no answer over TCP: a firewall drops it, or the host is away", fix)
    return problem(
        CHECK, where, f"cannot be reached: {greeting.why}", "a route to that host, or another of its addresses"
    )


def examine_addresses(greetings: Sequence[tuple[str, int, Greeting]]) -> list[Finding]:
    """Addresses that a peer announces: one that leads nowhere does no harm beside one that leads there."""
    return [
        note(CHECK, f"{address}:{port}", f"announced, and not reached from here ({greeting.why}); others of it may be")
        for address, port, greeting in greetings
        if greeting.reached != "open"
    ]


def clock_difference(pairs: Sequence[tuple[datetime, datetime]]) -> float | None:
    """Seconds that the sender's clock is ahead, of (sent, received); that of the fastest message, which is nearest."""
    if not pairs:
        return None
    return min(((sent - received).total_seconds() for sent, received in pairs), key=abs)


def examine_clock(where: str, difference: float | None, *, dated: bool) -> Finding:
    """`dated`: a key is being replaced, on a day."""
    if difference is None:
        fix = "`zq doctor --listen` on that host, and this again"
        return note(CHECK, where, "its clock is not known: an ordinary peer does not tell it", fix)
    what = f"its clock is {abs(difference):.1f} s {'ahead of' if difference > 0 else 'behind'} this one"
    if abs(difference) < CLOCK_GOOD:
        return ok(CHECK, where, what)
    fix = "let both follow NTP"
    if abs(difference) >= CLOCK_FAR and dated:
        return problem(CHECK, where, f"{what}: the day of the new key comes at another time there", fix)
    return warning(CHECK, where, f"{what}: times in messages cannot be compared", fix)
