"""ZeroMQ gives a connection up for good when its handshake goes wrong; then the peer dials anew."""

from __future__ import annotations

import secrets

import pytest
import zmq

import zq
from tests.waiting import eventually
from zq.core import supervisor
from zq.engine.engine import Engine


def engine_of(peer: zq.Peer) -> Engine:
    assert peer._engine is not None
    return peer._engine


@pytest.mark.parametrize("door", ["feed", "work"])
def test_a_door_where_somebody_else_was_at_first_is_dialled_anew(door: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who speaks ZeroMQ, and is not whom the socket is for; a moment later the peer itself is there."""
    monkeypatch.setattr(supervisor, "PATIENCE", 1.0)
    options = {"realm": f"test-{secrets.token_hex(4)}", "insecure": True, "interfaces": ["127.0.0.1"]}
    column = {"feed": 1, "work": 2}[door]
    with zmq.Context() as context, context.socket(zmq.PUSH) as impostor, zq.Peer(**options, discovery=["host"]) as one:
        engine = engine_of(one)
        port = impostor.bind_to_random_port("tcp://127.0.0.1", 20_000, 32_767)
        endpoint = f"tcp://127.0.0.1:{port}"

        def misdirect() -> None:
            engine.node.card.endpoints[0][column] = endpoint

        engine.call(misdirect)
        monitor = impostor.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        with zq.Peer(**options, discovery=["host"]) as other:
            other.wait_for_peers(1, timeout=15.0)
            subscriber, pusher = other.subscriber("news"), other.pusher("jobs")
            publisher, puller = one.publisher("news"), one.puller("jobs")
            pusher.send("a job")
            assert monitor.poll(15_000), "the other one has tried this door"
            if door == "feed":  # whether ZeroMQ gives up or comes back depends on which of the two refuses first
                eventually(lambda: engine_of(other).node.supervisor.redialled >= 1)
            impostor.disable_monitor()
            monitor.close(0)
            impostor.close(0)
            assert engine._sockets is not None
            listeners = engine._sockets.listeners
            socket = {"feed": listeners.feed, "work": listeners.work}[door]

            def move_in() -> bool:
                try:
                    listeners.bind(socket, endpoint)
                except zmq.ZMQError:
                    return False  # the impostor is still on his way out
                return True

            eventually(lambda: engine.call(move_in))
            publisher.send("news")
            assert subscriber.receive(timeout=15.0).data == "news"
            assert publisher.wait_for_subscribers(1, timeout=15.0) is None
            with puller.receive(timeout=15.0) as message:
                assert message.data == "a job"
