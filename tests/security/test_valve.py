"""Whose connections the kernel does not finish, with connections of its own."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from zq.security import valve

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel takes no such program")
AT_ONCE = 0.1  # s in which one that is let through has long been taken
CALLERS = 40  # so that neither none nor all of them pass by chance: 1 of 100,000 runs at a share of a quarter
SOON = 5.0  # s that a hundred words never take to one who is in
AGAIN = 20.0  # s in which one that waits outside has said again what it had to say, the later the longer it has waited
MANY = [f"10.{number >> 8}.{number & 255}.1" for number in range(valve.MOST - 1)]
MANY_6 = [f"fd00::{number:x}" for number in range(valve.MOST - 1)]


@pytest.fixture
def door() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as door:
        yield door


@pytest.fixture
def door_6() -> Iterator[socket.socket]:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as door:
        yield door


def call(door: socket.socket, source: str) -> socket.socket:
    """Succeeds whether the valve is open or not."""
    caller = socket.create_connection(door.getsockname()[:2], None, (source, 0))
    caller.sendall(b"word")
    return caller


def take(door: socket.socket, patience: float = AT_ONCE) -> socket.socket | None:
    door.settimeout(patience)
    try:
        taken, _ = door.accept()
    except TimeoutError:
        return None
    valve.detach(taken)
    return taken


def is_heard(taken: socket.socket) -> bool:
    return taken.recv(4, socket.MSG_WAITALL) == b"word"


def is_taken(door: socket.socket, patience: float = AT_ONCE) -> bool:
    taken = take(door, patience)
    if taken is None:
        return False
    with taken:
        return is_heard(taken)


def passes(door: socket.socket, source: str) -> bool:
    with closing(call(door, source)) as caller:
        taken = is_taken(door)
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # its RST ends it everywhere
    return taken


@pytest.mark.parametrize("others", [[], MANY], ids=["alone", "among many"])
def test_listed_addresses_wait_or_all_but_they_do(others: list[str], door: socket.socket) -> None:
    valve.attach(door, valve.program(dict.fromkeys([*others, "127.0.0.2"], 0.0), 1.0))
    assert [passes(door, source) for source in ("127.0.0.1", "127.0.0.2", "127.0.0.3")] == [True, False, True]
    valve.attach(door, valve.program(dict.fromkeys([*others, "127.0.0.2"], 1.0), 0.0))
    assert [passes(door, source) for source in ("127.0.0.1", "127.0.0.2", "127.0.0.3")] == [False, True, False]
    valve.attach(door, valve.EVERYBODY)
    assert passes(door, "127.0.0.1")


@pytest.mark.parametrize("others", [[], MANY_6, MANY], ids=["alone", "among many", "among many of IPv4"])
def test_addresses_of_ipv6_as_well(others: list[str], door_6: socket.socket) -> None:
    for share in (0.0, 1.0):
        valve.attach(door_6, valve.program(dict.fromkeys([*others, "::1"], share), 1.0 - share))
        assert passes(door_6, "::1") is (share == 1.0)
        valve.attach(door_6, valve.program(dict.fromkeys([*others, "::2", "fe80::1%eth0"], share), 1.0 - share))
        assert passes(door_6, "::1") is (share == 0.0)


@pytest.mark.parametrize("others", [[], MANY, MANY_6], ids=["alone", "among many", "among many of IPv6"])
@pytest.mark.parametrize("listed", [True, False])
def test_of_some_a_share_passes_and_the_rest_later(others: list[str], listed: bool, door: socket.socket) -> None:
    shares = dict.fromkeys(others, 0.25)
    valve.attach(door, valve.program(shares | {"127.0.0.2": 0.25}, 1.0) if listed else valve.program(shares, 0.25))
    with ExitStack() as stack:
        for _ in range(CALLERS):
            stack.enter_context(call(door, "127.0.0.2"))
        at_once = []
        while (taken := take(door)) is not None:
            at_once.append(stack.enter_context(taken))
        assert 0 < len(at_once) < CALLERS
        valve.attach(door, valve.EVERYBODY)
        assert all(is_taken(door, AGAIN) for _ in range(CALLERS - len(at_once)))
        assert all(is_heard(taken) for taken in at_once)


def test_who_is_taken_through_a_valve_loses_nothing_of_what_he_says(door: socket.socket) -> None:
    valve.attach(door, valve.program({}, 1 / 16))
    with ExitStack() as stack:
        taken, callers = None, {}
        while taken is None:
            caller = stack.enter_context(call(door, "127.0.0.1"))
            callers[caller.getsockname()] = caller
            taken = take(door, 2 * AT_ONCE)
        with taken:
            assert is_heard(taken)
            caller = callers[taken.getpeername()]
            began = time.monotonic()
            for _ in range(100):
                caller.sendall(b"word")
                assert is_heard(taken)
            assert time.monotonic() - began < SOON  # with the filter each would have been said 16 times


def test_who_waits_outside_comes_in_when_it_is_open(door: socket.socket) -> None:
    valve.attach(door, valve.program({}, 0.0))
    with call(door, "127.0.0.1"):
        assert not is_taken(door)
        valve.attach(door, valve.EVERYBODY)
        assert is_taken(door, AGAIN)


def test_who_has_hung_up_while_he_waited_is_not_let_in_before_who_came_after_him(door: socket.socket) -> None:
    valve.attach(door, valve.program({}, 0.0))
    call(door, "127.0.0.1").close()
    with call(door, "127.0.0.2"):
        valve.attach(door, valve.EVERYBODY)
        taken = take(door, AGAIN)
        assert taken is not None
        with taken:
            assert taken.getpeername()[0] == "127.0.0.2"


def test_who_is_in_already_notices_nothing(door: socket.socket) -> None:
    with call(door, "127.0.0.1") as caller, door.accept()[0] as taken:
        valve.attach(door, valve.program({}, 0.0))
        assert taken.recv(4, socket.MSG_WAITALL) == b"word"
        taken.sendall(b"x" * 100_000)
        assert caller.recv(100_000, socket.MSG_WAITALL) == b"x" * 100_000


def test_a_program_that_the_kernel_does_not_take_lets_everybody_in(door: socket.socket) -> None:
    valve.attach(door, valve.program({}, 0.0))
    assert not passes(door, "127.0.0.1")
    valve.attach(door, valve.program({f"10.{n >> 8}.{n & 255}.2": 0.0 for n in range(6_400)}, 0.0))
    assert passes(door, "127.0.0.1")


def test_a_door_that_is_gone_is_no_error() -> None:
    door = socket.create_server(("127.0.0.1", 0))
    door.close()
    valve.attach(door, valve.EVERYBODY)
