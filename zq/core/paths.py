"""Where a queue's messages go: to pullers, or while a spool of the queue is there to that."""

from __future__ import annotations

from zq.core.outbox import Outbox


class Paths:
    """The spools that other peers have told of, by queue; of several the one with the smallest stream is it."""

    def __init__(self) -> None:
        self._spools: dict[str, dict[tuple[bytes, bytes], tuple[bytes, bool]]] = {}  # by queue, peer and puller

    def note(self, peer: bytes, rows: list[list[object]]) -> None:
        """Its spools are these: queue, puller, stream, whether it takes no more."""
        for spools in self._spools.values():
            for key in [key for key in spools if key[0] == peer]:
                del spools[key]
        for queue, puller, stream, full in rows:
            assert isinstance(puller, bytes)
            assert isinstance(stream, bytes)
            self._spools.setdefault(str(queue), {})[peer, puller] = stream, bool(full)

    def spool_of(self, outbox: Outbox) -> tuple[bytes, bytes] | None:
        """Peer and puller of the spool that its messages are to go to."""
        spools = {} if outbox.dead else self._spools.get(outbox.queue, {})
        return min(spools, key=lambda key: spools[key], default=None)

    def is_full(self, outbox: Outbox) -> bool:
        """Whether its spool takes no more."""
        spools = self._spools.get(outbox.queue, {})
        return outbox.path is not None and outbox.path in spools and spools[outbox.path][1]
