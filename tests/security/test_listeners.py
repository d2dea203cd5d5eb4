"""The other direction: whoever answers a call without the key learns nothing, and says nothing that is heard."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable

import pytest
import zmq

import zq
from tests.processes.conftest import Options
from tests.security.rogues import Fit, Friends, listeners_of, lock_of, no_key, random_pair
from tests.security.test_banners import BANNERS, GREETING, greeting
from tests.waiting import eventually
from zq.engine.engine import Engine
from zq.security.lock import Lock

HELLO = 2 + 200  # bytes of the command with which CURVE begins, RFC 26: a key made for it, and a proof of nothing known
DIALS = 3  # that are watched


def engine_of(peer: zq.Peer) -> Engine:
    engine = peer._engine
    assert engine is not None
    return engine


def lure(peer: zq.Peer, endpoint: str) -> None:
    """Makes it call there, as a forged record would if it could."""
    engine = engine_of(peer)
    engine.later(lambda: engine.node.meeting.found(secrets.token_bytes(16), [endpoint], "host", engine.node.now))


def as_server(socket: zmq.Socket[bytes]) -> None:
    socket.set(zmq.CURVE_SERVER, 1)
    socket.set(zmq.CURVE_SECRETKEY, random_pair().secret)


def with_our_client_key(lock: Lock) -> Fit:
    """As one who has somehow got hold of half of what the key makes."""

    def fit(socket: zmq.Socket[bytes]) -> None:
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, lock._own.client.secret)

    return fit


LISTENERS: dict[str, Callable[[Lock], Fit]] = {
    "no key": lambda lock: no_key,
    "a key of his own": lambda lock: as_server,
    "the key to connect with": with_our_client_key,
}


@pytest.mark.parametrize("who", LISTENERS)
@pytest.mark.parametrize("kind", [zmq.PULL, zmq.ROUTER, zmq.SUB, zmq.PUB])
def test_a_false_listener_hears_no_frame(who: str, kind: int, keyed: Options) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        with zq.Peer("caller", **keyed) as peer:
            listener = context.socket(kind)
            if kind == zmq.SUB:
                listener.set(zmq.SUBSCRIBE, b"")
            LISTENERS[who](lock_of(peer))(listener)
            monitor = listener.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
            port = listener.bind_to_random_port("tcp://127.0.0.1")
            lure(peer, f"tcp://127.0.0.1:{port}")
            for _ in range(DIALS):
                assert monitor.poll(10_000)
                event = int.from_bytes(monitor.recv_multipart()[0][:2], "little")
                assert event == zmq.EVENT_ACCEPTED  # it called, but no handshake came of it
            assert not (listener.get(zmq.EVENTS) & zmq.POLLIN)
            assert peer.peers() == []
            listener.disable_monitor()
    finally:
        context.destroy(linger=0)


ANSWERS = {
    "silence": b"",
    "HTTP": BANNERS["HTTP"],
    "NULL": BANNERS["NULL"],
    "CURVE": greeting(b"CURVE", as_server=b"\1"),
    "a frame of 2^63 bytes": BANNERS["a frame of 2^63 bytes"],
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_what_leaves_before_the_key_is_shown_says_nothing(answer: bytes, keyed: Options) -> None:
    """Every byte that a false listener gets, with a name, topics and queues there that it could be told."""

    async def listen(peer: zq.Peer) -> list[bytes]:
        heard: list[bytes] = []
        done = asyncio.Event()

        async def on_call(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            try:
                async with asyncio.timeout(5.0):
                    said = b""
                    while piece := await reader.read(1 << 16):
                        said += piece
                    heard.append(said)
            except (ConnectionError, TimeoutError):
                heard.append(said)
            writer.close()
            done.set()

        server = await asyncio.start_server(on_call, "127.0.0.1", 0)
        lure(peer, f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with asyncio.timeout(10.0):
            await done.wait()
        server.close()
        return heard

    with zq.Peer("secret-name", **keyed) as peer:
        peer.subscriber("secret-topic/**")
        peer.puller("secret-queue")
        peer.publish("secret-topic/x", "secret-data")
        heard = asyncio.run(listen(peer))
        assert all(len(said) <= GREETING + HELLO for said in heard)
        for said in heard:
            for word in (b"secret", keyed["realm"].encode(), peer.id, os.uname().nodename.encode()):
                assert word not in said


def test_a_peer_in_place_of_another_costs_failed_calls_only(keyed: Options, others: Options) -> None:
    """A peer of another realm now has the port that a record names."""
    with Friends(keyed) as friends, zq.Peer("stranger", **others) as stranger:
        mailbox = engine_of(stranger).node.card.endpoints[0][0]
        lure(friends.sender, mailbox)
        eventually(lambda: listeners_of(stranger).guard.failures >= DIALS)
        friends.rest()
        assert len(friends.took) == friends.sent > 0
        assert stranger.peers() == []
        assert stranger.ledger().refused_frames == 0
        assert [peer.name for peer in friends.sender.peers()] == ["receiver"]
