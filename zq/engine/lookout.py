"""Discovery as the engine runs it: the rungs that the settings name, each telling the node whom it has found.

The host directory is read by the engine's own thread, at once and then every second; mDNS has a thread of its own,
which is started off the critical path and reports through the engine's mailbox of calls. Settled (what `NoPeer` and
short-lived publishers wait for): the directory has been read and, with mDNS, 0.3 s have passed since its first
question.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zq.core.node import Node
from zq.discovery.host import Entry, HostDirectory
from zq.discovery.place import directories
from zq.engine.doors import Doors
from zq.options import Settings
from zq.wire.frames import VERSION

if TYPE_CHECKING:
    from zq.discovery.mdns import Mdns, Sighting

log = logging.getLogger("zq.discovery")

SCAN = 1.0  # s between looks into the host directory; newcomers dial everyone in it, so this is only a second chance
LISTEN = 0.3  # s after the first mDNS question in which answers come; measured 36-206 ms


class Lookout:
    """All rungs of one peer. Belongs to the engine's thread, but for what it passes to `later`."""

    def __init__(self, settings: Settings, later: Callable[[Callable[[], None]], None]) -> None:
        self._settings = settings
        self._later = later
        self._host: HostDirectory | None = None
        self._mdns: Mdns | None = None
        self._node: Node | None = None
        self._tag = ""
        self._listening_until: float | None = None
        self._asked = True
        self.directory: Path | None = None
        if "host" in settings.discovery or not settings.insecure:
            self._host = HostDirectory(directories(settings.host_dir))
            self.directory = self._host.directory

    def start(self, node: Node, doors: Doors, now: float) -> None:
        """Makes this peer visible, then looks for others."""
        self._node = node
        self._tag = node.card.tag.hex()
        mailboxes = tuple(row[0] for row in doors.rows)
        if self._host is not None and "host" in self._settings.discovery:
            self._host.announce(
                Entry(id=node.card.id, tag=self._tag, endpoints=mailboxes, version=VERSION, name=node.card.name)
            )
            self._scan(now)
        if "mdns" in self._settings.discovery and doors.port is not None:
            self._start_mdns(node, doors.addresses, doors.port)
        self._settle(now)

    def look_again(self, now: float) -> None:
        """Whoever has come into the host directory since the last look is met before this peer is settled again."""
        if self._host is not None and "host" in self._settings.discovery:
            self._scan(now)

    def _scan(self, now: float) -> None:
        assert self._node is not None
        assert self._host is not None
        for entry in self._host.scan():
            if entry.tag == self._tag:
                self._node.meeting.found(entry.id, entry.endpoints, "host", now)
        self._node.timers.set("scan", now + SCAN, self._scan_again)

    def _scan_again(self, now: float) -> None:
        assert self._host is not None
        self._host.tend(now)
        self._scan(now)

    # --- mDNS

    def _start_mdns(self, node: Node, addresses: Sequence[str], port: int) -> None:
        from zq.discovery.mdns import Mdns  # it brings zeroconf and asyncio: only where a network is used

        self._asked = False
        self._mdns = Mdns(
            id=node.card.id,
            tag=self._tag,
            port=port,
            version=VERSION,
            addresses=addresses,
            found=lambda sighting: self._later(lambda: self._on_sighting(sighting)),
            asked=lambda: self._later(self._on_asked),
        )
        self._mdns.start()

    def _on_sighting(self, sighting: Sighting) -> None:
        node = self._node
        assert node is not None
        if sighting.tag == self._tag:
            node.meeting.found(sighting.id, sighting.endpoints, "mdns", node.now)

    def _on_asked(self) -> None:
        assert self._node is not None
        self._asked = True
        self._settle(self._node.now)

    def _settle(self, now: float) -> None:
        assert self._node is not None
        if not self._asked:
            return
        if self._mdns is None:
            self._node.discovered = True
        else:
            self._node.timers.set("listened", now + LISTEN, self._listened)

    def _listened(self, now: float) -> None:
        assert self._node is not None
        self._node.discovered = True

    # --- the end

    def close(self) -> None:
        """Withdraws: nobody new finds us. mDNS says its goodbye; a second at the most."""
        if self._mdns is not None:
            self._mdns.close()
        if self._host is not None:
            self._host.close()

    def abandon(self) -> None:
        """In a forked child."""
        if self._host is not None:
            self._host.abandon()
