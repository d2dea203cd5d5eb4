"""Which of two keys opens an endpoint, while one is being replaced: the one and the other are tried until one fits."""

from __future__ import annotations

from collections import OrderedDict

from zq.security.lock import Lock

ENDPOINTS = 4_096  # that are remembered


class Fitting:
    """Of one peer's lock; keys by their numbers. Belongs to the engine's thread."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._known: OrderedDict[str, int] = OrderedDict()  # by endpoint, and by host

    def __bool__(self) -> bool:
        """Whether there is anything to choose."""
        return self._lock.keys > 1

    def likely(self, endpoint: str) -> int:
        """The one that fitted last, there or at least on that host; else the one that we listen with."""
        return self._known.get(endpoint, self._known.get(_host_of(endpoint), self._lock.own))

    def fits(self, endpoint: str, key: int) -> None:
        self._note(endpoint, key)
        self._note(_host_of(endpoint), key)

    def does_not(self, endpoint: str, key: int) -> int:
        """Returns the next."""
        following = (key + 1) % self._lock.keys
        self._note(endpoint, following)
        return following

    def _note(self, endpoint: str, key: int) -> None:
        self._known[endpoint] = key
        self._known.move_to_end(endpoint)
        while len(self._known) > ENDPOINTS:
            self._known.popitem(last=False)


def _host_of(endpoint: str) -> str:
    return endpoint.rpartition(":")[0]
