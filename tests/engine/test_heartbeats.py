"""How often a peer asks each of the others whether it still lives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from zq.core.port import Kind
from zq.engine import factory as module
from zq.engine.sockets import Events, Sockets
from zq.engine.wake import Bell


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    bell = Bell()
    made = Sockets(Events(), bell)
    yield made
    made.close(0.0)
    bell.close()


def test_on_this_machine_only_a_few_peers_are_asked_every_second(
    sockets: Sockets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEW", 2)
    monkeypatch.setattr(module, "is_local", lambda endpoint: endpoint.startswith("ipc:"))
    intervals: dict[str, list[int]] = {"here": [], "elsewhere": []}
    for number in range(0, 16, 4):
        for where, endpoint in (("here", f"ipc://{tmp_path}/{number}"), ("elsewhere", "tcp://127.0.0.1:1")):
            mailbox = number + (where == "here")
            sockets.dial(mailbox, Kind.MAILBOX, endpoint)
            intervals[where].append(int(sockets._connections[mailbox].socket.get(zmq.HEARTBEAT_IVL)))
    assert intervals["elsewhere"] == [module.HEARTBEAT] * 4
    assert intervals["here"][0] == module.HEARTBEAT
    assert intervals["here"] == sorted(intervals["here"])
    assert intervals["here"][-1] == module.interval_among(3) > module.HEARTBEAT  # two a peer, as with its feed


def test_where_many_start_at_once_not_even_the_first_are_asked_every_second(sockets: Sockets, tmp_path: Path) -> None:
    intervals: list[int] = []
    for crowd in (module.FEW - 1, 2 * module.FEW, 200):
        sockets.crowd = crowd
        sockets.dial(crowd, Kind.MAILBOX, f"ipc://{tmp_path}/{crowd}")
        intervals.append(int(sockets._connections[crowd].socket.get(zmq.HEARTBEAT_IVL)))
    assert intervals == [module.HEARTBEAT, 4 * module.HEARTBEAT, module.HEARTBEAT_MOST]


def test_what_all_cost_together_does_not_grow_until_the_longest_interval_is_reached() -> None:
    """Pings a second between all of so many, who are asked alike."""
    rates = [crowd**2 / module.interval_among(crowd) for crowd in range(module.FEW, 100)]
    assert max(rates) < 1.05 * min(rates)
    assert module.interval_among(50) + module.HEARTBEAT_TIMEOUT < 5_000  # ms until a stopped one of 50 is suspect


def test_a_file_has_longer_for_its_handshake_than_a_port(sockets: Sockets, tmp_path: Path) -> None:
    for number, (endpoint, limit) in enumerate(
        ((f"ipc://{tmp_path}/m", module.HANDSHAKE_HERE), ("tcp://127.0.0.1:1", module.HANDSHAKE))
    ):
        sockets.dial(number, Kind.MAILBOX, endpoint)
        assert sockets._connections[number].socket.get(zmq.HANDSHAKE_IVL) == limit
    sockets.listeners.bind(sockets.listeners.mailbox, f"ipc://{tmp_path}/m")
    assert sockets.listeners.mailbox.get(zmq.HANDSHAKE_IVL) == module.HANDSHAKE_HERE
