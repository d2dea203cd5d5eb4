"""Who fills a door before he has shown the key is cut off; who has shown it may say as much as he likes."""

from __future__ import annotations

import socket
import sys

import pytest

import zq
from tests.processes.conftest import Options
from tests.security.rogues import DEADLINE, Friends, doors_of, listeners_of
from tests.security.test_banners import greeting
from tests.waiting import eventually
from zq.engine import factory
from zq.security import overfill

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not tell")
FRAME = 200 << 20  # bytes that a stranger says his first frame has
WORK = 2


def fill(door: str, size: int) -> socket.socket:
    """A stranger's connection, with a greeting and the first `size` bytes of a frame."""
    host, port = door.removeprefix("tcp://").split(":")
    stranger = socket.create_connection((host, int(port)), timeout=DEADLINE)
    stranger.sendall(greeting(b"CURVE") + b"\x02" + FRAME.to_bytes(8, "big"))
    stranger.sendall(bytes(size))
    return stranger


def test_who_fills_the_work_door_without_a_key_is_cut_off(keyed: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in ((factory, "HANDSHAKE", 60_000), (overfill, "YOUNG", 60.0)):
        monkeypatch.setattr(module, name, value)  # that is not what ends it, however long the machine stalls
    with Friends(keyed) as friends:
        overfilled = listeners_of(friends.sender).overfill
        with fill(doors_of(friends.sender)[WORK], overfill.ENOUGH + 1):
            eventually(lambda: overfilled.cut_off == 1)
        friends.rest()
        assert len(friends.took) == friends.sent
        eventually(lambda: not overfilled)  # nobody is watched for longer than it takes


def test_what_a_friend_says_is_never_too_much(keyed: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overfill, "EVERY", 0.001)
    with zq.Peer(**keyed) as one, zq.Peer(**keyed) as other:
        puller, pusher = one.puller("q"), other.pusher("q")
        for _ in range(5):
            pusher.send(bytes(8 << 20))
            with puller.receive(timeout=DEADLINE) as message:
                assert len(message.data) == 8 << 20
        assert listeners_of(one).overfill.cut_off == listeners_of(other).overfill.cut_off == 0


def test_a_descriptor_that_is_anothers_by_now_is_left_alone() -> None:
    """He has sent little and got much, like who downloads something."""
    watched = overfill.Overfill()
    with socket.create_server(("127.0.0.1", 0)) as server:
        first = socket.create_connection(server.getsockname())
        taken, _ = server.accept()
        watched.taken(taken.fileno(), taken, 0.0)
        number = taken.fileno()
        taken.close()
        first.close()
        second = socket.create_connection(server.getsockname())
        again, _ = server.accept()
        with second, again:
            other = again if again.fileno() == number else second
            assert other.fileno() == number
            (second if other is again else again).sendall(bytes(overfill.ENOUGH + 1))
            watched.look(1.0)
            assert watched.cut_off == 0
            assert not watched


def test_strangers_are_not_watched_for_ever() -> None:
    watched = overfill.Overfill()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        taken, _ = server.accept()
        with taken:
            watched.taken(taken.fileno(), taken, 0.0)
            watched.look(1.0)
            assert watched
            watched.look(1.0 + overfill.YOUNG)
            assert not watched
