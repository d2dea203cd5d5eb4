"""The links of one lane of a queue, so that the one with the most free credit is found without asking them all."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from zq.core.link import SendingLink

Puller = tuple[bytes, bytes]  # peer and puller


class Pool:
    """A heap of links by free credit, corrected when it is looked at. A link whose credit has grown is offered again;
    one that has less than the heap says is put back where it belongs when its turn comes."""

    def __init__(self) -> None:
        self.links: dict[Puller, SendingLink] = {}
        self.asking = False  # when last looked at, something waited for credit
        self._heap: list[tuple[int, int, SendingLink]] = []
        self._count = 0
        self._offered = 0

    def __iter__(self) -> Iterator[SendingLink]:
        return iter(self.links.values())

    @property
    def others(self) -> int:
        """How many links with credit there are beside those that were popped."""
        return self._offered

    def offer(self, link: SendingLink) -> None:
        """Its credit may have grown."""
        free = link.free
        if free > link.offered and self.links.get((link.peer, link.puller)) is link:
            self._offered += link.offered == 0
            link.offered = free
            self._count += 1
            heapq.heappush(self._heap, (-free, self._count, link))

    def remove(self, link: SendingLink) -> None:
        if self.links.get((link.peer, link.puller)) is link:
            del self.links[link.peer, link.puller]
            self._withdraw(link)

    def _withdraw(self, link: SendingLink) -> None:
        self._offered -= link.offered > 0
        link.offered = 0

    def pop(self) -> SendingLink | None:
        """The link with the most free credit; it is not found again until it is offered."""
        while self._heap:
            free, _, link = heapq.heappop(self._heap)
            if link.offered != -free:
                continue  # it has been offered with more, or is gone
            self._withdraw(link)
            if link.free == -free:
                return link
            self.offer(link)
        return None
