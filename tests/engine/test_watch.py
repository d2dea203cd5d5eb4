"""Which sockets are read when, and what wakes who sleeps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import zmq

from tests.waiting import eventually
from zq.engine.wake import Bell
from zq.engine.watch import Watch, is_readable


@dataclass
class Pair:
    """Of sockets, the second of which is watched."""

    sender: zmq.Socket[bytes]
    receiver: zmq.Socket[bytes]
    fd: int = 0
    read: list[bytes] = field(default_factory=list)

    def read_one(self) -> bool:
        self.read.append(self.receiver.recv(zmq.NOBLOCK))
        return is_readable(self.receiver)

    def send(self, message: bytes) -> None:
        self.sender.send(message)
        eventually(lambda: is_readable(self.receiver))


class Watched:
    """A watch, its bell and as many pairs as a test wants."""

    def __init__(self) -> None:
        self.bell = Bell()
        self.watch = Watch(self.bell)
        self.pairs: list[Pair] = []
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def pair(self) -> Pair:
        name = f"inproc://{time.monotonic_ns()}"
        receiver, sender = self.context.socket(zmq.PULL), self.context.socket(zmq.PUSH)
        receiver.bind(name)
        sender.connect(name)
        pair = Pair(sender, receiver)
        self.pairs.append(pair)
        pair.fd = self.watch.add(receiver, pair.read_one)
        return pair

    def close(self) -> None:
        self.watch.close()
        for pair in self.pairs:
            pair.sender.close(0)
            pair.receiver.close(0)
        self.context.term()
        self.bell.close()


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.close()


def test_the_first_is_read_before_the_others_and_who_has_more_stays_marked(watched: Watched) -> None:
    one, first = watched.pair(), watched.pair()
    order: list[bytes] = []
    one.read = first.read = order
    for pair in (one, first):
        pair.send(b"first" if pair is first else b"one")
    one.send(b"more")
    assert watched.watch.has_marked()
    watched.watch.read(first=first.fd)
    assert order == [b"first", b"one"]
    assert watched.watch.has_marked()
    watched.watch.read(first=first.fd)
    assert order == [b"first", b"one", b"more"]
    assert not watched.watch.has_marked()


def test_what_was_signalled_is_marked(watched: Watched) -> None:
    pair = watched.pair()
    assert not watched.watch.has_marked()
    pair.sender.send(b"message")
    watched.watch.sleep(None)
    assert watched.watch.has_marked()


def test_who_stays_awake_hears_at_once_and_else_says_that_there_was_nothing(watched: Watched) -> None:
    pair = watched.pair()
    watched.watch.has_marked()
    assert not watched.watch.stay_awake()
    pair.sender.send(b"message")
    eventually(watched.watch.stay_awake)
    assert watched.watch.has_marked()


@pytest.mark.parametrize("timeout", [0.0, 0.0002, 0.01])
def test_nothing_is_waited_for_longer_than_was_said(watched: Watched, timeout: float) -> None:
    watched.pair()
    watched.watch.has_marked()  # what made it readable is gone
    began = time.monotonic()
    watched.watch.sleep(timeout)
    assert timeout - 0.001 <= time.monotonic() - began < 5.0  # epoll counts in milliseconds


def test_the_bell_ends_a_sleep_once(watched: Watched) -> None:
    watched.bell.ring()
    watched.watch.sleep(None)
    began = time.monotonic()
    watched.watch.sleep(0.01)
    assert time.monotonic() - began > 0.005


def test_who_is_not_heeded_wakes_nobody_and_is_read_when_marked(watched: Watched) -> None:
    pair = watched.pair()
    watched.watch.has_marked()
    watched.watch.heed([pair.fd], False)
    pair.send(b"message")
    watched.watch.sleep(0.01)
    assert not watched.watch.has_marked()
    watched.watch.mark(pair.fd)
    assert watched.watch.has_marked()


def test_who_is_watched_no_longer_is_not_read(watched: Watched) -> None:
    pair, other = watched.pair(), watched.pair()
    pair.send(b"message")
    watched.watch.remove(pair.receiver)
    watched.watch.has_marked()
    watched.watch.read(first=other.fd)
    assert pair.read == []
