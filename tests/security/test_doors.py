"""Every door of a peer refuses everybody who does not have the key: no frame gets in, none gets out."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

import zq
from tests.processes.conftest import Options
from tests.security.conftest import options_with
from tests.security.proof_door import STRANGER, from_address
from tests.security.rogues import (
    DEADLINE,
    Fit,
    Friends,
    Rogues,
    doors_of,
    listeners_of,
    lock_of,
    no_key,
    plain,
    random_keys,
    try_random_keys,
    write_key,
)
from tests.waiting import eventually
from zq.security.keys import read_keys, today
from zq.security.lock import Lock
from zq.security.porch import BURST

TYPES = (zmq.PULL, zmq.SUB, zmq.PUB, zmq.PUSH, zmq.ROUTER, zmq.DEALER, zmq.XSUB)


def another_key(options: Options, directory: Path) -> Fit:
    return Lock(read_keys(write_key(directory / "another.key")), options["realm"], today()).fit_own


def same_key_another_realm(options: Options, directory: Path) -> Fit:
    return Lock(read_keys(Path(options["key_file"])), "another", today()).fit_own


STRANGERS: dict[str, Callable[[zq.Peer, Options, Path], Fit]] = {
    "no key": lambda peer, options, directory: no_key,
    "a password": lambda peer, options, directory: plain,
    "random keys": lambda peer, options, directory: random_keys,
    "a key of his own": lambda peer, options, directory: lock_of(peer).fit_stranger,
    "another realm's key": lambda peer, options, directory: another_key(options, directory),
    "the key under another realm's name": lambda peer, options, directory: same_key_another_realm(options, directory),
}


@pytest.mark.parametrize("who", STRANGERS)
def test_a_stranger_gets_no_frame_in_or_out(who: str, keyed: Options, tmp_path: Path) -> None:
    with Friends(keyed) as friends, Rogues() as rogues:
        fit = STRANGERS[who](friends.sender, keyed, tmp_path)
        for door, kind in itertools.product(doors_of(friends.sender), TYPES):
            rogues.knock(kind, from_address(STRANGER, door), fit)
        rogues.wait_for_verdicts()
        friends.rest()
        assert rogues.who_is_in() == []
        assert rogues.who_heard() == []
        assert list(listeners_of(friends.sender).guard._friends) == ["127.0.0.1"]  # where its friend is
        assert friends.sender.ledger().refused_frames == 0
        assert len(friends.took) == friends.sent > 0  # meanwhile, those with the key went on


@pytest.mark.parametrize("who", STRANGERS)
def test_a_peer_that_is_alone_lets_nobody_in(who: str, keyed: Options, tmp_path: Path) -> None:
    """With the sockets that belong at its doors."""
    with zq.Peer(**keyed) as peer, Rogues() as rogues:
        fit = STRANGERS[who](peer, keyed, tmp_path)
        for kind, door in zip((zmq.PUSH, zmq.SUB, zmq.PUSH), doors_of(peer), strict=True):
            rogues.knock(kind, door, fit)
        rogues.wait_for_verdicts()
        assert rogues.who_is_in() == []
        assert listeners_of(peer).guard.let_in == 0


def test_who_has_the_key_gets_in(keyed: Options) -> None:
    """Or the test above would pass with doors that are walled up."""
    with zq.Peer(**keyed) as peer, Rogues() as friends:
        mailbox, feed, work = doors_of(peer)
        for kind, door in ((zmq.PUSH, mailbox), (zmq.SUB, feed), (zmq.PUSH, work)):
            friends.knock(kind, door, lock_of(peer).fit_own)
        for _ in range(3):
            friends.wait_for_verdicts()
        assert len(friends.who_is_in()) == 3
        eventually(lambda: peer.ledger().refused_frames >= 2)  # what they say makes no sense, but it is heard


def test_random_keys_do_not_fit(keyed: Options) -> None:
    with Friends(keyed) as friends:
        assert try_random_keys(lock_of(friends.sender), doors_of(friends.sender), 200) == []
        friends.rest()
        assert len(friends.took) == friends.sent > 0
        assert friends.sender.ledger().refused_frames == 0
        guard, porch = listeners_of(friends.sender).guard, listeners_of(friends.sender).porch
        eventually(lambda: guard.failures >= porch.released - guard.let_in > BURST)  # who had no turn may have left


def test_failures_are_counted_and_said_once_a_while(keyed: Options, caplog: pytest.LogCaptureFixture) -> None:
    with zq.Peer(**keyed) as peer:
        assert try_random_keys(lock_of(peer), doors_of(peer), 30) == []
        guard = listeners_of(peer).guard
        eventually(lambda: guard.failures == 30)
        assert sum(guard.by_address().values()) == 30
        assert guard.by_address().get("127.0.0.1", 0) >= 15  # those whose key was looked at: their address is sure
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert 1 <= len(warnings) <= 2  # one an address; some have gone before they could be asked theirs
    assert "does not have the key" in warnings[0]


def test_two_keys_are_two_realms(key_file: Path, others: Options) -> None:
    """In one host directory, and under one name."""
    others = others | {"realm": "default"}
    ours = options_with(key_file) | {"realm": "default"}
    with zq.Peer("a", **ours) as a, zq.Peer("b", **ours) as b, zq.Peer("c", **others) as c:
        a.wait_for_peers(1, timeout=DEADLINE)
        b.settle()
        c.settle()
        assert [peer.name for peer in a.peers()] == ["b"]
        assert c.peers() == []
        assert c.strangers() == 2
        assert listeners_of(c).guard.failures == 0  # nobody even tried


def test_peers_with_the_key_do_everything_that_others_do(keyed: Options) -> None:
    with zq.Peer("a", **keyed) as a, zq.Peer("b", **keyed) as b:
        subscriber, puller = b.subscriber("news/**"), b.puller("jobs")
        a.publisher("news/today").wait_for_subscribers(timeout=DEADLINE)
        a.publish("news/today", b"x" * 1_000_000)
        assert subscriber.receive(timeout=DEADLINE).data == b"x" * 1_000_000
        for number in range(1_000):
            a.push("jobs", number)
        for number in range(1_000):
            with puller.receive(timeout=DEADLINE) as message:
                assert message.data == number
        (found,) = a.peers()
        assert found.address.startswith("tcp://127.0.0.1:")
        assert a.ledger(realm=True).balanced
