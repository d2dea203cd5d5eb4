"""Realm keys in files, and the options of peers that use them: TCP on loopback, found in the test's host directory."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.conftest import Options, Start
from tests.processes.process import Process
from tests.security.rogues import write_key


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return write_key(tmp_path / "realm.key")


@pytest.fixture
def keyed(key_file: Path) -> Options:
    return options_with(key_file)


@pytest.fixture
def others(tmp_path: Path) -> Options:
    """Of a realm with another key."""
    return options_with(write_key(tmp_path / "others.key"))


def options_with(key_file: Path) -> Options:
    return {
        "realm": f"test-{secrets.token_hex(4)}",
        "key_file": str(key_file),
        "interfaces": ["127.0.0.1"],
        "discovery": ["host"],
    }


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `role(*arguments)` in a process that is ended with the test, by its own id."""
    started: list[Process] = []

    def start_one(role: str, *arguments: object) -> Process:
        started.append(Process(role, *arguments))
        return started[-1]

    yield start_one
    for process in started:
        process.end()
