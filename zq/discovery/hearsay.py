"""What mDNS packets speak of, and when to look at it: so that who forges them without end costs little.

    a name   looked at, at once --it is spoken of within AGAIN--> put off --AGAIN later--> looked at
    records  of one name are kept --there are more than RECORDS--> all but the newest FEWER are forgotten

Records that contradict each other stay in the cache of python-zeroconf for some seconds, whatever they say of
forgetting what was heard before; to look at a thousand addresses of one name takes 10 ms, in which the engine does not
get the interpreter. What is true is said again every 10 s. No sockets and no zeroconf here: a cache is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from zq.discovery.sighting import SERVICE

RECORDS, FEWER = 48, 24  # of one name, but for the service's own, which has one of each peer
AGAIN = 0.1  # s from one look at a name to the next
LOOKED = 1_024  # names of which it is remembered when they were looked at


class Cache(Protocol):
    """Of python-zeroconf."""

    def async_entries_with_name(self, name: str) -> Iterable[Any]: ...

    def async_remove_records(self, entries: Iterable[Any]) -> None: ...


class Hearsay:
    """Of one reader. Belongs to the thread of its loop."""

    def __init__(self) -> None:
        self._touched: set[str] = set()  # names that the packet in hand speaks of
        self._owners: set[str] = set()  # all names of its records, as the cache has them
        self._looked: dict[str, float] = {}  # when, of names that were looked at lately
        self._put_off: set[str] = set()  # those that are looked at when it is time again

    def note(self, owner: str, name: str | None) -> None:
        """A record of `owner`, which speaks of that name of a peer."""
        self._owners.add(owner)
        if name is not None:
            self._touched.add(name)

    def tidy(self, cache: Cache) -> None:
        """Forgets old records of the packet's names, where there are many."""
        owners, self._owners = self._owners - {SERVICE}, set()
        for owner in owners:
            records = list(cache.async_entries_with_name(owner))
            if len(records) > RECORDS:
                cache.async_remove_records(sorted(records, key=lambda record: record.created)[:-FEWER])

    def names(self, now: float) -> tuple[set[str], bool]:
        """Those that the packet speaks of and that are to be looked at now; and whether to ask for those that were
        `put_off` AGAIN later, which is said once."""
        touched, self._touched = self._touched, set()
        late = {name for name in touched if now - self._looked.get(name, -AGAIN) < AGAIN}
        come_back = bool(late) and not self._put_off
        self._put_off |= late
        return self._note_looks(touched - late, now), come_back

    def put_off(self, now: float) -> set[str]:
        names, self._put_off = self._put_off, set()
        return self._note_looks(names, now)

    def _note_looks(self, names: set[str], now: float) -> set[str]:
        for name in names:
            self._looked.pop(name, None)
            self._looked[name] = now
        while len(self._looked) > LOOKED:
            del self._looked[next(iter(self._looked))]
        return names
