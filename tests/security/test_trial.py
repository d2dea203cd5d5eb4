"""A peer tries its own doors before it starts: any hole, and it does not start; and it does not take long."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import zmq

import zq
from tests.processes.conftest import Options
from tests.security.rogues import listeners_of
from zq.engine.listeners import Listeners
from zq.security import trial
from zq.security.lock import Lock
from zq.security.zap import Zap

JOINING = 0.05  # s that the key may add to joining; measured: 0.012
SLACK = 4  # a machine under load


def without(*options: int) -> Callable[[Lock, zmq.Socket[bytes]], None]:
    """`Lock.shut` that forgets options."""

    def shut(self: Lock, socket: zmq.Socket[bytes]) -> None:
        settings = {
            zmq.CURVE_SERVER: 1,
            zmq.CURVE_SECRETKEY: self._own.server.secret,
            zmq.ZAP_DOMAIN: b"zq",
            zmq.ZAP_ENFORCE_DOMAIN: 1,
        }
        for option, value in settings.items():
            if option not in options:
                socket.set(option, value)

    return shut


@pytest.mark.parametrize("kind", [zmq.XPUB, zmq.PULL])
def test_a_door_without_a_lock_is_found(kind: int, keyed: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    shut = Lock.shut

    def forget_one(self: Lock, socket: zmq.Socket[bytes]) -> None:
        if kind != socket.get(zmq.TYPE):
            shut(self, socket)

    monkeypatch.setattr(Lock, "shut", forget_one)
    with pytest.raises(zq.AccessDenied, match="lets in a stranger with no key: this peer does not start"):
        zq.Peer(**keyed).open()


@pytest.mark.parametrize(
    ("forgotten", "says"),
    [
        ((zmq.CURVE_SERVER, zmq.CURVE_SECRETKEY), "does not let in who has the key"),  # ZAP refuses NULL all the same
        ((zmq.ZAP_ENFORCE_DOMAIN,), "a stranger with the key, but nobody to check it"),
        ((zmq.ZAP_DOMAIN, zmq.ZAP_ENFORCE_DOMAIN), "lets in a stranger"),
        ((zmq.ZAP_DOMAIN,), "lets in a stranger"),
    ],
)
def test_a_lock_without_one_of_its_parts_is_found(
    forgotten: tuple[int, ...], says: str, keyed: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lock, "shut", without(*forgotten))
    with pytest.raises(zq.AccessDenied, match=says):
        zq.Peer(**keyed).open()


def test_a_check_that_lets_in_every_key_is_found(keyed: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lock, "admits", lambda self, public: True)
    with pytest.raises(zq.AccessDenied, match="lets in a stranger with a key of his own"):
        zq.Peer(**keyed).open()


def test_a_check_that_lets_in_no_key_is_found(keyed: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lock, "admits", lambda self, public: False)
    with pytest.raises(zq.AccessDenied, match="does not let in who has the key"):
        zq.Peer(**keyed).open()


def test_a_door_that_does_not_answer_is_no_proof(keyed: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "PATIENCE", 0.2)
    monkeypatch.setattr(Zap, "answer", lambda self: self.socket.recv_multipart())
    with pytest.raises(zq.AccessDenied, match=r"did not answer within 0\.2 s"):
        zq.Peer(**keyed).open()


def test_a_peer_that_did_not_start_leaves_nothing_behind(keyed: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as hole:
        hole.setattr(Lock, "admits", lambda self, public: True)
        with pytest.raises(zq.AccessDenied):
            zq.Peer(**keyed, port=23_456).open()
    with zq.Peer(**keyed, port=23_456) as peer:  # its port is free again
        assert peer.peers() == []


def test_every_door_on_every_address_is_tried(keyed: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[trial.Door] = []
    stand = trial.stand_trial

    def watched(doors: list[trial.Door], lock: Lock, zap: Zap) -> None:
        tried.extend(doors)
        stand(doors, lock, zap)

    monkeypatch.setattr("zq.security.trial.stand_trial", watched)
    with zq.Peer(**(keyed | {"interfaces": ["127.0.0.1", "127.0.0.2"]})) as peer:
        assert sorted(endpoint for endpoint, _ in tried) == sorted(listeners_of(peer).bound)
        assert len(tried) == 6
        assert listeners_of(peer).guard.failures == 0  # its own tries are not held against it


def test_the_check_is_there_before_the_first_door(keyed: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    bind, start = Listeners.bind, Zap.start

    def binds(self: Listeners, socket: zmq.Socket[bytes], endpoint: str) -> None:
        order.append("door")
        bind(self, socket, endpoint)

    def starts(self: Zap) -> None:
        order.append("check")
        start(self)

    monkeypatch.setattr(Listeners, "bind", binds)
    monkeypatch.setattr(Zap, "start", starts)
    with zq.Peer(**keyed):
        assert order == ["check", "door", "door", "door", "check"]  # the last is the end of the trial without it


def test_a_key_adds_little_to_joining(keyed: Options) -> None:
    def joined_in(options: Options) -> float:
        started = time.monotonic()
        with zq.Peer(**options) as newcomer:
            newcomer.wait_for_peers(1)
            return time.monotonic() - started

    bare = keyed | {"key_file": None, "insecure": True}
    with zq.Peer(**keyed), zq.Peer(**bare):
        with_key = min(joined_in(keyed) for _ in range(5))
        without_key = min(joined_in(bare) for _ in range(5))
    assert with_key - without_key < JOINING * SLACK
