"""A fork: the child can use nothing of its parent's peer, and doesn't keep a dead parent looking alive."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

import zq
from tests.waiting import PATIENCE, eventually

PROGRAM = """
import json, os, sys, warnings
import zq

# From 3.12 on the interpreter warns of every fork beside threads: what is said of the peer itself is what counts here.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
peer = zq.Peer("parent", **json.loads(sys.argv[1])).open()
publisher, subscriber = peer.publisher("a"), peer.subscriber("a")
pusher, puller = peer.pusher("b"), peer.puller("b")
pusher.send(1)
message = puller.receive()
peer.wait_for_peers(1)
if os.fork() == 0:
    said = {}
    for name, use in {
        "publisher.send": lambda: publisher.send(1),
        "publisher.send of something large": lambda: publisher.send(bytes(100_000)),
        "publisher.send_many": lambda: publisher.send_many([1, 2]),
        "publisher.flush": lambda: publisher.flush(),
        "pusher.send": lambda: pusher.send(1),
        "pusher.flush": lambda: pusher.flush(),
        "subscriber.receive": lambda: subscriber.receive(),
        "puller.receive_many": lambda: puller.receive_many(3, timeout=0),
        "peer.publisher": lambda: peer.publisher("new"),
        "peer.publish": lambda: peer.publish("a", 1),
        "peer.subscriber": lambda: peer.subscriber("new"),
        "peer.peers": lambda: peer.peers(),
        "peer.ledger": lambda: peer.ledger(),
        "peer.watch": lambda: next(peer.watch()),
        "peer.wait_for_peers": lambda: peer.wait_for_peers(1),
    }.items():
        try:
            use()
        except Exception as error:
            said[name] = type(error).__name__
        else:
            said[name] = "nothing"
    message.ack()
    for handle in (publisher, subscriber, pusher, puller, peer):
        handle.close()
    with zq.Peer("child", **json.loads(sys.argv[1])) as own:
        own.wait_for_peers(1)
    print(json.dumps([os.getpid(), said]), flush=True)
    sys.stdin.read()  # lives on until the test has seen enough
    sys.exit(0)
message.ack()
publisher.send("from the parent")
print(json.dumps([os.getpid(), "parent"]), flush=True)
os.wait()
peer.close()
"""


class Family:
    """A peer that has forked, and its child."""

    def __init__(self, settings: dict[str, object]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        said = dict([json.loads(self.process.stdout.readline()), json.loads(self.process.stdout.readline())])
        del said[self.process.pid]
        ((self.child, self.errors),) = said.items()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with self.process:
            pass  # closes the child's stdin, should the test have failed before

    def end(self) -> str:
        return self.process.communicate(timeout=PATIENCE)[1]  # closes the child's stdin


MODES = {
    "ipc": {},
    "tcp": {"insecure": True, "interfaces": ["127.0.0.1"], "discovery": ["host"]},
}


@pytest.fixture(params=MODES, scope="module")
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def watcher(mode: str, clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[zq.Peer]:
    """One to whom nobody is gone for having been silent."""
    monkeypatch.setattr("zq.core.liveness.SUSPECT_FOR", 600.0)
    with zq.Peer("watcher", **MODES[mode]) as watcher:
        yield watcher


def test_every_use_in_the_child_says_so_and_the_parent_goes_on(watcher: zq.Peer, mode: str) -> None:
    subscriber = watcher.subscriber("a")
    with Family(MODES[mode]) as family:
        assert set(family.errors.values()) == {"Forked"}, family.errors
        assert subscriber.receive(timeout=PATIENCE).data == "from the parent"
        assert [info.name for info in watcher.peers() if info.name != "child"] == ["parent"]
        assert family.end() == ""
        assert family.process.returncode == 0
        eventually(lambda: watcher.peers() == [])


def test_a_killed_parent_is_gone_at_once_although_its_child_lives(
    watcher: zq.Peer, mode: str, host_directory: Path
) -> None:
    with Family(MODES[mode]) as family:
        (parent,) = eventually(lambda: [info for info in watcher.peers() if info.name == "parent"])
        entry = host_directory / f"{parent.id.hex()[:16]}.peer"
        assert not lockable(entry)
        family.process.kill()
        eventually(lambda: parent.id not in {info.id for info in watcher.peers()})
        os.kill(family.child, 0)  # it lives
        eventually(lambda: lockable(entry))  # the watcher locks it for a moment, to see whether it can
        family.end()


def lockable(path: Path) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True  # its scanner was faster
    return True
