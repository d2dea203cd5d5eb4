"""How two peers meet, and notice that they have lost each other.

    found -> dial every address: HELLO(nonce) --------> | dials back: HELLO(its nonce), WELCOME(nonce)
    WELCOME with the nonce of a connection proves it <-- |
    proven: WELCOME(its nonce), ENTRY ----------------> | proven there as well

An unproven connection carries only HELLO and WELCOME. Every frame names sender and addressee, so that another
process on an old port is noticed. A hello carries its sender's *session*: how often it has declared the addressee
gone. A higher one than before says that all links between the two are over (docs/adr/0003).

Who has met exchanges `entries`. Lost frames are asked for by timers, repeated ones change nothing.

A peer that fell silent may be behind a cut cable, asleep, or no more: it is *pursued*, dialled on and on for two
minutes though nobody names it, so that both sides meet as soon as the way is free and not when discovery speaks again.
A refusal ends that, for then its host is there and it is not.

It is longer than most: every event of a meeting looks at the same remote peer and moves it on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from zq.core.endpoints import in_zones, is_file, is_local, tellable
from zq.core.entries import Entries
from zq.core.liveness import REFUSALS, SUSPECT_FOR, Life, Sign
from zq.core.port import Kind, Port
from zq.core.roster import REMEMBERED, Dial, Remote, Roster
from zq.core.timers import Timers
from zq.info import EventKind
from zq.record import dataclass
from zq.wire.frames import VERSION, Entry, Goodbye, Hello, Welcome

HELLO_AGAIN, HELLO_MOST = 0.5, 2.0  # s until an unanswered hello is repeated, doubled up to
DROPPED_AGAIN = 0.02  # s until an address that dropped a connection is dialled anew, doubled up to HELLO_AGAIN
CROWD = 8  # peers; for each so many everything is repeated that much later: all of them have much to do
FOUND_FOR = 10.0  # s a found peer is dialled without any sign of it until it is forgotten; if it is named again, again
TAKEN_FOR = 60.0  # s at a file that is there; it is late when 200 start at once. Ports may be somebody else's by now
SPARE_AFTER, SPARES = 1.0, 2  # s until an address that neither answers nor refuses is dialled once more at once, times
ANSWER = 1.0  # s a found peer has to answer before nobody waits for it: short-lived programs end then
REDIAL, REDIAL_MOST = 1.0, 10.0  # s until a peer that does not answer is dialled anew, doubled up to
PURSUED_FOR = 120.0  # s a peer that fell silent is dialled on; afterwards it takes discovery, as for a newcomer
PURSUED = 256  # peers at once; of more, whose whole network must be gone, discovery reminds us
QUICKLY = 1.0  # s between two refusals that count as such; an address that leads nowhere fails every 3 s (ARP)
ADDRESSES = 16  # of one peer that are dialled; more are ignored
DIALS = 2_048  # mailbox connections, proven or not; with feed, work and monitors as many sockets as an engine has


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What this peer tells of itself in hello and welcome."""

    id: bytes
    tag: bytes  # realm and mode: peers of another tag are strangers
    name: str
    host: str
    pid: int
    endpoints: list[list[str]]  # one row an address; the owner changes the list when addresses come and go

    def rows(self, endpoint: str) -> list[list[str]]:
        """Of `endpoints` what is told to whom we dial at `endpoint`."""
        return tellable(self.endpoints, endpoint)


class Neighbours(Protocol):
    """Who wants to know when peers come and go."""

    def on_up(self, remote: Remote, now: float, *, first: bool) -> None: ...

    def on_entry(self, remote: Remote, entry: Entry, now: float) -> None: ...

    def on_session(self, remote: Remote, now: float) -> None: ...

    def on_gone(self, remote: Remote, now: float) -> None: ...

    def owed_heads(self, remote: Remote) -> list[list[object]]: ...

    def on_trouble(self, what: str) -> None: ...

    def on_event(self, kind: EventKind, remote: Remote, now: float) -> None: ...


class Meeting:
    """All other peers of this one."""

    def __init__(
        self,
        card: Card,
        roster: Roster,
        timers: Timers,
        port: Port,
        draw: Callable[[int], bytes],
        connection: Callable[[], int],
        neighbours: Neighbours,
    ) -> None:
        self.card = card
        self.roster = roster
        self._timers = timers
        self._port = port
        self._draw = draw
        self._connection = connection
        self._neighbours = neighbours
        self._dials: dict[int, Remote] = {}  # mailbox connections
        self.entries = Entries(card.id, self.roster, timers, port, neighbours, self._later)
        self._resting: dict[bytes, tuple[float, float]] = {}  # id: not dialled before, pause
        self.zones: list[str] = []  # interfaces through which we reach link-local addresses
        self.strangers = 0  # hellos of other realms and versions
        self.cut_offs = 0  # peers

    # --- finding and dialling

    def found(self, id: bytes, mailboxes: Sequence[str], source: str, now: float) -> None:
        """A rung of discovery names a peer. Only a hint: it makes us dial, nothing more."""
        if id == self.card.id or self.roster.has_departed(id):
            return
        remote = self.roster.get(id)
        if remote is None:
            if self._resting.get(id, (now, 0.0))[0] > now:
                return
            remote = self._welcome_new(id, now)
        if source not in remote.found_by:
            remote.found_by.append(source)
            if remote.state is Life.UP:
                self._neighbours.on_event("changed", remote, now)
        if not remote.incompatible:
            self._dial_new(remote, mailboxes, now)
        if remote.pursued:
            self._race(remote, now)

    def hurry(self, now: float, zones: Sequence[str]) -> None:
        """Our addresses have changed, or we have slept: who did not answer may now, and all are told where we are."""
        self.zones = list(zones)
        self._resting.clear()
        for remote in self.roster:
            if remote.mailbox is not None:
                self._say_hello(remote, remote.mailbox)

    def _welcome_new(self, id: bytes, now: float) -> Remote:
        remote = self.roster.add(id, now)
        self._tend_found(remote, now, FOUND_FOR)
        self._timers.give((remote, "answer"), now, ANSWER, lambda when: self._give_up_waiting(remote))
        return remote

    def _pursue(self, lost: Remote, now: float) -> None:
        """It fell silent: it is called on where it was, and nobody waits for it."""
        if sum(remote.pursued for remote in self.roster) >= PURSUED:
            return
        remote = self.roster.add(lost.id, now)
        remote.pursued = remote.failed = True
        remote.found_by = lost.found_by
        self._tend_found(remote, now, PURSUED_FOR)
        for endpoint in lost.mailboxes:
            remote.mailboxes.append(endpoint)
            self._dial(remote, endpoint, now, racing=False)

    def _tend_found(self, remote: Remote, now: float, patience: float) -> None:
        self._timers.set((remote, "found"), now + patience, lambda when: self._give_up(remote, when))

    def _patience(self, remote: Remote) -> float:
        """How long one that was found has to answer from its last sign of life on."""
        if any(is_file(dial.endpoint) for dial in remote.dials.values()):
            return TAKEN_FOR
        taken = any(dial.established for dial in remote.dials.values())
        return min(FOUND_FOR * self._crowd, TAKEN_FOR) if taken else FOUND_FOR

    @property
    def _crowd(self) -> int:
        """How many times later than alone everybody answers."""
        return 1 + len(self.roster) // CROWD

    def _tend_suspect(self, remote: Remote, now: float, patience: float) -> None:
        self._timers.set((remote, "silent"), now + patience, lambda when: self._step(remote, Sign.SILENT, when))

    def _give_up_waiting(self, remote: Remote) -> None:
        if remote.state is Life.FOUND or remote.entry is None:
            remote.failed = True

    def _dial_new(self, remote: Remote, mailboxes: Sequence[str], now: float) -> None:
        """Addresses that we have not heard of yet; of one who is reached they are only remembered."""
        for endpoint in in_zones(mailboxes, self.zones):
            if endpoint in remote.mailboxes:
                continue
            if remote.mailbox is None and len(self._dials) >= DIALS:
                return  # somebody names peers without end; this one is dialled when it is named again
            dialled = {dial.endpoint for dial in remote.dials.values()}
            unused = [each for each in remote.mailboxes if each not in dialled]
            if len(remote.mailboxes) >= ADDRESSES and not unused:
                return
            if len(remote.mailboxes) >= ADDRESSES:
                remote.mailboxes.remove(unused[0])
            remote.mailboxes.append(endpoint)
            if remote.mailbox is None:
                self._dial(remote, endpoint, now)
                if remote.state is Life.FOUND and is_file(endpoint):
                    self._tend_found(remote, now, self._patience(remote))

    def _dial(self, remote: Remote, endpoint: str, now: float, *, racing: bool = True) -> None:
        dial = Dial(self._connection(), endpoint, self._draw(8), now)
        remote.dials[dial.connection] = dial
        self._dials[dial.connection] = remote
        self._port.dial(dial.connection, Kind.MAILBOX, endpoint)
        if racing and not is_local(endpoint):
            self._timers.set((dial, "spare"), now + SPARE_AFTER, lambda when: self._dial_spare(remote, dial, when))
        self._hello(remote, dial, now)
        if remote.greeting:  # what it would prove to it was perhaps lost with another connection
            self._say_welcome(remote, dial)

    def _dial_spare(self, remote: Remote, dial: Dial, now: float) -> None:
        """Where a third of all packets is lost, most first attempts are: several race."""
        waits = dial.connection in remote.dials and remote.mailbox is None and not (dial.established or dial.refusals)
        if (
            waits
            and len(self._dials) < DIALS
            and sum(each.endpoint == dial.endpoint for each in remote.dials.values()) <= SPARES
        ):
            self._dial(remote, dial.endpoint, now)

    def _race(self, remote: Remote, now: float) -> None:
        """It gives a sign of life, so the way is free: attempts made before it was need not run out first."""
        for endpoint in dict.fromkeys(dial.endpoint for dial in remote.dials.values()):
            dials = [dial for dial in remote.dials.values() if dial.endpoint == endpoint]
            if len(dials) <= SPARES and not any(dial.established or now - dial.since < SPARE_AFTER for dial in dials):
                self._dial(remote, endpoint, now)

    def _try(self, remote: Remote, endpoint: str, now: float) -> None:
        if remote.mailbox is None and remote.state is not Life.GONE and self.roster.get(remote.id) is remote:
            self._dial(remote, endpoint, now)

    def _hello(self, remote: Remote, dial: Dial, now: float) -> None:
        if dial.connection not in remote.dials or remote.mailbox is dial:
            return
        self._say_hello(remote, dial)
        dial.patience = self._later(dial.patience, HELLO_AGAIN, HELLO_MOST)
        self._timers.set((dial, "hello"), now + dial.patience, lambda when: self._hello(remote, dial, when))

    def _say_hello(self, remote: Remote, dial: Dial) -> None:
        card = self.card
        rows = card.rows(dial.endpoint)
        hello = Hello(VERSION, VERSION, card.tag, dial.nonce, remote.session, card.name, card.host, card.pid, rows)
        self._port.send(dial.connection, (hello.encode(remote.id, card.id),))

    def _say_welcome(self, remote: Remote, dial: Dial) -> None:
        card = self.card
        welcome = Welcome(remote.greeting, remote.session, card.name, card.host, card.pid, card.rows(dial.endpoint))
        self._port.send(dial.connection, (welcome.encode(remote.id, card.id),))

    def _later(self, patience: float, again: float, most: float) -> float:
        """How long to wait for an answer next."""
        return min(max(patience * 2, again * self._crowd), most * self._crowd)

    def _hang_up(self, remote: Remote, dial: Dial) -> None:
        self._port.hang_up(dial.connection)
        for what in ("hello", "spare"):
            self._timers.cancel((dial, what))
        del remote.dials[dial.connection], self._dials[dial.connection]
        if remote.mailbox is dial:
            remote.mailbox = None

    def knows(self, id: bytes) -> bool:
        """Whether it is here, or has been found and not lost."""
        remote = self.roster.get(id)
        return remote is not None and not remote.pursued

    # --- what connections do

    def is_mailbox(self, connection: int) -> bool:
        return connection in self._dials

    def on_connected(self, connection: int, now: float) -> None:
        remote = self._dials.get(connection)
        if remote is not None:
            remote.dials[connection].established = True
            if remote.state is Life.FOUND:  # one that is pursued may by now be somebody else who lives there
                self._tend_found(remote, now, FOUND_FOR if remote.pursued else self._patience(remote))
            elif remote.state is Life.SUSPECT and is_file(remote.dials[connection].endpoint):
                self._tend_suspect(remote, now, TAKEN_FOR)

    def on_broken(self, connection: int, now: float) -> None:
        """An established mailbox connection ended."""
        remote = self._dials[connection]
        dial = remote.dials[connection]
        if remote.mailbox is not dial:
            # A process that is ending does so once, until its listener is closed; who goes on doing so is in no hurry.
            self._hang_up(remote, dial)
            if remote.state is Life.SUSPECT and dial.established and is_file(dial.endpoint):
                self._tend_suspect(remote, now, SUSPECT_FOR)  # it had longer as it took that connection
            again = now + min(DROPPED_AGAIN * 2**remote.dropped, HELLO_AGAIN)
            remote.dropped = min(remote.dropped + 1, 8)
            self._timers.set((remote, dial.endpoint), again, lambda when: self._try(remote, dial.endpoint, when))
            return
        self._hang_up(remote, dial)
        self._step(remote, Sign.LOST, now)
        for endpoint in remote.mailboxes:
            self._dial(remote, endpoint, now)

    def on_refused(self, connection: int, now: float) -> None:
        """Nobody listens there now; the carrier goes on trying by itself."""
        remote = self._dials[connection]
        dial = remote.dials[connection]
        dial.refusals = dial.refusals + 1 if now - dial.refused_at < QUICKLY else 1
        dial.refused_at = now
        if all(dial.refusals >= REFUSALS for dial in remote.dials.values()):
            if remote.state is Life.SUSPECT:
                self._step(remote, Sign.REFUSED, now)
            elif remote.state is Life.FOUND:
                self._give_up(remote, now)

    def _give_up(self, remote: Remote, now: float) -> None:
        """Found, but nobody there: forgotten, and for a while not dialled again whoever names it."""
        for dial in list(remote.dials.values()):
            self._hang_up(remote, dial)
        for what in ("answer", "found"):
            self._timers.cancel((remote, what))
        self.roster.remove(remote, departed=False)
        _, last = self._resting.pop(remote.id, (0.0, 0.0))
        pause = min(last * 2 or REDIAL, REDIAL_MOST)
        self._resting[remote.id] = (now + pause, pause)
        while len(self._resting) > REMEMBERED:
            del self._resting[next(iter(self._resting))]

    # --- frames

    def on_hello(self, sender: bytes, addressee: bytes, hello: Hello, now: float) -> None:
        card = self.card
        if addressee not in (card.id, bytes(16)) or self.roster.has_departed(sender):
            self.strangers += 1
            return
        if not hello.lowest <= VERSION <= hello.highest:
            self._refuse_version(self.roster.get(sender) or self._welcome_new(sender, now), hello, now)
            return
        if hello.tag != card.tag:
            self.strangers += 1
            return
        if sender not in self.roster and len(self._dials) >= DIALS:
            return  # it calls again
        remote = self.roster.get(sender) or self._welcome_new(sender, now)
        self._introduce(remote, hello, now)
        if remote.mailbox is None:
            if remote.state is Life.FOUND:
                self._tend_found(remote, now, PURSUED_FOR if remote.pursued else self._patience(remote))
            if remote.pursued:
                self._race(remote, now)
            if not remote.found_by:
                remote.found_by.append("hello")
            if not remote.dials:
                remote.mailboxes.clear()
        self._dial_new(remote, [row[0] for row in remote.endpoints], now)
        remote.greeting = hello.nonce
        for dial in [remote.mailbox] if remote.mailbox else list(remote.dials.values()):
            self._say_welcome(remote, dial)

    def _refuse_version(self, remote: Remote, hello: Hello, now: float) -> None:
        self.strangers += 1
        self._tend_found(remote, now, 3 * FOUND_FOR)
        if not remote.incompatible:
            remote.incompatible = remote.failed = True
            spoken = f"{hello.lowest} to {hello.highest}"
            self._neighbours.on_trouble(
                f"peer {remote.id.hex()[:8]} speaks protocol {spoken}, we speak {VERSION}: upgrade one of them"
            )

    def on_welcome(self, sender: bytes, welcome: Welcome, now: float) -> None:
        remote = self.roster.get(sender)
        if remote is None:
            return
        dial = next((dial for dial in remote.dials.values() if dial.nonce == welcome.nonce), None)
        if dial is None or remote.mailbox is not None:
            return  # of a connection that was given up, or another was faster
        self._introduce(remote, welcome, now)
        remote.mailbox, remote.dropped, remote.pursued = dial, 0, False
        for other in [other for other in remote.dials.values() if other is not dial]:
            self._hang_up(remote, other)
        for key in ((dial, "hello"), (dial, "spare"), (remote, "silent"), (remote, "found")):
            self._timers.cancel(key)
        self._resting.pop(remote.id, None)
        self._step(remote, Sign.PROVEN, now)

    def _introduce(self, remote: Remote, said: Hello | Welcome, now: float) -> None:
        remote.name, remote.host, remote.pid, remote.endpoints = said.name, said.host, said.pid, said.endpoints
        if said.session > remote.their_session:
            remote.their_session = said.session
            self._neighbours.on_session(remote, now)

    def on_goodbye(self, sender: bytes, now: float) -> None:
        remote = self.roster.get(sender)
        if remote is not None:
            remote.goodbye = True
            self._step(remote, Sign.GOODBYE, now)

    def cut_off(self, sender: bytes, why: str, now: float) -> None:
        """It announces more than it may."""
        if self.bar(sender, why, now):
            self.cut_offs += 1

    def bar(self, sender: bytes, why: str, now: float) -> bool:
        """It is of the realm, and does not keep to its limits: gone, for good. Who is started anew has another id."""
        remote = self.roster.get(sender)
        if remote is None or remote.mailbox is None:
            return False
        self._neighbours.on_trouble(f"peer {remote.name[:64]!r} ({sender.hex()[:8]}) is cut off: it {why}")
        remote.barred = True
        self._step(remote, Sign.BARRED, now)
        return True

    # --- life

    def _step(self, remote: Remote, sign: Sign, now: float) -> None:
        before = remote.state
        state = remote.live.step(sign)
        if state is Life.UP:
            self._up(remote, before, now)
        elif state is Life.SUSPECT:
            self._tend_suspect(remote, now, SUSPECT_FOR)
            self._neighbours.on_event("suspect", remote, now)
        elif state is Life.GONE:
            remote.silent = sign is Sign.SILENT
            self._gone(remote, now)
            if remote.silent:
                self._pursue(remote, now)

    def _up(self, remote: Remote, before: Life, now: float) -> None:
        first = before is Life.FOUND
        if first:
            remote.joined_at = now
        self._neighbours.on_up(remote, now, first=first)
        self._neighbours.on_event("joined" if first else "changed", remote, now)
        self.entries.on_up(remote, now, first=first)

    def _gone(self, remote: Remote, now: float) -> None:
        joined = remote.joined_at is not None
        for what in ("silent", "answer", "found"):
            self._timers.cancel((remote, what))
        self.entries.on_gone(remote)
        for dial in list(remote.dials.values()):
            self._hang_up(remote, dial)
        remote.session += 1
        self._neighbours.on_gone(remote, now)
        self.roster.remove(remote, departed=remote.goodbye or remote.barred)
        if joined:
            self._neighbours.on_event("left", remote, now)

    # --- leaving

    def say_goodbye(self) -> None:
        for remote in self.roster:
            if remote.mailbox is not None:
                goodbye = Goodbye(self._neighbours.owed_heads(remote))
                self._port.send(remote.mailbox.connection, (goodbye.encode(remote.id, self.card.id),))

    def is_settled(self) -> bool:
        """Everyone found has answered and told what it wants, or had its chance to."""
        return all(remote.failed or (remote.state is Life.UP and remote.entry is not None) for remote in self.roster)
