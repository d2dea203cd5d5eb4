"""A process on a host of a LAN, and what it has said so far. All hosts share one kernel, so one monotonic clock."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.lan.lan import Lan
from tests.processes.process import Process

Said = dict[str, Any]
DEADLINE = 20.0  # s for what takes a few at most


class Neighbour:
    """A peer on host `host`. It says everything with a `what` and an `at`, monotonic seconds."""

    def __init__(self, lan: Lan, host: int, options: dict[str, Any]) -> None:
        self.host = host
        directory = tempfile.mkdtemp(prefix=f"{lan.name}-{host}-")  # removed with the LAN: each host has its own
        self._process = Process(
            "neighbour",
            options,
            module="tests.lan.roles",
            command=lan.command(host),
            environment={"ZQ_HOST_DIR": directory},
        )
        self.said: list[Said] = []
        self.open = self._process.hear(DEADLINE)  # None of what it says may be lost, so it is heard here alone
        self.id: str = self.open["peer"]

    def wait(self, wanted: Callable[[Said], object], what: str, timeout: float = DEADLINE, *, start: int = 0) -> Said:
        """The first that fits of all it has said and says, from the one with number `start` on."""
        deadline = time.monotonic() + timeout
        while True:
            for said in self.said[start:]:
                if wanted(said):
                    return said
            start = len(self.said)
            try:
                self.said.append(self._process.hear(max(deadline - time.monotonic(), 0.001)))
            except AssertionError as error:
                told = "\n".join(str(each) for each in self.said)
                raise AssertionError(f"host {self.host}: no {what} in {timeout} s\n{told}\n{error}") from None

    def sees(self, other: Neighbour, kind: str = "joined", *, after: float = 0.0, timeout: float = DEADLINE) -> Said:
        """The event `kind` of the other, seen after that time."""
        return self.wait(
            lambda said: said["what"] == kind and said["peer"] == other.id and said["at"] >= after,
            f"{kind} of host {other.host}",
            timeout,
        )

    def hears(self, other: Neighbour, data: Any, *, timeout: float = DEADLINE) -> Said:
        """A message of the other."""
        return self.wait(
            lambda said: said["what"] == "news" and said["peer"] == other.id and said["data"] == data,
            f"{data!r} of host {other.host}",
            timeout,
        )

    def count(self, kind: str) -> int:
        """How often it has said so, of anybody."""
        return sum(said["what"] == kind for said in self.said)

    def kinds(self, other: Neighbour) -> list[str]:
        """What it has said of the other so far, by kind."""
        return [said["what"] for said in self.said if said.get("peer") == other.id]

    def settle(self) -> Said:
        start = len(self.said)
        self.tell("settle")
        return self.wait(lambda said: said["what"] == "settled", "settled", start=start)

    def endpoints(self) -> list[list[str]]:
        start = len(self.said)
        self.tell("endpoints")
        rows: list[list[str]] = self.wait(lambda said: said["what"] == "endpoints", "endpoints", start=start)["rows"]
        return rows

    def tell(self, what: Any) -> None:
        self._process.tell(what)

    def leave(self) -> None:
        self.tell(None)
        assert self._process.wait() == 0

    def kill(self) -> float:
        """Returns when."""
        at = time.monotonic()
        self._process.kill()
        return at

    def errors(self) -> str:
        return self._process.errors()

    def end(self) -> None:
        self._process.end()


def exchange(neighbours: Iterable[Neighbour], word: str, *, timeout: float = DEADLINE) -> None:
    """Every one publishes, and every other hears it."""
    neighbours = list(neighbours)
    for one in neighbours:
        one.tell([word, one.host])
    for one in neighbours:
        for other in neighbours:
            if one is not other:
                one.hears(other, [word, other.host], timeout=timeout)
