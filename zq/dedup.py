"""A bounded memory of message ids, for consumers that must not do the same work twice.

Delivery is at least once: after a lost connection or a killed worker a message comes again, with the same id. What
makes that harmless is a consumer that asks whether it has done it already:

    done = zq.Dedup(100_000)
    for message in puller:
        with message:
            if message.id not in done:
                work(message.data)
                done.add(message.id)

Ask before the work, add after it: an id that was added before would hide the redelivery of work that failed.
"""

from __future__ import annotations

import threading

from zq.errors import Refused


class Dedup:
    """The last `size` ids that were added or seen. Thread-safe.

    It knows what this object was told, no more: another process has another memory, and a restart empties it. An id
    that is seen again counts as new: the one that was not seen for longest is forgotten first. Some 200 bytes an id.
    Raises Refused for a size that is no whole number >= 1.
    """

    def __init__(self, size: int) -> None:
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise Refused(f"a Dedup remembers a whole number >= 1 of ids, not {size!r}")
        self.size = size
        self._ids: dict[str, None] = {}
        self._lock = threading.Lock()

    def __contains__(self, id: object) -> bool:
        """Whether it is remembered. Changes nothing."""
        return id in self._ids

    def __len__(self) -> int:
        """How many ids are remembered."""
        return len(self._ids)

    def add(self, id: str) -> None:
        """Remembers it."""
        self.seen(id)

    def seen(self, id: str) -> bool:
        """Whether it was remembered before; it is now. In one step: of several threads that ask, one hears False."""
        with self._lock:
            before = id in self._ids
            if before:
                del self._ids[id]
            elif len(self._ids) >= self.size:
                del self._ids[next(iter(self._ids))]
            self._ids[id] = None
            return before

    def discard(self, id: str) -> None:
        """Forgets it: the work has failed after all, and is to be done when it comes again."""
        with self._lock:
            self._ids.pop(id, None)

    def __repr__(self) -> str:
        return f"<Dedup: {len(self._ids)} of {self.size}>"
