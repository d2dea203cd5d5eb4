"""A second implementation: docs/protocol.md read by somebody who has only ZeroMQ, msgpack and struct."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

import zq
from tests.waiting import eventually

DEADLINE = 10.0  # s for anything; it takes milliseconds
TAG = hashlib.blake2b(b"local\0default", digest_size=8).digest()


class Stranger:
    """A peer of zq/1 with nothing of zq in it."""

    def __init__(self, directory: Path) -> None:
        self.id = os.urandom(16)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        kinds = {"m": zmq.PULL, "f": zmq.XPUB, "w": zmq.PULL}
        self.endpoints = [f"ipc://{directory / self.id.hex()[:16]}.{letter}" for letter in kinds]
        self.mailbox, self.feed, self.work = map(self.context.socket, kinds.values())
        self.feed.set(zmq.XPUB_VERBOSE, 1)
        for socket, endpoint in zip((self.mailbox, self.feed, self.work), self.endpoints, strict=True):
            socket.bind(endpoint)
        entry = json.loads(next(directory.glob("*.peer")).read_text())
        self.other = bytes.fromhex(entry["id"])
        self.to_mailbox = self.connect(entry["endpoints"][0])

    def connect(self, endpoint: str) -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.PUSH)
        socket.connect(endpoint)
        return socket

    def tell(self, kind: bytes, *fields: Any) -> None:
        self.to_mailbox.send(kind + self.other + self.id + msgpack.packb(fields))

    def hear(self, *kinds: bytes) -> list[Any]:
        """The fields of the next frame of one of these kinds; others are passed over."""
        until = time.monotonic() + DEADLINE
        while self.mailbox.poll(max(until - time.monotonic(), 0) * 1000):
            frame = self.mailbox.recv()
            assert frame[1:33] in (self.id + self.other, bytes(16) + self.other)
            if frame[:1] in kinds:
                fields: list[Any] = msgpack.unpackb(frame[33:])
                return fields
        raise AssertionError(f"no frame of kind {kinds}")

    def meet(self) -> None:
        """Proves both directions, then connects to the other's work socket."""
        card = ["stranger", "elsewhere", 1, [self.endpoints]]
        self.tell(b"H", 1, 1, TAG, b"my nonce", 0, *card)
        nonce, endpoints = (fields := self.hear(b"H"))[3], fields[8]
        assert self.hear(b"w")[0] == b"my nonce"
        self.tell(b"w", nonce, 0, *card)
        self.to_work = self.connect(endpoints[0][2])

    def close(self) -> None:
        self.context.destroy(linger=0)


@pytest.fixture
def peer() -> Iterator[zq.Peer]:
    with zq.Peer("one") as peer:
        yield peer


@pytest.fixture
def stranger(peer: zq.Peer, host_directory: Path) -> Iterator[Stranger]:
    stranger = Stranger(host_directory)
    yield stranger
    stranger.close()


def test_a_second_implementation_can_push(peer: zq.Peer, stranger: Stranger) -> None:
    puller = peer.puller("jobs")
    stranger.meet()
    queue, puller_id = next(iter(stranger.hear(b"E")[5]))
    stranger.tell(b"N", 1)
    assert queue == "jobs"
    link = os.urandom(16)
    stranger.tell(b"P", link, 0, 0, "jobs", puller_id, 1, 0, 0, 2, 10)
    while (state := stranger.hear(b"s"))[5] < 2:  # until there is credit for two
        assert state[0] == link
    header = struct.pack(">c16s16s16sBHBQIQQIH", b"B", stranger.other, stranger.id, link, 0, 1, 0, 1, 2, 1, 0, 0, 1)
    run = struct.pack(">16sQId", stranger.id, 1, 2, time.time())
    stranger.to_work.send(header + run + msgpack.packb({"number": 1}) + msgpack.packb({"number": 2}))
    for number in (1, 2):
        message = puller.receive(timeout=DEADLINE)
        assert (message.data, message.attempt, message.redelivered) == ({"number": number}, 1, False)
        assert message.id == f"{stranger.id.hex()}-{number}"
        message.ack()
    while [1, 2, 0] not in stranger.hear(b"s")[3]:
        pass  # until both are acked
    stranger.tell(b"e", link)
    stranger.tell(b"G", [])


def test_a_second_implementation_can_publish_and_repair(peer: zq.Peer, stranger: Stranger) -> None:
    subscriber = peer.subscriber("plant/*")
    stranger.meet()
    fields = stranger.hear(b"E")
    assert fields[2] == [["plant/*", -1.0, 1]]
    fence = b"\xff" + stranger.other + fields[1]
    subscriptions = set()
    while b"\1" + fence not in subscriptions:
        assert stranger.feed.poll(DEADLINE * 1000)
        subscriptions.add(stranger.feed.recv())
    assert b"\1Tplant/" in subscriptions
    stranger.feed.send(fence + msgpack.packb([stranger.id, 100.0, []]))

    def topic_frame(number: int, flags: int, *bodies: Any) -> bytes:
        header = struct.pack(">B16sQQIdd", flags, stranger.id, number, number, len(bodies), time.time(), 100.0)
        return b"Tplant/press\0" + header + b"".join(map(msgpack.packb, bodies))

    stranger.feed.send(topic_frame(2, 0, "second"))  # the first is lost on its way
    request, topic, first, last, _ = stranger.hear(b"R")
    assert (topic, first, last) == ("plant/press", 1, 1)
    address = stranger.other + stranger.id
    stranger.to_work.send_multipart([b"F" + address + struct.pack(">Q", request), topic_frame(1, 0, "first")])
    stranger.to_work.send(b"f" + address + msgpack.packb([request, topic, 1, 1, 1]))
    assert [subscriber.receive(timeout=DEADLINE).data for _ in range(2)] == ["first", "second"]
    stranger.feed.send(topic_frame(2, 1))  # a head that asks for a report
    while stranger.hear(b"S")[0][0][:2] != ["plant/press", 2]:
        pass  # until everything is reported
    stranger.tell(b"G", [["plant/press", 3]])  # says goodbye, and that there was one more
    eventually(lambda: peer.ledger().subscribed[0].gap)
    with pytest.raises(zq.Timeout):
        subscriber.receive(timeout=0)
    (row,) = peer.ledger().subscribed
    assert (row.delivered, row.gap, row.expected) == (2, 1, 3)


def batch(stranger: Stranger, *, first: int = 1, count: int = 1, run: int = 1, flags: int = 0) -> bytes:
    """A batch of a link that does not exist, which is no fault in itself."""
    address = (stranger.other, stranger.id, bytes(16))
    header = struct.pack(">c16s16s16sBHBQIQQIH", b"B", *address, 0, 1, flags, first, count, 1, 0, 0, 1)
    return header + struct.pack(">16sQId", stranger.id, 1, run, 0.0)


def test_garbage_is_counted_said_once_and_stops_nothing(
    peer: zq.Peer, stranger: Stranger, caplog: pytest.LogCaptureFixture
) -> None:
    subscriber = peer.subscriber("own")
    stranger.meet()
    address = stranger.other + stranger.id
    mailbox = [
        b"",
        b"no frame at all",
        os.urandom(100),
        b"Z" + address,  # an unknown kind
        b"s" + address,  # no array
        b"s" + address + b"\xc1",  # no msgpack
        b"s" + address + msgpack.packb({"link": 1}),
        b"s" + address + msgpack.packb([b"too few"]),
        b"N" + address + msgpack.packb(["a number"]),
        b"N" + address + msgpack.packb([-1]),
        b"E" + address + msgpack.packb([9, bytes(8), [["a//b", 0.0, 1]], [], [], []]),  # no filter
        b"N" + stranger.id + stranger.id + msgpack.packb([1]),  # for somebody else
        b"N" + stranger.other + bytes(16) + msgpack.packb([1]),  # from nobody
    ]
    work: list[list[bytes]] = [
        [b"B"],
        [batch(stranger)[:-1]],
        [batch(stranger, first=0)],
        [batch(stranger, count=0, run=0)],
        [batch(stranger, count=1 << 21, run=1 << 21)],
        [batch(stranger, count=2)],  # its run has one
        [batch(stranger, flags=2)],  # no parts
        [batch(stranger), b"a part that no flag announces"],
        [b"F" + address + bytes(8)],  # a refill of nothing
        [b"F" + address + bytes(8), b"Tplant"],
        [b"N" + address + msgpack.packb([1])],  # belongs into a mailbox
    ]
    for frame in mailbox:
        stranger.to_mailbox.send(frame)
    for parts in work:
        stranger.to_work.send_multipart(parts)
    eventually(lambda: peer.ledger().refused_frames >= len(mailbox) + len(work))
    assert peer.ledger().refused_frames == len(mailbox) + len(work)
    said = [record.message for record in caplog.records if "refused a frame" in record.message]
    assert len(said) == len(set(said)) <= 6  # once a sender, and frames cut short have hardly any
    peer.publish("own", "still here")
    assert subscriber.receive(timeout=DEADLINE).data == "still here"
    assert [other.name for other in peer.peers()] == ["stranger"]
