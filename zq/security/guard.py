"""Who failed at the doors, how often, and whose connections are cut off at once.

A failed handshake is counted for the address it came from. An address with too many of them in a while is cut off:
its connections are closed when their turn comes (see `porch`), before any cryptography, until the while is over. One
that somebody with the key has come from is never cut off, so that a stranger cannot lock out his neighbours on that
host, nor the ones behind the same gateway. Addresses are forgotten, the oldest first.

Nobody, with or without the key, has more than so many connections from one address: what is beyond is closed at once,
and descriptors are left for others.
"""

from __future__ import annotations

from collections import OrderedDict

from zq.logs import Logger
from zq.record import dataclass
from zq.security.taken import UNKNOWN

log = Logger("zq.security")

WHILE = 10.0  # s over which failures are counted; a peer that is dialled in vain is left alone after as long
MOST_FAILURES = 100  # of one address in a while: a host of another realm that dials by mistake fails some 40 times
ADDRESSES = 4_096  # remembered, of those that failed and of those let in
CONNECTIONS = 4_096  # of one address at a time, whoever has them: a thousand peers of a host have three each


@dataclass(slots=True)
class Record:
    """The failures of one address."""

    since: float  # beginning of the present while
    recent: int = 0  # in it
    total: int = 0
    refused: int = 0  # with a wrong key, counted already, and not yet closed


class Guard:
    """The counters of one peer's doors, and the log line that an address gets once in a while."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._most = CONNECTIONS
        self._connections: dict[str, int] = {}  # by address, of those that have any
        self.crowded_out = 0  # connections that were closed since their address had too many
        self.failures = 0
        self.cut_off = 0
        self.let_in = 0
        self.unseen = 0  # connections that were gone before they could be asked for their address
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._friends: OrderedDict[str, None] = OrderedDict()

    def share(self, descriptors: int) -> None:
        """How many this process may have: nobody gets more than half of them."""
        self._most = min(CONNECTIONS, descriptors // 2)

    def taken(self, address: str) -> bool:
        """Counts a connection until it has `ended`. False if it is to be closed, since its address has too many."""
        count = self._connections[address] = self._connections.get(address, 0) + 1
        if count <= self._most or address == UNKNOWN:
            return True
        self.crowded_out += 1
        if self.crowded_out == 1 and not self._quiet:
            log.warning("%.64r has %d connections, and others are closed at once", address, self._most)
        return False

    def ended(self, address: str) -> None:
        left = self._connections.get(address, 0) - 1
        if left > 0:
            self._connections[address] = left
        else:
            self._connections.pop(address, None)

    def refused(self, address: str, now: float) -> None:
        """Counts somebody whose key was looked at. His connection is closed later."""
        self.failed(address, now)
        self._records[address].refused += 1

    def closed(self, address: str, now: float, *, failed: bool) -> None:
        """A connection has ended; counts it if it was never let in. `failed`: it is known to have failed.

        Where somebody is let in it cannot be told whether it was his, so there only what is known is counted.
        """
        record = self._records.get(address)
        if failed:
            self.failed(address, now)
        elif record is not None and record.refused:
            record.refused -= 1
        elif not (address in self._friends or address == UNKNOWN):
            self.failed(address, now)

    def failed(self, address: str, now: float) -> None:
        """Counts it, and says so if it is the first of the address in a while."""
        self.failures += 1
        record = self._records.setdefault(address, Record(since=now))
        self._records.move_to_end(address)
        while len(self._records) > ADDRESSES:
            self._records.popitem(last=False)
        if now - record.since >= WHILE:
            record.since, record.recent = now, 0
        record.recent += 1
        record.total += 1
        if record.recent == 1 and not self._quiet:
            log.warning("%.64r does not have the key: failed handshake %d", address, record.total)

    def admitted(self, address: str) -> None:
        """Somebody there has the key."""
        self.let_in += 1
        self._friends[address] = None
        self._friends.move_to_end(address)
        while len(self._friends) > ADDRESSES:
            self._friends.popitem(last=False)

    def cuts_off(self, address: str, now: float) -> bool:
        """Whether a connection from there is to be closed without a handshake; counts it if so."""
        record = self._records.get(address)
        if record is None or address in self._friends or address == UNKNOWN:
            return False
        if record.recent < MOST_FAILURES or now - record.since >= WHILE:
            return False
        self.cut_off += 1
        return True

    def by_address(self) -> dict[str, int]:
        """Failed handshakes of each address, those that came last last."""
        return {address: record.total for address, record in self._records.items()}
