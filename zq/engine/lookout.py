"""Discovery as the engine runs it: the rungs that the settings name, each telling the node whom it has found.

The host directory is read by the engine's own thread, at its first turn and then every second. mDNS, shared directories
and the resolving of names have threads of their own, which report through the engine's mailbox of calls. Settled (what
`NoPeer` and short-lived publishers wait for): the host directory has been read, a shared one has too or does not answer
within a second, and with mDNS 0.3 s have passed since its first question; seeds and whoever was found are the node's
affair.

Every second the lookout also looks at itself: whether the addresses have changed, whether the machine has slept,
whether the mDNS thread still lives. Then it announces again, under the new addresses, and dials again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zq.core.node import Node
from zq.discovery.host import Entry, HostDirectory
from zq.discovery.place import directories
from zq.discovery.sleep import Sleep
from zq.engine.addresses import Addresses
from zq.engine.doors import Doors
from zq.engine.sockets import Sockets
from zq.logs import Logger
from zq.options import Settings
from zq.wire.frames import VERSION

if TYPE_CHECKING:
    from zq.discovery.mdns import Mdns
    from zq.discovery.shared import SharedDirectory
    from zq.discovery.sighting import Sighting
    from zq.security.lock import Lock

log = Logger("zq.discovery")

SCAN = 1.0  # s between looks into the host directory; newcomers dial everyone in it, so this is only a second chance
STRANGERS = 4_096  # peers of other realms that are counted; then the oldest are forgotten
LISTEN = 0.3  # s after the first mDNS question in which answers come; measured 36-206 ms
SHARED_ANSWER = 1.0  # s a shared directory has for the first look before nobody waits for it
WATCH = 1.0  # s between looks at the addresses, the clock, and the mDNS thread


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
        self._shared: list[SharedDirectory] = []
        self._addresses: Addresses | None = None
        self._sleep = Sleep()
        self._node: Node | None = None
        self._doors: Doors | None = None
        self._sockets: Sockets | None = None
        self._tag = ""
        self._unsettled: set[str] = set()  # rungs that have not had their first look yet
        self.directory: Path | None = None
        if "host" in settings.discovery or not settings.networked:
            self._host = HostDirectory(directories(settings.host_dir))
            self.directory = self._host.directory

    def start(self, node: Node, doors: Doors, sockets: Sockets, now: float) -> None:
        """Makes this peer visible, then looks for others."""
        self._node, self._doors, self._sockets = node, doors, sockets
        self._tag = node.card.tag.hex() if self._lock is None else self._lock.tag
        if self._host is not None and "host" in self._settings.discovery:
            self._host.announce(self._entry(node))
            self._unsettled.add("host")
            self._later(self._look_first)
        if doors.port is not None:
            self._addresses = Addresses(self._settings, doors, sockets.listeners)
            node.meeting.zones = self._addresses.zones
            self._start_shared(node, now)
            if "mdns" in self._settings.discovery:
                self._unsettled.add("mdns")
                self._start_mdns(node)
            self._start_seeds(node, now)
            node.timers.set("watch", now + WATCH, self._watch)
        node.discovered = not self._unsettled

    def _entry(self, node: Node) -> Entry:
        mailboxes = tuple(row[0] for row in node.card.endpoints)
        return Entry(id=node.card.id, tag=self._tag, endpoints=mailboxes, version=VERSION, name=node.card.name)

    def _had_its_look(self, rung: str) -> None:
        assert self._node is not None
        self._unsettled.discard(rung)
        self._node.discovered = not self._unsettled

    # --- host directory

    def look_again(self, now: float) -> None:
        """Whoever has come into the host directory since the last look is met before this peer is settled again."""
        if self._host is not None and "host" in self._settings.discovery:
            self._scan(now)

    def _scan(self, now: float) -> None:
        assert self._node is not None
        assert self._host is not None
        assert self._sockets is not None
        meeting = self._node.meeting
        known = {remote.id.hex()[:16] for remote in meeting.roster if "host" in remote.found_by and not remote.pursued}
        entries = self._host.scan(known)
        self._sockets.crowd = len(known) + len(entries)
        for entry in entries:
            if self._is_ours(entry.id, entry.tag):
                meeting.found(entry.id, entry.endpoints, "host", now)
        self._node.timers.set("scan", now + SCAN, self._scan_again)

    def _look_first(self) -> None:
        """Once our doors are said to be open: where hundreds start at once, calling them all takes seconds."""
        assert self._node is not None
        self._scan(self._node.now)
        self._had_its_look("host")

    def _scan_again(self, now: float) -> None:
        assert self._host is not None
        self._host.tend(now)
        self._scan(now)

    # --- who is of our realm

    @property
    def strangers(self) -> int:
        """Peers that were seen and are of another realm."""
        return len(self._strangers)

    @property
    def announced(self) -> Sequence[str]:
        """The addresses that mDNS uses; none without it."""
        return self._mdns.announced if self._mdns is not None else ()

    def note(self, sightings: Iterable[Sighting]) -> None:
        """Somebody has asked who is there: those of other realms count."""
        for sighting in sightings:
            self._is_ours(sighting.id, sighting.tag)

    def _is_tag_ours(self, tag: str) -> bool:
        return tag == self._tag or (self._lock is not None and self._lock.knows(tag))

    def _is_ours(self, id: bytes, tag: str) -> bool:
        if self._is_tag_ours(tag):
            return True
        self._strangers[id] = None
        self._strangers.move_to_end(id)
        while len(self._strangers) > STRANGERS:
            self._strangers.popitem(last=False)
        return False

    def _is_proven(self, sighting: Sighting) -> bool:
        """Anybody on the LAN can write a record of our realm; only those with the key can write its proof."""
        if self._lock is None or not self._lock.knows(sighting.tag):
            return True
        if self._lock.proves(sighting.tag, sighting.proven_text, sighting.proof):
            return True
        self.forged += 1
        if self.forged == 1:
            log.warning(
                "an mDNS record of %s claims to be of our realm, and was written without the key", sighting.id.hex()[:8]
            )
        return False

    # --- shared directories

    def _start_shared(self, node: Node, now: float) -> None:
        if not any(":" in rung for rung in self._settings.discovery):
            return
        from zq.discovery.shared import SharedDirectory, shared_directories  # few peers have one

        for path in shared_directories(self._settings.discovery):
            rung = str(path)

            def looked(rung: str = rung) -> None:
                self._later(lambda: self._had_its_look(rung))

            shared = SharedDirectory(path, found=self._on_entry, looked=looked)
            self._unsettled.add(rung)
            node.timers.set(
                ("looked", rung),
                now + SHARED_ANSWER,
                lambda when, rung=rung: self._had_its_look(rung),  # type: ignore[misc]
            )
            shared.start(self._entry(node))
            self._shared.append(shared)

    def _on_entry(self, entry: Entry) -> None:
        """In the directory's thread."""
        self._later(lambda: self._find(entry.id, entry.tag, entry.endpoints, "dir"))

    def _find(self, id: bytes, tag: str, endpoints: tuple[str, ...], rung: str) -> None:
        assert self._node is not None
        if self._is_ours(id, tag):
            self._node.meeting.found(id, endpoints, rung, self._node.now)

    # --- seeds

    def _start_seeds(self, node: Node, now: float) -> None:
        if not self._settings.seeds:
            return
        from zq.discovery.resolver import Resolver

        resolver = Resolver(lambda seed, endpoints: self._later(lambda: node.seeds.resolved(seed, endpoints, node.now)))
        node.seeds.resolve = resolver.ask
        node.seeds.add(self._settings.seeds, now)

    # --- mDNS

    def _start_mdns(self, node: Node) -> None:
        from zq.discovery.mdns import Mdns  # it brings zeroconf and asyncio: only where a network is used

        assert self._doors is not None
        assert self._doors.port is not None
        assert self._addresses is not None
        if not self._addresses.now:
            self._on_asked()  # nobody to ask: no address yet
            return
        self._mdns = Mdns(
            id=node.card.id,
            tag=self._tag,
            port=self._doors.port,
            version=VERSION,
            addresses=self._addresses.now,
            proof=None if self._lock is None else self._lock.proof,
            found=self._on_sighting,
            asked=lambda: self._later(self._on_asked),
        )
        self._mdns.start()

    def _on_sighting(self, sighting: Sighting) -> bool:
        """In the thread of mDNS. What is forged ends here, however much of it comes: the engine is not woken for it.

        Whether it is of our realm, and not forged.
        """
        if not self._is_proven(sighting):
            return False
        self._later(lambda: self._find(sighting.id, sighting.tag, sighting.endpoints, "mdns"))
        return self._is_tag_ours(sighting.tag)

    def _on_asked(self) -> None:
        assert self._node is not None
        if "mdns" in self._unsettled:
            when = self._node.now + LISTEN
            self._node.timers.set("listened", when, lambda now: self._had_its_look("mdns"))

    # --- looking at ourselves

    def _watch(self, now: float) -> None:
        node, addresses = self._node, self._addresses
        assert node is not None
        assert addresses is not None
        before = list(addresses.now)
        moved = addresses.look()
        if moved:
            log.info("listening on %s", ", ".join(addresses.now) or "no address")
            self._announce(node)
        if any(address not in addresses.now for address in before):
            node.connections.redial(now)
        slept = self._sleep.has_been()
        if slept:
            log.info("the machine has slept for %.0f s", slept)
        if self._mdns is not None and not self._mdns.is_alive():
            log.warning("the mDNS thread has died or hangs; making a new one")
            self._mdns.close(timeout=0.0)
            self._mdns = None
        if "mdns" in self._settings.discovery:
            if self._mdns is None:
                self._start_mdns(node)
            elif moved or slept:
                self._mdns.restart(addresses.now)
        if moved or slept:
            node.meeting.hurry(now, addresses.zones)
            node.seeds.hurry(now)
        node.timers.set("watch", now + WATCH, self._watch)

    def _announce(self, node: Node) -> None:
        """Our addresses have changed."""
        entry = self._entry(node)
        if self._host is not None and "host" in self._settings.discovery:
            self._host.announce(entry)
        for shared in self._shared:
            shared.announce(entry)

    # --- the end

    def close(self) -> None:
        """Withdraws: nobody new finds us. mDNS says its goodbye; a second at the most."""
        if self._mdns is not None:
            self._mdns.close()
        for shared in self._shared:
            shared.close()
        if self._host is not None:
            self._host.close()

    def abandon(self) -> None:
        """In a forked child."""
        if self._host is not None:
            self._host.abandon()
