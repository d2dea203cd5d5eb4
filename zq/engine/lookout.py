"""Discovery as the engine runs it: the rungs that the settings name, each telling the node whom it has found.

The host directory is read by the engine's own thread, at once and then every second; mDNS has a thread of its own,
which is started off the critical path and reports through the engine's mailbox of calls. Settled (what `NoPeer` and
short-lived publishers wait for): the directory has been read and, with mDNS, 0.3 s have passed since its first
question.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zq.core.node import Node
from zq.discovery.host import Entry, HostDirectory
from zq.discovery.place import directories
from zq.engine.doors import Doors
from zq.options import Settings
from zq.security.lock import Lock
from zq.wire.frames import VERSION

if TYPE_CHECKING:
    from zq.discovery.mdns import Mdns, Sighting

log = logging.getLogger("zq.discovery")

SCAN = 1.0  # s between looks into the host directory; newcomers dial everyone in it, so this is only a second chance
STRANGERS = 4_096  # peers of other realms that are counted; then the oldest are forgotten
LISTEN = 0.3  # s after the first mDNS question in which answers come; measured 36-206 ms


class Lookout:
    """All rungs of one peer. Belongs to the engine's thread, but for what it passes to `later`."""

    def __init__(
        self, settings: Settings, later: Callable[[Callable[[], None]], None], lock: Lock | None = None
    ) -> None:
        self.forged = 0  # records that carry our tag and were not written by somebody with the key
        self._strangers: OrderedDict[bytes, None] = OrderedDict()  # ids of other realms; heard of last, last
        self._lock = lock
        self._settings = settings
        self._later = later
        self._host: HostDirectory | None = None
        self._mdns: Mdns | None = None
        self._node: Node | None = None
        self._tag = ""
        self._listening_until: float | None = None
        self._asked = True
        self.directory: Path | None = None
        if "host" in settings.discovery or not settings.networked:
            self._host = HostDirectory(directories(settings.host_dir))
            self.directory = self._host.directory

    def start(self, node: Node, doors: Doors, now: float) -> None:
        """Makes this peer visible, then looks for others."""
        self._node = node
        self._tag = node.card.tag.hex() if self._lock is None else self._lock.tag
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
            if self._is_ours(entry.id, entry.tag):
                self._node.meeting.found(entry.id, entry.endpoints, "host", now)
        self._node.timers.set("scan", now + SCAN, self._scan_again)

    def _scan_again(self, now: float) -> None:
        assert self._host is not None
        self._host.tend(now)
        self._scan(now)

    # --- who is of our realm

    @property
    def strangers(self) -> int:
        """Peers that were seen and are of another realm."""
        return len(self._strangers)

    def _is_ours(self, id: bytes, tag: str) -> bool:
        if tag == self._tag or (self._lock is not None and self._lock.knows(tag)):
            return True
        self._strangers[id] = None
        self._strangers.move_to_end(id)
        while len(self._strangers) > STRANGERS:
            self._strangers.popitem(last=False)
        return False

    def _is_proven(self, sighting: Sighting) -> bool:
        """Anybody on the LAN can write a record; only those with the key can write its proof."""
        if self._lock is None or self._lock.proves(sighting.tag, sighting.proven_text, sighting.proof):
            return True
        self.forged += 1
        if self.forged == 1:
            log.warning(
                "an mDNS record of %s claims to be of our realm, and was written without the key", sighting.id.hex()[:8]
            )
        return False

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
            proof=None if self._lock is None else self._lock.proof,
            found=lambda sighting: self._later(lambda: self._on_sighting(sighting)),
            asked=lambda: self._later(self._on_asked),
        )
        self._mdns.start()

    def _on_sighting(self, sighting: Sighting) -> None:
        node = self._node
        assert node is not None
        if self._is_ours(sighting.id, sighting.tag) and self._is_proven(sighting):
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
