"""Replacing a key: peers with the old one, with both, and with the new one, whoever calls whom."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

import zq
from tests.processes.conftest import Options
from tests.security.conftest import options_with
from tests.security.rogues import DEADLINE, listeners_of, lock_of, write_key
from zq.security.keys import read_keys, today


class Files:
    """Of the old key, the new key, and both before and after the day."""

    def __init__(self, directory: Path) -> None:
        self.old, self.new = write_key(directory / "old.key"), write_key(directory / "new.key")
        old, new = (read_keys(path).keys[0].line() for path in (self.old, self.new))
        self.before, self.after = directory / "before.key", directory / "after.key"
        for path, day in ((self.before, today() + timedelta(days=7)), (self.after, today() - timedelta(days=7))):
            path.touch(0o600)
            path.write_text(f"{new}\n{old} until {day}\n")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def shared(key_file: Path) -> Options:
    return options_with(key_file)


def talk(one: zq.Peer, two: zq.Peer) -> None:
    """Topics and queues, in both directions."""
    for sender, receiver in ((one, two), (two, one)):
        subscriber, puller = receiver.subscriber(f"to/{receiver.name}"), receiver.puller(f"jobs/{receiver.name}")
        with sender.publisher(f"to/{receiver.name}") as publisher:
            publisher.wait_for_subscribers(timeout=DEADLINE)
            publisher.send("topic")
            assert subscriber.receive(timeout=DEADLINE).data == "topic"
        sender.push(f"jobs/{receiver.name}", "queue")
        with puller.receive(timeout=DEADLINE) as message:
            assert message.data == "queue"


@pytest.mark.parametrize(
    ("one", "two"),
    [("old", "before"), ("before", "before"), ("before", "after"), ("after", "after"), ("after", "new")],
)
@pytest.mark.parametrize("first", [0, 1])
def test_neighbouring_steps_of_a_replacement_talk(
    one: str, two: str, first: int, files: Files, shared: Options
) -> None:
    steps = [one, two] if not first else [two, one]
    options = [shared | {"key_file": str(getattr(files, step))} for step in steps]
    with zq.Peer("first", **options[0]) as peer, zq.Peer("second", **options[1]) as other:
        peer.wait_for_peers(1, timeout=DEADLINE)
        other.wait_for_peers(1, timeout=DEADLINE)
        talk(peer, other)
        assert peer.strangers() == other.strangers() == 0


def test_the_old_key_and_the_new_one_alone_are_strangers(files: Files, shared: Options) -> None:
    with (
        zq.Peer("old", **(shared | {"key_file": str(files.old)})) as old,
        zq.Peer("new", **(shared | {"key_file": str(files.new)})) as new,
    ):
        old.settle()
        new.settle()
        assert old.peers() == new.peers() == []
        assert new.strangers() == 1


def test_a_peer_listens_with_the_key_of_the_day(files: Files, shared: Options) -> None:
    for path, listens in ((files.before, files.old), (files.after, files.new)):
        with (
            zq.Peer("both", **(shared | {"key_file": str(path)})) as both,
            zq.Peer("one", **(shared | {"key_file": str(listens)})) as one,
        ):
            assert lock_of(both).tag == lock_of(one).tag
            one.wait_for_peers(1, timeout=DEADLINE)
            assert listeners_of(both).guard.failures == 0  # the one key fits at once
