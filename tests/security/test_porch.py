"""Who waits at the doors, and whose turn it is: with a clock of the test, and connections of the kernel's."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from zq.security.porch import PACE, Porch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not hold them")
GREETING = bytes(64)


class Door:
    """A listening socket and the connections that were taken there, each of which has been sent a greeting."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def take(self) -> socket.socket:
        caller = self._stack.enter_context(socket.create_connection(self.listener.getsockname()))
        caller.sendall(GREETING)
        taken, _ = self.listener.accept()
        return self._stack.enter_context(taken)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


def is_heard(connection: socket.socket) -> bool:
    """Whether an I/O thread would be told that there is something to read."""
    poll = select.epoll()
    poll.register(connection.fileno(), select.EPOLLIN)
    heard = bool(poll.poll(0))
    poll.close()
    return heard


def take(porch: Porch, door: Door, address: str, *, suspected: bool = True) -> socket.socket:
    taken = door.take()
    porch.taken(taken.fileno(), taken, address, suspected=suspected)
    return taken


def heard(*connections: socket.socket) -> list[bool]:
    return [is_heard(connection) for connection in connections]


def test_without_an_alarm_nobody_waits(door: Door) -> None:
    porch = Porch()
    assert is_heard(take(porch, door, "a", suspected=False))
    assert not porch.waiting
    assert porch.held == 0


def test_the_suspected_have_their_turns_one_after_the_other_the_youngest_first(door: Door) -> None:
    porch = Porch()
    first, second = take(porch, door, "a"), take(porch, door, "a")
    assert heard(first, second) == [False, False]
    assert porch.look(1.0) == PACE
    assert heard(first, second) == [False, True]
    assert porch.look(1.0 + PACE / 2) == pytest.approx(PACE / 2)
    assert heard(first, second) == [False, True]
    porch.look(1.0 + PACE)
    assert heard(first, second) == [True, True]
    assert not porch.waiting


def test_addresses_take_turns(door: Door) -> None:
    """So that one that many come from holds up nobody else's newcomers."""
    porch = Porch()
    many = [take(porch, door, "a") for _ in range(5)]
    other = take(porch, door, "b")
    for number in range(2):
        porch.look(number * PACE)
    assert is_heard(other)
    assert sum(heard(*many)) == 1


def test_behind_those_who_wait_everybody_of_that_address_waits(door: Door) -> None:
    porch = Porch()
    take(porch, door, "a")
    assert not is_heard(take(porch, door, "a", suspected=False))
    assert is_heard(take(porch, door, "b", suspected=False))


def test_who_leaves_does_not_have_a_turn(door: Door) -> None:
    porch = Porch()
    first, second = take(porch, door, "a"), take(porch, door, "a")
    porch.closed(second.fileno())
    porch.closed(second.fileno())
    porch.look(1.0)
    assert is_heard(first)
    assert not porch.waiting


def test_whose_number_was_anothers_before_is_not_forgotten(door: Door) -> None:
    """Monitors of two doors may be read in the wrong order: then he waits no longer."""
    porch = Porch()
    taken = take(porch, door, "a")
    porch.closed(taken.fileno())  # said of an earlier connection with this number
    assert is_heard(taken)


def test_at_a_door_that_is_shut_nobody_is_heard_before_he_is_taken(door: Door) -> None:
    porch = Porch()
    porch.opened(door.listener.fileno(), "tcp://127.0.0.1:1")
    porch.shut(True)
    stranger, friend = door.take(), door.take()
    assert heard(stranger, friend) == [False, False]
    porch.taken(stranger.fileno(), stranger, "a", suspected=True)
    porch.taken(friend.fileno(), friend, "b", suspected=False)
    assert heard(stranger, friend) == [False, True]
    late = door.take()
    porch.shut(False)
    porch.taken(late.fileno(), late, "b", suspected=False)  # was taken by the kernel while it was shut
    assert is_heard(late)
    assert is_heard(door.take())


def test_a_door_that_is_opened_during_an_alarm_is_shut_as_well(door: Door) -> None:
    porch = Porch()
    porch.shut(True)
    porch.opened(door.listener.fileno(), "tcp://127.0.0.1:1")
    assert not is_heard(door.take())
    porch.forget("tcp://127.0.0.1:1")
    porch.shut(False)
    assert not porch.doors


def test_a_connection_that_is_gone_is_no_error(door: Door) -> None:
    porch = Porch()
    taken = take(porch, door, "a")
    taken.close()
    porch.look(1.0)
    porch.opened(taken.fileno(), "tcp://127.0.0.1:1")
    porch.shut(True)
