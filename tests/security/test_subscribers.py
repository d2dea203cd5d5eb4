"""Who subscribes to more than a peer has a use for is cut off and counted; friends at the same door do not notice."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

import zq
from tests.processes.conftest import Options
from tests.security.rogues import DEADLINE, Friends, doors_of, listeners_of, lock_of, percentile, try_random_keys
from tests.waiting import eventually
from zq.cli.ledger import show
from zq.engine import factory
from zq.security import subscribers
from zq.wire.limits import NAME, SUBSCRIPTIONS

ROUNDS = 5  # of which the best has to hold, since others work on this machine as well


@contextmanager
def member_at(peer: zq.Peer) -> Iterator[zmq.Socket[bytes]]:
    """A connection to the feed of somebody with the key, who subscribes to whatever is sent on it."""
    with zmq.Context() as context, context.socket(zmq.XSUB) as feed:
        feed.set(zmq.LINGER, 0)
        feed.set(zmq.SNDHWM, 0)
        feed.set(zmq.RECONNECT_IVL, -1)  # once
        lock_of(peer).fit_own(feed)
        feed.connect(doors_of(peer)[1])
        yield feed


@pytest.fixture
def member(keyed: Options) -> Iterator[tuple[Friends, zmq.Socket[bytes]]]:
    """Friends, and somebody with the key at the feed of the one who publishes."""
    with Friends(keyed) as friends, member_at(friends.sender) as feed:
        yield friends, feed


def p99_of_next(friends: Friends, count: int, begun: int | None = None) -> float:
    """What so many messages take, from that one on, or from now."""
    start = len(friends.took) if begun is None else begun
    eventually(lambda: len(friends.took) >= start + count, DEADLINE)
    return percentile(friends.took[start:], 0.99)


def cut_off(peer: zq.Peer) -> int:
    return peer.ledger().turned_away.get("subscriptions", 0)


def test_a_flood_of_subscriptions_ends_its_connection_and_no_other(
    keyed: Options, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory, "HEARTBEAT_TIMEOUT", 60_000)  # ms: only who hangs up is suspect, not who stands still
    caplog.set_level(logging.WARNING, "zq.security")
    peace, war = [], []
    with Friends(keyed) as friends:
        there = listeners_of(friends.sender).subscribers
        for number in range(1, ROUNDS + 1):
            peace.append(p99_of_next(friends, 300))
            with member_at(friends.sender) as feed:
                begun = len(friends.took)
                for each in range(subscribers.PREFIXES + 1):
                    feed.send(b"\1Tflood/%d\0" % each)
                eventually(lambda number=number: cut_off(friends.sender) == number, DEADLINE)
                eventually(lambda: len(there._wishes) <= 1, DEADLINE)  # the friend's feed; his are forgotten
                war.append(p99_of_next(friends, 300, begun))
            if min(war) < 2 * max(peace) + 0.05:
                break
        else:
            raise AssertionError(f"friends have noticed: {war} s, and in peace {peace}")
        friends.rest()
        assert len(friends.took) == friends.sent
        assert [info.state for info in friends.sender.peers()] == ["up"]
    assert [line for line in caplog.messages if re.search("127.0.0.1.*cut off", line)]


class Frame:
    """As libzmq gives them out, of a connection with that descriptor."""

    def __init__(self, descriptor: int, content: bytes) -> None:
        self.descriptor, self.bytes = descriptor, content

    def get(self, name: str) -> str:
        assert name == "__fd"
        return str(self.descriptor)

    def __len__(self) -> int:
        return len(self.bytes)


def test_taking_back_what_was_never_subscribed_does_not_help() -> None:
    there = subscribers.Subscribers()
    here, other = socket.socketpair()
    with here, other:
        for number in range(subscribers.PREFIXES):
            assert there.count(Frame(here.fileno(), b"\1Tflood/%d\0" % number))  # type: ignore[arg-type]
            assert there.count(Frame(here.fileno(), b"\0Tother/%d\0" % number))  # type: ignore[arg-type]
        assert not there.count(Frame(here.fileno(), b"\1Tone/more\0"))  # type: ignore[arg-type]
        assert other.recv(1) == b""
        assert there.cut_off == 1


def test_a_prefix_that_no_topic_begins_with_is_cut_off(member: tuple[Friends, zmq.Socket[bytes]]) -> None:
    friends, feed = member
    feed.send(b"\1T" + b"x" * (NAME + 2))
    eventually(lambda: cut_off(friends.sender) == 1, DEADLINE)


@pytest.mark.parametrize("where", ["tcp", "files"])
def test_who_subscribes_and_unsubscribes_without_end_within_the_limit_stays(keyed: Options, where: str) -> None:
    """Also where the first and the last that subscribe to a prefix are on other connections."""
    options = keyed if where == "tcp" else {"realm": keyed["realm"]}
    with zq.Peer("a", **options) as here, zq.Peer("b", **options) as there, zq.Peer("c", **options) as third:
        third.wait_for_peers(2)
        always = third.subscriber(*(f"shared/{number}" for number in range(50)))
        publisher = here.publisher("news")
        for number in range(200):
            with there.subscriber(f"shared/{number % 50}", f"own/{number}"):
                pass
        counted = listeners_of(here).subscribers
        eventually(lambda: len(counted._wishes) == 2)
        last = there.subscriber("news")
        publisher.wait_for_subscribers()
        assert min(len(wishes.prefixes) for wishes in counted._wishes.values()) < 10
        publisher.send(1)
        assert last.receive(timeout=DEADLINE).data == 1
        assert cut_off(here) == 0
        always.close()


def test_a_peer_of_as_many_subscriptions_as_may_be_stays_and_comes_back(keyed: Options) -> None:
    with zq.Peer("a", **keyed) as here, zq.Peer("b", **keyed) as there:
        filters = [f"f/{number}/**" for number in range(SUBSCRIPTIONS)]
        subscriber = there.subscriber(*filters)
        with pytest.raises(zq.Refused, match="4,096"):
            there.subscriber("one/more")
        publisher = here.publisher("f/7/x")
        publisher.wait_for_subscribers(timeout=DEADLINE)
        publisher.send(1)
        assert subscriber.receive(timeout=DEADLINE).data == 1
        assert here.ledger().turned_away == {}
        subscriber.close()
        again = there.subscriber("f/7/x")
        publisher.send(2)
        assert again.receive(timeout=DEADLINE).data == 2


def has(peer: zq.Peer, prefix: bytes) -> bool:
    return any(prefix in wishes.prefixes for wishes in list(listeners_of(peer).subscribers._wishes.values()))


def test_a_connection_that_has_the_descriptor_of_another_one_begins_anew(keyed: Options) -> None:
    with zq.Peer("a", **keyed) as here:
        for number in range(20):
            with member_at(here) as feed:
                for each in range(subscribers.PREFIXES // 4):
                    feed.send(b"\1Tn%d/%d\0" % (number, each))
                feed.send(b"\1Tlast/%d\0" % number)
                eventually(lambda: has(here, b"Tlast/%d\0" % number), DEADLINE)  # noqa: B023
        assert cut_off(here) == 0


def test_what_was_turned_away_is_in_the_ledger_of_the_realm(
    member: tuple[Friends, zmq.Socket[bytes]], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """By which limit, for every peer; `zq ledger` says it."""
    friends, feed = member
    feed.send(b"\1T" + b"x" * (NAME + 2))
    eventually(lambda: cut_off(friends.sender) == 1, DEADLINE)
    assert try_random_keys(lock_of(friends.sender), doors_of(friends.sender), 3) == []
    eventually(lambda: friends.sender.ledger().turned_away.get("handshake") == 3, DEADLINE)
    (told,) = friends.receiver.ledger(realm=True).others
    assert told.turned_away == friends.sender.ledger().turned_away
    assert told.turned_away["subscriptions"] == 1
    assert told.turned_away["handshake"] == 3
    show(told)
    assert re.search(rb"sender .*turned away: 3 handshake, 1 subscriptions\n", capfdbinary.readouterr().out)
