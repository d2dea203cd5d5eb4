"""The bell in both its kinds: an eventfd, and the pair of sockets where there is none."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

import zq
from tests.waiting import PATIENCE
from zq.engine.wake import Bell


@pytest.fixture(params=["eventfd", "socketpair"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "socketpair":
        monkeypatch.delattr(os, "eventfd", raising=False)
    return str(request.param)


@pytest.fixture
def bell(kind: str) -> Iterator[Bell]:
    bell = Bell()
    assert (bell._pair is not None) == (kind == "socketpair")
    yield bell
    bell.close()


def rings(bell: Bell) -> bool:
    return bool(select.select([bell.fd], [], [], 0)[0])


def test_it_rings_until_it_is_silenced(bell: Bell) -> None:
    assert not rings(bell)
    bell.ring()
    bell.ring()
    assert rings(bell)
    bell.silence()
    assert not rings(bell)


def test_silencing_what_does_not_ring_does_nothing(bell: Bell) -> None:
    bell.silence()
    bell.ring()
    assert rings(bell)


def test_it_can_be_rung_without_end(bell: Bell) -> None:
    for _ in range(10_000):
        bell.ring()
    while rings(bell):
        bell.silence()


def test_ringing_a_closed_bell_is_harmless(kind: str) -> None:
    bell = Bell()
    bell.close()
    bell.ring()


def test_a_peer_works_with_it(kind: str) -> None:
    with zq.Peer("alone") as peer:
        pusher, puller = peer.pusher("a"), peer.puller("a")
        for number in range(200):
            pusher.send(number)
            with puller.receive(timeout=PATIENCE) as message:
                assert message.data == number
