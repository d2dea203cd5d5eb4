"""Strangers on the network: garbage is counted and logged once, and what peers claim cannot hurt the engine.

A `Stranger` speaks the protocol with plain ZeroMQ sockets, so that it can lie: after it has met a peer it is up
there, and every kind of frame with every kind of impossible value is taken from it.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

import zq
from tests.waiting import PATIENCE, eventually
from zq.security.lock import Lock
from zq.wire import frames
from zq.wire.batch import BatchHeader, Run, encode_batch, encode_topic, topic_prefix
from zq.wire.body import address, decode_addressed
from zq.wire.data import pack
from zq.wire.frames import (
    Binding,
    End,
    Entry,
    Goodbye,
    Hello,
    LedgerReply,
    Noted,
    Probe,
    Refilled,
    Repair,
    Seen,
    Since,
    State,
    Welcome,
)
from zq.wire.reader import CHUNK

TCP: dict[str, Any] = {"insecure": True, "interfaces": ["127.0.0.1"], "discovery": ["host"]}


@pytest.fixture
def victim(clean_environment: None) -> Iterator[zq.Peer]:
    peer = zq.Peer("victim", **TCP).open()
    yield peer
    try:
        peer.close(timeout=0)
    except zq.Undelivered:
        pass  # a lying puller may have kept something


class Stranger:
    """A peer made of plain sockets; with the `lock` of the victim's realm, a member of it."""

    def __init__(self, victim: zq.Peer, lock: Lock | None = None) -> None:
        engine = victim._engine
        assert engine is not None
        self.id = secrets.token_bytes(16)
        self._card = engine.node.card
        self._context = zmq.Context()
        self._rows: list[list[str]] = []
        row = []
        self.mailbox = self._context.socket(zmq.PULL)
        self.feed = self._context.socket(zmq.XPUB)
        self.work = self._context.socket(zmq.PULL)
        for bound in (self.mailbox, self.feed, self.work):
            if lock is not None:
                lock.shut(bound)
                bound.set(zmq.ZAP_ENFORCE_DOMAIN, 0)  # whom he lets in is his affair
            bound.bind("tcp://127.0.0.1:*")
            row.append(bound.get_string(zmq.LAST_ENDPOINT))
        self._rows.append(row)
        self._to = []
        for kind, endpoint in zip((zmq.PUSH, zmq.XSUB, zmq.PUSH), self._card.endpoints[0], strict=True):
            socket = self._context.socket(kind)
            socket.setsockopt(zmq.LINGER, 0)
            if lock is not None:
                lock.fit_own(socket)
            socket.connect(endpoint)
            self._to.append(socket)
        self.to_mailbox, self.to_feed, self.to_work = self._to

    def close(self) -> None:
        self._context.destroy(linger=0)

    def hello(self, *, lowest: int = 1, highest: int = 1, endpoints: list[list[str]] | None = None) -> None:
        rows = self._rows if endpoints is None else endpoints
        hello = Hello(
            lowest, highest, self._card.tag, secrets.token_bytes(8), 0, "stranger", "nowhere", os.getpid(), rows
        )
        self.tell(hello)

    def tell(self, body: Any) -> None:
        self.to_mailbox.send(body.encode(self._card.id, self.id))

    def hear(self, kind: bytes) -> memoryview:
        """The body of the next frame of this kind in its mailbox."""
        deadline = time.monotonic() + PATIENCE
        while self.mailbox.poll(max(int((deadline - time.monotonic()) * 1000), 0)):
            frame = decode_addressed(self.mailbox.recv())
            if frame.kind == kind:
                return memoryview(frame.body)
        raise AssertionError(f"no frame of kind {kind!r} has come")

    def meet(self, **entry: Any) -> None:
        """Until it is up at the victim, with this roster entry."""
        self.hello()
        said = Hello.decode(self.hear(frames.HELLO))
        self.tell(Welcome(said.nonce, 0, "stranger", "nowhere", os.getpid(), self._rows))
        self.hear(frames.ENTRY)
        if entry:
            self.tell(self.entry(1, **entry))
            self.hear(frames.NOTED)

    @staticmethod
    def entry(version: int, **rows: Any) -> Entry:
        return Entry(
            version,
            rows.get("fence", bytes(8)),
            rows.get("filters", []),
            rows.get("topics", []),
            rows.get("pushes", []),
            rows.get("pulls", []),
            rows.get("lags", []),
            rows.get("drops", []),
        )


@pytest.fixture
def stranger(victim: zq.Peer) -> Iterator[Stranger]:
    stranger = Stranger(victim)
    yield stranger
    stranger.close()


def still_works(victim: zq.Peer) -> None:
    """The victim and a friend exchange messages; every listing answers; the ledger balances."""
    engine = victim._engine
    assert engine is not None
    assert engine.failed is None
    with zq.Peer("friend", **TCP) as friend:
        name = f"check/{secrets.token_hex(4)}"
        subscriber, puller = victim.subscriber(name), victim.puller(name)
        friend.publish(name, 1)
        friend.push(name, 2)
        assert subscriber.receive(timeout=PATIENCE).data == 1
        puller.receive(timeout=PATIENCE).ack()
        subscriber.close()
        puller.close()
    for look in (victim.peers, victim.topics, victim.queues):
        look()
    assert victim.ledger().balanced
    assert engine.failed is None


def refused(victim: zq.Peer, count: int) -> None:
    eventually(lambda: victim.ledger().refused_frames >= count)
    assert victim.ledger().refused_frames == count


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


# --- garbage


GARBAGE = [
    b"",
    b"\0",
    b"hello",
    bytes(33),
    bytes(200),
    b"\xff" * 1_000,
    b"GET / HTTP/1.1\r\n\r\n",
    os.urandom(5_000),
    *(kind + bytes(32) + b"\xc1" for kind in (b"H", b"w", b"E", b"s", b"P", b"B", b"F", b"f", b"?")),
]


@pytest.mark.parametrize("where", ["mailbox", "work"])
def test_garbage_is_counted_and_logged_once_a_sender(
    victim: zq.Peer, stranger: Stranger, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    socket = stranger.to_mailbox if where == "mailbox" else stranger.to_work
    for frame in GARBAGE:
        socket.send(frame)
        socket.send_multipart([frame, b"", frame])
    refused(victim, 2 * len(GARBAGE))
    senders = {frame[17:33] for frame in GARBAGE}
    assert len(warnings_in(caplog)) <= len(senders)
    assert all("only counted" in text for text in warnings_in(caplog))
    still_works(victim)


def test_a_thousand_senders_do_not_flood_the_log(
    victim: zq.Peer, stranger: Stranger, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1_000):
        stranger.to_mailbox.send(b"?" + bytes(16) + secrets.token_bytes(16))
    refused(victim, 1_000)
    assert 0 < len(warnings_in(caplog)) <= 256


def test_garbage_to_the_feed_changes_nothing(victim: zq.Peer, stranger: Stranger) -> None:
    for frame in [*GARBAGE, b"\1", b"\1T", b"\1R", b"\1\xff", b"\1\xff" + bytes(24), b"\0\xff" + bytes(24), b"\2abc"]:
        stranger.to_feed.send(frame)
        stranger.to_feed.send_multipart([frame, frame])
    still_works(victim)


def test_frames_of_somebody_who_was_not_met_are_refused(victim: zq.Peer, stranger: Stranger) -> None:
    for body in (Goodbye([]), End(bytes(16)), Noted(1), stranger.entry(1, filters=[["**", -1.0, 1]])):
        stranger.tell(body)
    refused(victim, 4)
    assert victim.peers() == []


def test_frames_for_somebody_else_are_refused(victim: zq.Peer, stranger: Stranger) -> None:
    stranger.meet()
    stranger.to_mailbox.send(Goodbye([]).encode(bytes(16), stranger.id))
    refused(victim, 1)
    eventually(lambda: [info.state for info in victim.peers()] == ["up"])  # suspect for a moment if the machine stalls


# --- other versions


def test_a_peer_of_another_version_is_shown_and_logged_once(
    victim: zq.Peer, stranger: Stranger, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        stranger.hello(lowest=2, highest=3)
    (info,) = eventually(victim.peers)
    assert (info.id, info.state) == (stranger.id, "incompatible")
    still_works(victim)
    (text,) = [text for text in warnings_in(caplog) if "upgrade" in text]
    assert "2 to 3" in text
    assert victim.ledger().refused_frames == 0


def test_a_version_of_the_future_with_other_fields_is_understood_as_far_as_needed(
    victim: zq.Peer, stranger: Stranger
) -> None:
    body = frames.msgpack.packb([7, 9, {"all": "new"}, [[1, 2], 3]])
    stranger.to_mailbox.send(address(frames.HELLO, bytes(16), stranger.id) + body)
    (info,) = eventually(victim.peers)
    assert info.state == "incompatible"
    still_works(victim)


# --- lies


ENDPOINTS = [
    "",
    "nonsense",
    "tcp://",
    "tcp://127.0.0.1",
    "tcp://127.0.0.1:0",
    "tcp://127.0.0.1:99999",
    "tcp://*:*",
    "tcp://256.0.0.1:1",
    "ipc://",
    "ipc:///nowhere/at/all",
    "inproc://monitor-1",
    "udp://127.0.0.1:1",
    "pgm://x",
    "tcp://127.0.0.1:1\0",
    "x" * 1_000,
]


def test_endpoints_that_cannot_be_dialled(victim: zq.Peer, stranger: Stranger) -> None:
    for endpoint in ENDPOINTS:
        stranger.id = secrets.token_bytes(16)
        stranger.hello(endpoints=[[endpoint] * 3])
    stranger.id = secrets.token_bytes(16)
    stranger.hello(endpoints=[])
    still_works(victim)


@pytest.mark.parametrize("column", [1, 2])
def test_feed_and_work_endpoints_that_cannot_be_dialled(victim: zq.Peer, stranger: Stranger, column: int) -> None:
    pusher = victim.pusher("jobs")
    pusher.send(1)
    stranger._rows[0][column] = "tcp://nonsense"
    stranger.meet(pulls=[["jobs", bytes(16)]], filters=[["**", -1.0, 1]], topics=[["news", 3]])
    link = Probe.decode(stranger.hear(frames.PROBE)).link
    stranger.tell(State(link, 0, 1, [], [], 100, 1 << 20, 0, 0, False, 0))
    victim.publish("news", 1)
    still_works(victim)


@pytest.mark.parametrize(
    "rows",
    [
        {"filters": [["a**", -1.0, 1]]},
        {"filters": [["", -1.0, 1]]},
        {"filters": [["x" * 1_000, -1.0, 1]]},
        {"filters": [["**", math.nan, 1], ["news", -math.inf, 2]]},
        {"filters": [["**", -1.0, number] for number in range(5_000)]},
        {"topics": [["no name", 1], ["", 5], ["news", (1 << 63) - 1]]},
        {"pushes": [["no name", 1, math.nan], ["jobs", (1 << 63) - 1, -math.inf]]},
        {"pulls": [["no name", bytes(16)], ["jobs", bytes(16)], ["jobs", bytes(16)], ["jobs", b"x" * 16]]},
    ],
    ids=lambda rows: repr(rows)[:40],
)
def test_roster_entries_with_impossible_rows(victim: zq.Peer, stranger: Stranger, rows: dict[str, Any]) -> None:
    publisher, pusher = victim.publisher("news"), victim.pusher("jobs")
    publisher.send(1)
    pusher.send(1)
    stranger.meet()
    stranger.tell(stranger.entry(1, **rows))
    stranger.tell(stranger.entry(2, **rows))
    publisher.send(2)
    still_works(victim)
    repr(publisher), repr(pusher)


@pytest.mark.parametrize("name", ["\x1b[2J", "no name", "", "a//b", "/"], ids=repr)
def test_a_topic_that_cannot_be_called_so_is_refused_even_if_everything_is_wanted(
    victim: zq.Peer, stranger: Stranger, name: str
) -> None:
    subscriber = victim.subscriber("**")
    stranger.meet()
    while not stranger.feed.recv().startswith(b"\1T"):
        pass
    for topic in (name, "good"):
        run = Run(stranger.id, 1, 1, time.time())
        stranger.feed.send(encode_topic(topic_prefix(topic), 0, run, 1, 0.0, [b"\x91\x01"]))
    while not (fence := stranger.feed.recv()).startswith(b"\1\xff"):
        pass
    answer = frames.Fence(victim.id, fence[18:], stranger.id, 0.0, [])
    stranger.feed.send(frames.encode_fence(answer))
    refused(victim, 1)
    assert subscriber.receive(timeout=PATIENCE).topic == "good"
    assert victim.ledger().balanced


def test_garbage_from_a_feed_is_logged_once(
    victim: zq.Peer, stranger: Stranger, caplog: pytest.LogCaptureFixture
) -> None:
    victim.subscriber("**")
    stranger.meet()
    while not stranger.feed.recv().startswith(b"\1T"):
        pass
    for length in range(100):
        stranger.feed.send(b"T" + secrets.token_bytes(length))
    refused(victim, 100)
    (text,) = warnings_in(caplog)
    assert stranger.id.hex()[:8] in text


def number(chance: random.Random) -> int:
    return chance.choice([0, 1, 2, 3, 7, 63, 64, 65, 1 << 20, 1 << 31, 1 << 62, (1 << 63) - 1])


def seconds(chance: random.Random) -> float:
    return chance.choice([0.0, 0.001, 1.0, -1.0, -2.0, 1e9, 1e308, math.inf, -math.inf, math.nan])


def text(chance: random.Random) -> str:
    return chance.choice(["", "news", "jobs", "**", "a**", "a//b", "\0", "grün", "x" * 1_000])


class Liar:
    """Draws frames whose every field has the right type and any value."""

    def __init__(self, seed: int, ids: list[bytes]) -> None:
        self._chance = random.Random(seed)
        self._ids = ids

    def _id(self) -> bytes:
        return self._chance.choice([*self._ids, bytes(16)])

    def _some(self, *draw: Any) -> list[list[Any]]:
        return [[one() for one in draw] for _ in range(self._chance.randrange(4))]

    def body(self) -> Any:
        chance = self._chance

        def count() -> int:
            return number(chance)

        def name() -> str:
            return text(chance)

        def time() -> float:
            return seconds(chance)

        def outcome() -> int:
            return chance.randrange(7)

        return chance.choice(
            [
                lambda: Noted(count()),
                lambda: Seen(self._some(name, count, count)),
                lambda: Repair(count(), name(), count(), count(), time()),
                lambda: Refilled(count(), name(), count(), count(), count()),
                lambda: Probe(
                    self._id(), count(), count(), name(), self._id(), count(), count(), count(), count(), count()
                ),
                lambda: State(
                    self._id(),
                    count(),
                    count(),
                    self._some(count, count, outcome),
                    self._some(count, outcome, time, name),
                    count(),
                    count(),
                    count(),
                    count(),
                    chance.random() < 0.1,
                    count(),
                ),
                lambda: End(self._id()),
                lambda: LedgerReply(
                    count(), {name(): count(), "peer": name(), "held": [{name(): time()}]}, count(), count(), count()
                ),
                lambda: Entry(
                    count(),
                    bytes(8),
                    self._some(name, time, count),
                    self._some(name, count),
                    self._some(name, count, time),
                    self._some(name, self._id),
                    self._some(name, self._id),
                    self._some(name, self._id, lambda: [name()]),
                    [row[0] for row in self._some(name)],
                    self._some(count, name, self._id, self._id, count, count),
                    self._some(count, name, name, count),
                ),
                lambda: Binding(name(), self._id(), time()),
                lambda: Since(name(), self._id(), time()),
            ]
        )()

    def topic_frame(self, origin: bytes) -> bytes:
        chance = self._chance
        run = Run(origin, number(chance), chance.choice([0, 1, 2, 512, 1 << 20, 1 << 31]), seconds(chance))
        prefix = topic_prefix(chance.choice(["news", "x", ""]))
        items = [b"\x91\x01"] * chance.randrange(3)
        return encode_topic(prefix, chance.randrange(16), run, number(chance), seconds(chance), items)

    def batch(self, addressee: bytes, sender: bytes) -> bytes:
        chance = self._chance
        length = chance.choice([1, 2, 3, 1 << 20])
        header = BatchHeader(
            addressee,
            sender,
            self._id(),
            chance.randrange(3),
            chance.randrange(1 << 16),
            chance.randrange(32),
            number(chance),
            length,
            number(chance),
            number(chance),
            chance.randrange(1 << 32),
        )
        return encode_batch(header, [Run(sender, number(chance), length, seconds(chance))], [b"\x91\x01"])


@pytest.mark.parametrize("seed", range(6))
def test_whatever_a_peer_says_the_engine_goes_on(victim: zq.Peer, seed: int) -> None:
    publisher, subscriber = victim.publisher("news"), victim.subscriber("**")
    pusher, puller = victim.pusher("jobs"), victim.puller("jobs")
    stranger = Stranger(victim)
    try:
        stranger.meet(
            filters=[["**", -2.0, 1]],
            topics=[["news", 1]],
            pushes=[["jobs", 1, 0.0]],
            pulls=[["jobs", bytes(16)]],
        )
        link = Probe.decode(stranger.hear(frames.PROBE)).link
        core: Any = puller._core
        own = secrets.token_bytes(16)
        stranger.tell(Probe(own, 0, 0, "jobs", core.id, 1, 0, 0, 5, 0))
        liar = Liar(seed, [link, own, core.id, stranger.id])
        for turn in range(400):
            stranger.tell(liar.body())
            stranger.feed.send(liar.topic_frame(stranger.id))
            stranger.to_work.send(liar.batch(victim.id, stranger.id))
            if turn % 50 == 0:
                publisher.send(turn)
                pusher.send(turn)
        for receiver in (subscriber, puller):
            for message in itertools.islice(_those_here(receiver), 2_000):
                message.ack()
            receiver.close()  # so that what is left in it holds nobody back
        stranger.hello()
        engine = victim._engine
        assert engine is not None
        assert victim.ledger() is not None
        assert engine.failed is None
    finally:
        stranger.close()
    eventually(lambda: not [info for info in victim.peers() if info.state == "up"])
    still_works(victim)


def _those_here(receiver: Any) -> Iterator[zq.Message]:
    while True:
        try:
            yield receiver.receive(timeout=0)
        except zq.Timeout:
            return


def test_a_ledger_that_does_not_decode_is_refused(victim: zq.Peer, stranger: Stranger) -> None:
    stranger.meet()
    asking = []

    def ask() -> None:
        asking.append(victim.ledger(realm=True, timeout=3 * PATIENCE))

    thread = threading.Thread(target=ask)
    thread.start()
    request = frames.Ask.decode(stranger.hear(frames.ASK)).request
    for junk in ({}, {"peer": 1}, {"peer": b"", "name": "", "held": [1], "pulled": {}}, {"held": [{"queue": {}}]}):
        stranger.tell(LedgerReply(request, junk, 0, 1, 1))
    refused(victim, 4)
    stranger.tell(Goodbye([]))  # nobody waits for it any longer
    thread.join()
    (ledger,) = asking
    assert (ledger.others, ledger.unknown) == ((), ("stranger",))
    still_works(victim)


@pytest.mark.parametrize("place", [0, 40])
def test_messages_that_do_not_decode_are_dropped_with_those_behind_them_in_their_frame(
    clean_environment: None, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = [pack(number) for number in range(50)]
    bodies[place] = b"\xa2\xff\xff"  # a str that is no UTF-8
    ready = place // CHUNK * CHUNK  # those decoded together with it are dropped too
    with zq.Peer("victim", discovery=["none"]) as peer:
        subscriber, one = peer.subscriber("a"), peer.publisher("a")
        puller, two = peer.puller("b", prefetch=100), peer.pusher("b")
        one.wait_for_subscribers()
        two.wait_for_pullers()
        for sender in (one, two):
            sender._outgoing.items.extend(bodies)
            peer._engine.mark(sender._core)  # type: ignore[union-attr]
            eventually(lambda outgoing=sender._outgoing: not outgoing.items)
            sender.send("after")
        assert [message.data for message in itertools.islice(subscriber, ready + 1)] == [*range(ready), "after"]
        got = []
        while "after" not in got:
            with puller.receive(timeout=PATIENCE) as message:
                got.append(message.data)
        eventually(lambda: peer.ledger().pulled[0].rejected)
        two.flush()
        ledger = peer.ledger()
        assert ledger.balanced
        assert ledger.pulled[0].rejected == ledger.held[0].dropped["rejected"] == 51 - len(got)
        assert place == 0 or 0 in got
    assert len([record for record in caplog.records if "do not decode" in record.message]) == 2
