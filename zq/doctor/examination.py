"""All checks in their order, within a bounded time.

The settings come first: what they are, what they open. Then this machine, its directories, and, if a network is open,
its interfaces, the port and group of mDNS, the firewall, who answers on the LAN. Then a peer is opened with these very
settings, and sees what it sees; with another host named, that host is asked for and called. What cannot be looked at
says so in a finding; nothing here raises because a system is odd.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zq.blocking.peer import Peer
from zq.discovery.question import Answer, ask
from zq.discovery.shared import shared_directories
from zq.discovery.sighting import Sighting
from zq.doctor.finding import Finding, failure, note, problem, warning
from zq.doctor.firewall import examine_firewall, nft_rules
from zq.doctor.greeting import Greeting, greet
from zq.doctor.machine import descriptors, surroundings
from zq.doctor.multicast import PORT_CHECK, examine_multicast, examine_port, probe
from zq.doctor.networks import examine_interfaces, interfaces, usable_addresses
from zq.doctor.places import examine_host_directory, examine_shared
from zq.doctor.realm import Realm, examine_met, examine_mode, examine_settings, examine_sightings
from zq.doctor.remote import (
    CLOCK_TOPIC,
    TICK,
    Host,
    clock_difference,
    examine_addresses,
    examine_clock,
    examine_reached,
    examine_ways,
    find_host,
    met,
    of_host,
    ports_to_try,
)
from zq.errors import Error, Refused, Timeout
from zq.info import PeerInfo
from zq.options import Settings, host_and_port, load
from zq.security.keys import today

DURATION = 5.0  # s for all of it, unless more or less is given
ASK, ASK_HOST = 0.7, 1.7  # s in which answers come; a responder repeats one to the group after a second at the earliest
NAME, GREET, CLOCK, SHARED = 1.0, 0.7, 1.0, 1.0  # s at most for a name server, a TCP port, a clock, a file system
GREETED = 4  # strangers whose doors are looked at
OPENINGS = 3  # tries to find a free port for our own peer
CLOSE = 0.5  # s for our own peer to leave; it holds nothing of anybody


def examine(
    settings: Mapping[str, Any], *, peer: str | None = None, timeout: float = DURATION, root: Path = Path("/")
) -> list[Finding]:
    """Everything found, in the order of the checks; takes some `timeout` seconds at most.

    `settings` are arguments of `zq.Peer`; what they leave out comes from the environment and the settings file. `peer`
    is another host, as `HOST` or `HOST:PORT`. `root` is where `/proc` and `/sys` are. Never raises for what it finds.
    """
    try:
        loaded = load(**settings)
    except Error as error:
        return [failure("settings", "all", error), *surroundings(root), descriptors()]
    return Examination(settings, loaded, time.monotonic() + timeout, root).run(peer)


class Examination:
    """One examination under way."""

    def __init__(self, arguments: Mapping[str, Any], settings: Settings, end: float, root: Path) -> None:
        self._arguments = arguments
        self._settings = settings
        self._end = end
        self._root = root
        self._findings: list[Finding] = []
        self._addresses: list[str] = []
        self._answers: list[Answer] = []
        self._met: list[PeerInfo] = []
        self._clocks: list[tuple[datetime, datetime]] = []
        self._other_ways = bool(settings.seeds or shared_directories(settings.discovery))

    def _left(self, most: float) -> float:
        """Seconds for one step; a step that comes too late still gets a little, so that all are bounded."""
        return max(min(self._end - time.monotonic(), most), 0.05)

    def run(self, peer: str | None) -> list[Finding]:
        settings, found = self._settings, self._findings
        found += examine_settings(settings)
        try:
            realm = Realm(settings, today())
        except Error as error:
            found.append(failure("realm", "key", error))
            return [*found, *surroundings(self._root), descriptors()]
        found += examine_mode(realm, today())
        found += surroundings(self._root)
        self._look_into_directories(realm)
        if settings.networked:
            self._look_at_networks()
            host = self._find(peer)
            self._ask(realm, host)
            self._meet(realm, host)
            if host is not None:
                self._examine_host(realm, host)
        elif peer is not None:
            fix = "ZQ_KEY_FILE=realm.key, the same file on both"
            found.append(problem("peer", peer, "no network is open here, so that no other host can be met", fix))
        found.append(descriptors(len(self._met)))
        return found

    # --- this machine

    def _look_into_directories(self, realm: Realm) -> None:
        if "host" in self._settings.discovery or not self._settings.networked:
            found, sightings = examine_host_directory(self._settings)
            self._findings += found
            if sightings:
                self._findings += examine_sightings(realm, by_id(sightings), {}, way="host directory")
        for place in shared_directories(self._settings.discovery):
            looked = within(lambda place=place: examine_shared(place), self._left(SHARED))  # type: ignore[misc]
            if looked is None:
                fix = "another directory with dir:PATH, or wait for its server"
                self._findings.append(problem("directory", str(place), "its file system does not answer", fix))
                continue
            found, sightings = looked
            self._findings += found
            self._findings += examine_sightings(realm, by_id(sightings), {}, way=str(place))

    def _look_at_networks(self) -> None:
        settings, found = self._settings, self._findings
        mdns = "mdns" in settings.discovery
        self._addresses, wrong = usable_addresses(settings.interfaces)
        found += wrong
        if not wrong:
            found += examine_interfaces(interfaces(self._root), settings.interfaces, mdns=mdns)
        found += examine_firewall(nft_rules(), settings.ports, self._root)
        if not mdns:
            what = "mdns is not among the ways to be found (ZQ_DISCOVERY): multicast is not looked at"
            found.append(note("multicast", "mdns", what))
            return
        port = examine_port(self._root)
        found.append(port)
        if port.level != "problem":
            found += examine_multicast(self._addresses, probe(self._addresses), other_ways=self._other_ways)

    # --- the LAN

    def _find(self, peer: str | None) -> Host | None:
        if peer is None:
            return None
        try:
            return find_host(peer, self._left(NAME))
        except Refused as error:
            self._findings.append(failure("peer", peer, error))
            return None

    def _ask(self, realm: Realm, host: Host | None) -> None:
        """Who is on the LAN, whatever the realm."""
        if "mdns" not in self._settings.discovery or any(
            each.check == PORT_CHECK and each.level == "problem" for each in self._findings
        ):
            return
        hosts = () if host is None else host.addresses
        self._answers = ask(self._addresses, duration=self._left(ASK), hosts=hosts, host_duration=self._left(ASK_HOST))
        sightings = by_id(answer.peer for answer in self._answers)
        mechanisms: dict[bytes, str] = {}
        for seen in [seen for seen in sightings.values() if not realm.is_ours(seen.tag)][:GREETED]:
            parts = host_and_port(seen.endpoints[0].removeprefix("tcp://"))
            if parts is not None:
                mechanisms[seen.id] = greet(*parts, self._left(GREET)).mechanism
        self._findings += examine_sightings(realm, sightings, mechanisms, way="mDNS")

    def _meet(self, realm: Realm, host: Host | None) -> None:
        """Opens a peer with these settings, the other host as a seed, and sees whom it meets."""
        check = "peers"
        try:
            opened = self._open(host)
        except Error as error:
            finding = failure(check, "start", error)
            self._findings.append(finding)
            return
        try:
            with opened.subscriber(CLOCK_TOPIC, slow="latest") as clock:
                try:
                    opened.settle(timeout=self._left(DURATION))
                except Timeout:
                    self._findings.append(warning(check, "settled", "not everybody who was found has answered in time"))
                self._met = opened.peers()
                if host is not None:
                    there = [each for each in of_host(host, self._met) if CLOCK_TOPIC in each.publishes]
                    self._hear_clock(clock, {each.id for each in there})
            if count := opened.strangers():
                self._findings.append(note(check, "strangers", f"{count:,} zq peers near are not of this realm"))
        except Error as error:
            self._findings.append(failure(check, "meeting", error))
        finally:
            try:
                opened.close(timeout=CLOSE)
            except Error as error:
                self._findings.append(note(check, "end", str(error)))
        self._findings += examine_met(self._met)

    def _open(self, host: Host | None) -> Peer:
        """Our own peer; it leaves the fixed port to the service that it is for."""
        arguments = dict(self._arguments) | {"name": self._arguments.get("name") or f"doctor-{os.getpid()}"}
        if host is not None:
            ports = ports_to_try(host, self._settings, self._answers)
            named = [
                f"[{each}]:{port}" if ":" in each else f"{each}:{port}" for each in host.addresses for port in ports
            ]
            if named:
                arguments["seeds"] = [*self._settings.seeds, *named]
        for left in reversed(range(OPENINGS)):
            if self._settings.port is not None:
                arguments["port"] = random.randint(*self._settings.ports)
            try:
                return Peer(**arguments).open(timeout=self._left(DURATION))
            except Refused as error:
                if left == 0 or self._settings.port is None or "in use" not in str(error):
                    raise
        raise AssertionError("unreachable")

    def _hear_clock(self, clock: Any, there: set[bytes]) -> None:
        end = time.monotonic() + self._left(CLOCK)
        while there and len(self._clocks) < 3 and (left := end - time.monotonic()) > 0:
            try:
                message = clock.receive(timeout=left)
            except Timeout:
                return
            if message.sender in there:
                self._clocks.append((message.sent_at, datetime.now(UTC)))

    # --- the other host

    def _examine_host(self, realm: Realm, host: Host) -> None:
        found = self._findings
        there = of_host(host, self._met)
        if "mdns" in self._settings.discovery:
            found += examine_ways(host, self._answers, other_ways=self._other_ways)
        ports = ports_to_try(host, self._settings, self._answers)
        for each in there:
            found.append(met(host, each))
        if not there and not ports:
            fix = f"--peer {host.name}:PORT, with ZQ_PORT=PORT there"
            found.append(problem("peer", host.name, "no peer is met there, and no port of one is known", fix))
        elif not there:
            port = ports[0]
            greetings = [(address, greet(address, port, self._left(GREET))) for address in host.addresses[:GREETED]]
            found += examine_reached(host, port, greetings, realm, self._answers)
        found += examine_addresses(self._announced(host))
        if there:
            difference = clock_difference(self._clocks)
            dated = realm.keys is not None and realm.keys.until is not None
            found.append(examine_clock(host.name, difference, dated=dated))

    def _announced(self, host: Host) -> list[tuple[str, int, Greeting]]:
        """The other addresses that a peer of that host announces, each called."""
        mine = {each.peer.id: each.peer for each in self._answers if each.source in host.addresses}
        others: dict[tuple[str, int], None] = {}
        for seen in mine.values():
            for endpoint in seen.endpoints:
                parts = host_and_port(endpoint.removeprefix("tcp://"))
                if parts is not None and parts[0] not in host.addresses:
                    others[parts] = None
        return [(*each, greet(*each, self._left(GREET))) for each in list(others)[:GREETED]]


def by_id(sightings: Any) -> dict[bytes, Sighting]:
    return {seen.id: seen for seen in sightings}


def within(
    look: Callable[[], tuple[list[Finding], list[Sighting]]], timeout: float
) -> tuple[list[Finding], list[Sighting]] | None:
    """What `look` returns; None if it takes longer: a file system whose server is away blocks whoever asks."""
    done: list[tuple[list[Finding], list[Sighting]]] = []
    thread = threading.Thread(target=lambda: done.append(look()), name="zq-doctor-look", daemon=True)
    thread.start()
    thread.join(timeout)
    return done[0] if done else None


def listen(settings: Mapping[str, Any], *, until: Callable[[float], bool], began: Callable[[str], None]) -> None:
    """A peer for the doctor of another host: it is there, and tells its clock.

    `until` is called with the seconds to wait and returns True at the end; `began` with the peer's name, once, when it
    can be found.
    """
    with Peer(**dict(settings)) as peer, peer.publisher(CLOCK_TOPIC) as clock:
        try:
            peer.settle(timeout=DURATION)
        except Timeout:
            pass  # somebody who was found does not answer: those who look for this one find it all the same
        began(peer.name)
        while not until(TICK):
            clock.send(None)
