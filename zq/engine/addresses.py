"""The addresses a peer listens on follow those of the machine: DHCP, cables, Wi-Fi that comes late or goes.

They are looked at once a second; what two looks in a row agree on is acted on, so that an interface that is just being
set up does not make the peer announce itself five times. A new address is bound with the ports the peer has; one that
is gone is given up, with the connections that came in on it. The rows that others are told (`Card.endpoints`) are
changed in place. A peer without a key that opens an address which others can reach says so, at every start.
"""

from __future__ import annotations

import random

import zmq

from zq.discovery.interfaces import endpoint, interface_addresses, is_loopback, zone_of
from zq.engine.doors import Doors
from zq.engine.listeners import Listeners
from zq.errors import Refused
from zq.logs import Logger
from zq.options import Settings

log = Logger("zq.discovery")


class Addresses:
    """Those that are bound `now`, and the watch over them. Belongs to the engine's thread."""

    def __init__(self, settings: Settings, doors: Doors, listeners: Listeners) -> None:
        self._settings = settings
        self._listeners = listeners
        self._rows = doors.rows
        self._port = doors.port
        self._ports = [int(each.rpartition(":")[2]) for each in doors.rows[0]] if doors.rows else []
        self._seen = self.now = list(doors.addresses)
        self._failed: set[str] = set()
        self._warned = False
        self._warn_if_open()

    @property
    def zones(self) -> list[str]:
        """The interfaces on which we use link-local addresses."""
        return list(dict.fromkeys(filter(None, map(zone_of, self.now))))

    def look(self) -> bool:
        """True if the rows have changed."""
        try:
            wanted = interface_addresses(self._settings.interfaces, at_start=False)
        except (Refused, OSError) as error:
            log.debug("the addresses of this machine cannot be seen: %s", error)
            return False
        if sorted(wanted) == sorted(self.now) or wanted != self._seen:
            self._seen = wanted
            return False
        before = list(self._rows)
        for address in [address for address in self.now if address not in wanted]:
            self._give_up(address)
        for address in [address for address in wanted if address not in self.now]:
            self._take(address)
        return self._rows != before

    def _warn_if_open(self) -> None:
        """A program that has set up no logging shows it on stderr: Python prints warnings that nobody wants."""
        reachable = [address for address in self.now if not is_loopback(address)]
        if self._settings.insecure and reachable and not self._warned:
            self._warned = True
            log.warning(
                "insecure: peer %.64r is open to everybody who reaches %s, and nothing is encrypted; "
                "key_file (ZQ_KEY_FILE) instead of insecure lets in only those who have the key",
                self._settings.name,
                ", ".join(reachable),
            )

    def _give_up(self, address: str) -> None:
        index = self.now.index(address)
        for socket, name in zip(self._listeners, self._rows[index], strict=True):
            self._unbind(socket, name)
        del self.now[index], self._rows[index]

    def _unbind(self, socket: zmq.Socket[bytes], name: str) -> None:
        self._listeners.bound.remove(name)
        try:
            socket.unbind(name)
        except zmq.ZMQError as error:
            log.debug("giving up %s: %s", name, error)  # the address is not there any more

    def _take(self, address: str) -> None:
        if not self._ports:
            low, high = self._settings.ports
            self._ports = [self._port or 0, *random.sample(range(low, high + 1), 2)]
        bound: list[str] = []
        names = [endpoint(address, port) for port in self._ports]
        try:
            for socket, name in zip(self._listeners, names, strict=True):
                self._listeners.bind(socket, name)
                bound.append(name)
        except zmq.ZMQError as error:
            for socket, name in zip(self._listeners, bound, strict=False):
                self._unbind(socket, name)
            if address not in self._failed:
                self._failed.add(address)
                log.warning("cannot listen on %s: %s; it is tried again", names[len(bound)], error)
            if not self._rows:
                self._ports = []  # nobody knows them yet: others next time
            return
        self._failed.discard(address)
        self.now.append(address)
        self._warn_if_open()
        self._rows.append(names)
