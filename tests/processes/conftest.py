"""Starting processes, so that every one of them is ended, and two ways for peers to be connected."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.processes.process import Process
from zq.core import meeting
from zq.engine import factory

SILENCE = 60.0  # s; more than anything waits for here
Start = Callable[..., Process]
Options = dict[str, Any]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `role(*arguments)` in a process that is ended with the test, by its own id."""
    started: list[Process] = []

    def start_one(role: str, *arguments: Any, **others: Any) -> Process:
        started.append(Process(role, *arguments, **others))
        return started[-1]

    yield start_one
    for process in started:
        process.end()


@pytest.fixture
def steadfast(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process takes nobody for gone who is silent for less than SILENCE: what is noticed was not waited for."""
    monkeypatch.setattr(factory, "HEARTBEAT_TIMEOUT", int(SILENCE * 1_000))
    monkeypatch.setattr(meeting, "SUSPECT_FOR", SILENCE)


@pytest.fixture
def local() -> Options:
    """The options of peers with nothing configured: ipc in the host directory of the test."""
    return {"realm": f"test-{secrets.token_hex(4)}"}


@pytest.fixture
def tcp() -> Options:
    """The options of peers that are connected by TCP on loopback, and find each other in the host directory."""
    return {
        "realm": f"test-{secrets.token_hex(4)}",
        "insecure": True,
        "interfaces": ["127.0.0.1"],
        "discovery": ["host"],
    }


@pytest.fixture(params=["local", "tcp"])
def options(request: pytest.FixtureRequest) -> Options:
    """Each of the two."""
    chosen: Options = request.getfixturevalue(request.param)
    return chosen
