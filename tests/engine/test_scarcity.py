"""While few file descriptors are left those who are met go on; who is found meanwhile is met when there are enough."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

import zq
from tests.waiting import PATIENCE, eventually
from zq.engine.descriptors import Descriptors
from zq.engine.sockets import Sockets
from zq.info import PeerInfo


def run_out(descriptors: Descriptors) -> None:
    descriptors.scarce, descriptors.next = True, float("inf")


def names(peers: list[PeerInfo]) -> list[str]:
    return [peer.name for peer in peers if peer.state == "up"]


def test_who_is_met_goes_on_while_few_descriptors_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZQ_HOST_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    with zq.Peer("short") as short, zq.Peer("friend") as friend, short.puller("jobs") as jobs:
        pusher = friend.pusher("jobs")
        descriptors = cast(Sockets, short._running()._sockets)._descriptors
        for data in range(2):
            pusher.send(data)
            jobs.receive(timeout=PATIENCE).ack()
            pusher.flush(until="processed", timeout=PATIENCE)
            short._running().call(lambda: run_out(descriptors))
            eventually(lambda: list(tmp_path.glob("*.shut")))
        assert names(short.peers()) == ["friend"]
        assert names(friend.peers()) == ["short"]
    assert not list(tmp_path.glob("*.shut"))


def test_who_was_found_while_few_descriptors_were_left_is_met_when_there_are_enough() -> None:
    with zq.Peer("short") as short:
        engine = short._running()
        descriptors = cast(Sockets, engine._sockets)._descriptors

        def recover() -> None:
            descriptors.scarce = False

        engine.call(lambda: run_out(descriptors))
        with zq.Peer("other") as other:
            eventually(lambda: engine.call(lambda: other.id in engine.node.meeting.roster))
            assert not names(short.peers())
            engine.call(recover)
            short.wait_for_peers(1, timeout=PATIENCE)
            assert names(short.peers()) == ["other"]
