"""Names of seeds: asked off the caller's thread, once at a time, and complained of once."""

from __future__ import annotations

import logging
import queue
import socket
import threading
from typing import Any

import pytest

from zq.discovery.resolver import Resolver

DEADLINE = 10.0


@pytest.fixture
def answers() -> queue.Queue[tuple[str, list[str]]]:
    return queue.Queue()


@pytest.fixture
def resolver(answers: queue.Queue[tuple[str, list[str]]]) -> Resolver:
    return Resolver(lambda seed, endpoints: answers.put((seed, endpoints)))


def test_an_address_needs_no_name_server(
    resolver: Resolver, answers: queue.Queue[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "getaddrinfo")
    for seed in ("10.0.0.7:20000", "[fd00::7]:20000"):
        resolver.ask(seed)
        assert answers.get_nowait() == (seed, [f"tcp://{seed}"])


def test_a_name_may_have_several_addresses(
    resolver: Resolver, answers: queue.Queue[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(socket.AF_INET, 1, 6, "", ("10.0.0.7", 7)), (socket.AF_INET6, 1, 6, "", ("fd00::7", 7, 0, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [*found, found[0]])
    resolver.ask("gateway:7")
    assert answers.get(timeout=DEADLINE) == ("gateway:7", ["tcp://10.0.0.7:7", "tcp://[fd00::7]:7"])


def test_a_name_that_does_not_resolve_is_complained_of_once(
    resolver: Resolver,
    answers: queue.Queue[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    known = False

    def look_up(*_: Any, **__: Any) -> list[Any]:
        if not known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, 1, 6, "", ("10.0.0.7", 7))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for _ in range(3):
        resolver.ask("gateway:7")
        assert answers.get(timeout=DEADLINE) == ("gateway:7", [])
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("seed gateway:7 does not resolve: ")
    known = True
    resolver.ask("gateway:7")
    assert answers.get(timeout=DEADLINE)[1]
    assert caplog.messages[1:] == ["seed gateway:7 resolves now"]


def test_a_name_server_that_hangs_is_asked_once_and_holds_up_nobody(
    resolver: Resolver, answers: queue.Queue[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    go_on = threading.Event()

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        assert host == "quick" or go_on.wait(DEADLINE)
        return [(socket.AF_INET, 1, 6, "", ("10.0.0.7", 7))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    resolver.ask("slow:7")
    resolver.ask("slow:7")
    resolver.ask("quick:7")
    assert answers.get(timeout=DEADLINE)[0] == "quick:7"
    go_on.set()
    assert answers.get(timeout=DEADLINE)[0] == "slow:7"
    assert sorted(asked) == ["quick", "slow"]
