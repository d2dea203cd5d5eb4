"""How often a peer asks each of the others whether it still lives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from zq.core.port import Kind
from zq.engine import sockets as module
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
    assert intervals["here"][-1] == module.HEARTBEAT_OF_MANY
