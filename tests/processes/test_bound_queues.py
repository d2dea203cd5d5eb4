"""Services whose queues are bound to topics: replicas are killed and restarted under load, and nothing is missed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import zq
from tests.processes.conftest import Options, Start
from tests.processes.journal import read
from tests.processes.process import Process
from tests.waiting import PATIENCE, eventually

FILTERS = ["orders/**"]


class Service:
    """Replicas of one service, each with a journal of its own."""

    def __init__(self, start: Start, options: Options, directory: Path, name: str) -> None:
        self._start = start
        self._options = options
        self._directory = directory
        self.name = name
        self.journals: list[Path] = []

    def replica(self) -> Process:
        """One more, which has bound the queue."""
        self.journals.append(self._directory / f"{self.name}-{len(self.journals)}")
        process = self._start("serve", self._options, self.name, FILTERS, str(self.journals[-1]))
        process.hear()
        return process

    def rows(self, what: str) -> list[list[list[Any]]]:
        """What each replica has written down of that kind."""
        return [[row[2:] for row in read(journal) if row[1] == what] for journal in self.journals]

    def done(self) -> set[int]:
        return {number for rows in self.rows("done") for (number,) in rows}

    def check_order(self) -> None:
        """What comes to a replica for the first time comes in the order published, and to no other as well."""
        firsts = [[number for number, _, again in rows if not again] for rows in self.rows("began")]
        assert all(numbers == sorted(numbers) for numbers in firsts)
        together = [number for numbers in firsts for number in numbers]
        assert len(together) == len(set(together))


@contextmanager
def load(publisher: zq.Publisher) -> Iterator[Callable[[], int]]:
    """Publishes 0, 1, 2 ... as fast as the services allow; the function ends it and says how many it were."""
    over = threading.Event()
    sent: list[int] = []

    def publish() -> None:
        number = 0
        while not over.is_set():
            publisher.send(number)
            number += 1
        sent.append(number)

    def end() -> int:
        over.set()
        thread.join()
        return sent[0]

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield end
    finally:
        over.set()
        thread.join()


def wait_for(service: Service, count: int) -> None:
    """Until its youngest replica has begun `count` messages."""
    eventually(lambda: sum(row[1] == "began" for row in read(service.journals[-1])) >= count)


def test_a_replica_killed_under_load_loses_nothing(start: Start, local: Options, tmp_path: Path) -> None:
    mailer, audit = (Service(start, local, tmp_path, name) for name in ("mailer", "audit"))
    with zq.Peer(**local) as peer, peer.publisher("orders/new") as publisher:
        victim = mailer.replica()
        wait = [audit.replica(), mailer.replica()]
        publisher.wait_for_subscribers(2)
        with load(publisher) as end:
            wait_for(mailer, 200)
            victim.kill()
            before = len(mailer.done())
            wait_for(mailer, before + 200)
            count = end()
        publisher.flush()
        assert all(process.pid for process in wait)
    for service in (mailer, audit):
        assert service.done() == set(range(count))
        service.check_order()


def test_a_rolling_restart_of_every_replica_loses_nothing(start: Start, tcp: Options, tmp_path: Path) -> None:
    mailer = Service(start, tcp, tmp_path, "mailer")
    with zq.Peer(**tcp) as peer, peer.publisher("orders/new") as publisher:
        replicas = [mailer.replica(), mailer.replica()]
        publisher.wait_for_subscribers()
        with load(publisher) as end:
            for index in range(2):
                wait_for(mailer, 100)
                replicas[index].send_signal(signal.SIGTERM)
                assert replicas[index].wait() == 0
                replicas[index] = mailer.replica()
            wait_for(mailer, 100)
            for replica in replicas:  # all of them, before the first comes back
                replica.kill()
            mailer.replica()
            wait_for(mailer, 100)
            count = end()
        publisher.flush()
        (held,) = peer.ledger().held
    assert (held.taken, held.acked, dict(held.dropped)) == (count, count, {})
    assert mailer.done() == set(range(count))
    mailer.check_order()


def test_a_service_that_was_there_first_gets_what_short_lived_publishers_leave(
    start: Start, local: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("zq.core.meeting", "zq.handles.life"):
        monkeypatch.setattr(f"{module}.ANSWER", PATIENCE)  # s that a replica has to answer: the machine may stall
    mailer = Service(start, local, tmp_path, "mailer")
    mailer.replica()
    for number in range(5):
        with zq.Peer(**local) as peer:
            peer.publish("orders/new", number)
    assert mailer.done() == set(range(5))
