"""Who is found while few file descriptors are left is dialled as soon as there are enough again."""

from __future__ import annotations

import time
from typing import cast

import zq
from zq.engine.sockets import Sockets
from zq.info import PeerInfo


def names(peers: list[PeerInfo]) -> list[str]:
    return [peer.name for peer in peers if peer.state == "up"]


def test_who_was_found_while_few_descriptors_were_left_is_met_when_there_are_enough() -> None:
    with zq.Peer("short") as short:
        engine = short._running()
        descriptors = cast(Sockets, engine._sockets)._descriptors

        def run_short() -> None:
            descriptors.scarce, descriptors._next = True, float("inf")

        def recover() -> None:
            descriptors.scarce = False

        engine.call(run_short)
        with zq.Peer("other") as other:
            deadline = time.monotonic() + 10.0
            while engine.call(lambda: other.id not in engine.node.meeting.roster):
                assert time.monotonic() < deadline
            assert not names(short.peers())
            engine.call(recover)
            short.wait_for_peers(1, timeout=5.0)
            assert names(short.peers()) == ["other"]
