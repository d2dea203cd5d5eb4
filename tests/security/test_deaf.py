"""A man in the middle of a feed or of work changes one bit: what follows cannot be read, and all of it comes anyway."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import zq
from tests.processes.conftest import Options
from tests.security.rogues import DEADLINE
from tests.waiting import eventually
from zq.core import hearing

COUNT = 30  # messages
FEED, WORK = 1, 2  # columns of a peer's endpoints


class Tamperer:
    """Passes on what goes through every connection to a door; once told to, it changes the last bit of one piece."""

    def __init__(self, door: str) -> None:
        host, port = door.removeprefix("tcp://").split(":")
        self._there = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.tamper = threading.Event()
        self.tampered = threading.Event()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return  # closed
            door = socket.create_connection(self._there)
            self.connections += 1
            self._sockets += [caller, door]
            for source, sink in ((caller, door), (door, caller)):
                self._threads.append(threading.Thread(target=self._pass_on, args=(source, sink), daemon=True))
                self._threads[-1].start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := source.recv(65_536):
                if self.tamper.is_set() and b"MESSAGE" in piece:  # RFC 26; its end is the end of a box
                    self.tamper.clear()
                    piece = piece[:-1] + bytes([piece[-1] ^ 1])
                    self.tampered.set()
                sink.sendall(piece)
        except OSError:
            pass  # one of the two has had enough
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(DEADLINE)
        for end in self._sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is over already
        for thread in self._threads:
            thread.join(DEADLINE)
        for each in (self._listener, *self._sockets):
            each.close()


@contextmanager
def tamperer_before(peer: zq.Peer, column: int) -> Iterator[Tamperer]:
    """Whoever meets the peer from now on is told to come through him."""
    engine = peer._engine
    assert engine is not None
    row = engine.node.card.endpoints[0]
    man = Tamperer(row[column])
    row[column] = man.endpoint
    try:
        yield man
    finally:
        man.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing, "DEAF_AFTER", 1.0)


def test_a_feed_with_a_changed_bit_is_made_anew_and_no_message_is_missing(keyed: Options) -> None:
    with zq.Peer(**keyed) as sender, tamperer_before(sender, FEED) as man, zq.Peer(**keyed) as receiver:
        subscriber, publisher = receiver.subscriber("t"), sender.publisher("t")
        publisher.wait_for_subscribers(timeout=DEADLINE)
        publisher.send(0)
        assert subscriber.receive(timeout=DEADLINE).data == 0
        man.tamper.set()
        for number in range(1, COUNT):
            publisher.send(number)
        assert man.tampered.wait(DEADLINE)
        assert [subscriber.receive(timeout=DEADLINE).data for _ in range(1, COUNT)] == list(range(1, COUNT))
        assert man.connections >= 2  # more if he stalls: then who hears nothing for a second calls again


def test_work_with_a_changed_bit_is_made_anew_and_each_message_comes_once(keyed: Options) -> None:
    with zq.Peer(**keyed) as receiver, tamperer_before(receiver, WORK) as man, zq.Peer(**keyed) as sender:
        puller, pusher = receiver.puller("q"), sender.pusher("q")
        pusher.wait_for_pullers(timeout=DEADLINE)
        pusher.send(0)
        with puller.receive(timeout=DEADLINE) as message:
            assert message.data == 0
        man.tamper.set()
        for number in range(1, COUNT):
            pusher.send(number)
        assert man.tampered.wait(DEADLINE)
        for number in range(1, COUNT):
            with puller.receive(timeout=DEADLINE) as message:
                assert (message.data, message.attempt) == (number, 1)
        pusher.flush(until="processed", timeout=DEADLINE)
        assert man.connections >= 2  # more if he stalls: then who hears nothing for a second calls again
        eventually(lambda: sender.ledger().held[0].acked == COUNT)
