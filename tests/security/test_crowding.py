"""Who has the key and opens connections without end gets so many; others come in and go on."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import zmq

import zq
from tests.processes.conftest import Options
from tests.security.rogues import DEADLINE, Friends, doors_of, lock_of
from tests.waiting import eventually
from zq.engine.factory import HANDSHAKE
from zq.security import guard

SHARE = 40


def test_a_member_with_connections_without_end_leaves_descriptors_to_others(
    keyed: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From an address of his own: those at the same one share it."""
    monkeypatch.setattr(guard, "CONNECTIONS", SHARE)
    with Friends(keyed) as friends, ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        victim = friends.sender
        here = doors_of(victim)[0].replace("tcp://", "tcp://127.0.0.66:0;")
        for _ in range(3 * SHARE):
            caller = stack.enter_context(context.socket(zmq.PUSH))
            caller.set(zmq.LINGER, 0)
            caller.set(zmq.RECONNECT_IVL, -1)  # once
            lock_of(victim).fit_own(caller)
            caller.connect(here)
        eventually(lambda: victim.ledger().turned_away.get("too many connections") == 2 * SHARE, DEADLINE)
        with zq.Peer("late", **keyed) as late:
            late.wait_for_peers(2, timeout=DEADLINE)
        friends.rest()
        assert len(friends.took) == friends.sent
        stack.close()
        eventually(lambda: "127.0.0.66" not in guard_of(victim)._connections, HANDSHAKE / 1_000 + DEADLINE)


def guard_of(peer: zq.Peer) -> guard.Guard:
    engine = peer._engine
    assert engine is not None
    assert engine._sockets is not None
    return engine._sockets.listeners.guard
