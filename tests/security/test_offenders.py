"""Whose frames are refused: a few are pardoned, and who sends many or large ones is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import zmq

from zq.security import offenders
from zq.security.offenders import LEAST, PARDONED, TURN, WHILE, Offenders
from zq.security.porch import PACE, Porch
from zq.security.tokens import FINED

PATIENCE = 5_000  # ms for what takes one


class Pair:
    """A door, and who has come there; what he says is refused. `closing` ends both."""

    def __init__(self, endpoint: str) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.door, self.caller = self.context.socket(zmq.PULL), self.context.socket(zmq.PUSH)
        self.door.bind(endpoint)
        self.monitor = self.caller.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self.caller.connect(self.door.get_string(zmq.LAST_ENDPOINT))

    def close(self) -> None:
        self.context.destroy(linger=0)

    def is_refused(self, judge: Offenders, size: int, times: int = 1) -> list[bool]:
        said = []
        for _ in range(times):
            self.caller.send(b"?")
            assert self.door.poll(PATIENCE)
            said.append(judge.refused(self.door.recv(copy=False), size))
        return said


@pytest.fixture(params=["tcp", "ipc"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    with closing(Pair("tcp://127.0.0.1:*" if request.param == "tcp" else f"ipc://{tmp_path}/door")) as pair:
        yield pair


def test_a_large_frame_is_one_too_many(pair: Pair) -> None:
    judge = Offenders(Porch())
    assert pair.is_refused(judge, PARDONED + 1) == [True]
    assert judge.cut_off == 1
    assert pair.monitor.poll(PATIENCE)


def test_small_ones_are_pardoned_but_not_without_end(pair: Pair) -> None:
    judge, pardoned = Offenders(Porch()), PARDONED // LEAST
    assert not any(pair.is_refused(judge, 1, pardoned))
    assert judge.cut_off == 0
    assert pair.is_refused(judge, 1) == [True]
    assert judge.cut_off == 1


def test_a_while_later_all_is_pardoned(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(offenders.time, "monotonic", lambda: now[0])
    judge = Offenders(Porch())
    assert pair.is_refused(judge, PARDONED) == [False]
    now[0] += WHILE
    assert pair.is_refused(judge, PARDONED) == [False]
    assert pair.is_refused(judge, 1) == [True]


def test_only_so_many_connections_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offenders, "CONNECTIONS", 2)
    judge = Offenders(Porch())
    with ExitStack() as stack:
        pairs = [stack.enter_context(closing(Pair("tcp://127.0.0.1:*"))) for _ in range(3)]
        for pair in pairs:
            assert pair.is_refused(judge, PARDONED) == [False]
        assert pairs[0].is_refused(judge, 1) == [False]  # it was forgotten
        assert pairs[2].is_refused(judge, 1) == [True]


def test_his_address_gets_its_next_turns_later_for_each_of_them() -> None:
    porch = Porch()
    judge = Offenders(porch)
    porch.admitted("127.0.0.1", 0.0)
    turns = porch._friends["127.0.0.1"].turns
    assert turns.seconds() == 0.0
    with closing(Pair("tcp://127.0.0.1:*")) as pair:
        for most in (3.2, 6.4):
            before = turns.seconds()
            pair.is_refused(judge, 16 * TURN)
            assert before < turns.seconds() <= most
        pair.is_refused(judge, 10_000 * TURN)
    assert FINED - 1.0 <= turns.seconds() <= FINED + 2 * PACE
    porch.fined("192.0.2.1", 100, 0.0)  # where nobody has been let in: all strangers would pay for it
