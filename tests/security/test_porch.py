"""Who waits at the doors, and whose turn it is: with a clock of the test, and connections of the kernel's."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from zq.security import crowds, valve
from zq.security.crowds import STEP
from zq.security.guard import ADDRESSES, MOST_FAILURES, Guard
from zq.security.porch import BURST, PACE, Porch
from zq.security.tokens import DEBT, Tokens

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not hold them")
GREETING = bytes(64)
HERE = "127.0.0.1"  # where everybody really comes from


class Door:
    """A listening socket, the connections taken there, to each of which somebody has said something, and its porch."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.listener = self._stack.enter_context(socket.create_server((HERE, 0)))
        self.callers: list[socket.socket] = []
        self.guard, self.porch = Guard(), Porch()
        self.porch.opened(self.listener.fileno(), "tcp://127.0.0.1:1")
        self.porch.shut(self.guard)

    def accept(self, source: str = HERE) -> socket.socket:
        caller = self._stack.enter_context(socket.create_connection(self.listener.getsockname(), None, (source, 0)))
        caller.sendall(GREETING)
        self.callers.append(caller)
        taken, _ = self.listener.accept()
        return self._stack.enter_context(taken)

    def take(self, source: str = HERE, now: float = 0.0) -> socket.socket:
        taken = self.accept(source)
        self.porch.taken(taken.fileno(), taken, source, now)
        return taken

    def use_up(self, now: float = 0.0, source: str = HERE) -> list[socket.socket]:
        """All tokens that there are."""
        return [self.take(source, now) for _ in range(BURST)]

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


def heard(*connections: socket.socket) -> list[bool]:
    return [is_heard(connection) for connection in connections]


def is_ended(connection: socket.socket) -> bool:
    """Whether it was cut off here."""
    poll = select.epoll()
    poll.register(connection.fileno(), 0)
    ended = any(event & select.EPOLLHUP for _, event in poll.poll(0))
    poll.close()
    return ended or connection.send(b"x", socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT) < 0


def test_nobody_is_heard_before_he_is_taken(door: Door) -> None:
    stranger = door.accept()
    assert not is_heard(stranger)
    door.porch.taken(stranger.fileno(), stranger, HERE, 0.0)
    assert is_heard(stranger)
    assert not door.porch


def test_a_door_that_is_opened_later_is_shut_as_well(door: Door) -> None:
    with socket.create_server((HERE, 0)) as other:
        door.porch.opened(other.fileno(), "tcp://127.0.0.1:2")
        with socket.create_connection(other.getsockname()) as caller:
            caller.sendall(GREETING)
            with other.accept()[0] as taken:
                assert not is_heard(taken)
    door.porch.forget("tcp://127.0.0.1:2")
    assert list(door.porch._crowds.doors.values()) == ["tcp://127.0.0.1:1"]


def test_a_door_that_is_not_shut_yet_holds_nobody() -> None:
    porch = Porch()
    with socket.create_server((HERE, 0)) as listener, socket.create_connection(listener.getsockname()) as caller:
        porch.opened(listener.fileno(), "tcp://127.0.0.1:1")
        caller.sendall(GREETING)
        with listener.accept()[0] as taken:
            assert is_heard(taken)


def test_so_many_have_their_turn_at_once_and_the_others_one_after_the_other_the_youngest_first(door: Door) -> None:
    assert all(heard(*door.use_up()))
    first, second = door.take(), door.take()
    assert heard(first, second) == [False, False]
    assert door.porch.look(0.0) == pytest.approx(PACE)
    assert heard(first, second) == [False, False]
    assert door.porch.look(1.0 * PACE) == pytest.approx(PACE)
    assert heard(first, second) == [False, True]
    assert door.porch.look(1.5 * PACE) == pytest.approx(PACE / 2)
    assert heard(first, second) == [False, True]
    door.porch.look(2.0 * PACE)
    assert heard(first, second) == [True, True]
    assert not door.porch
    assert door.porch.held == 2


def test_tokens_that_nobody_takes_do_not_pile_up(door: Door) -> None:
    door.use_up()
    assert heard(*door.use_up(now=3_600.0), door.take(now=3_600.0)) == [True] * BURST + [False]


def test_who_has_the_key_gives_his_token_back(door: Door) -> None:
    """So that any number of them come in as fast as the doors can do it."""
    for number in range(10 * BURST):
        assert is_heard(door.take())
        if number % BURST == BURST - 1:
            for _ in range(BURST):
                door.porch.admitted(HERE, 0.0)
    assert door.porch.held == 0


def test_giving_back_makes_no_more_tokens_than_there_were(door: Door) -> None:
    for _ in range(10 * BURST):
        door.porch.admitted(HERE, 0.0)
    assert heard(*door.use_up(), door.take()) == [True] * BURST + [False]


def test_a_friend_who_is_let_in_is_followed_by_who_waits_at_once(door: Door) -> None:
    door.porch.admitted(HERE, 0.0)
    door.use_up()
    waiting = door.take()
    door.porch.admitted(HERE, 0.0)
    door.porch.look(0.0)
    assert is_heard(waiting)


def test_strangers_at_a_new_address_take_nothing_from_friends_and_those_at_a_friends_nothing_from_others(
    door: Door,
) -> None:
    for friend in ("127.0.0.2", "127.0.0.3"):
        door.porch.admitted(friend, 0.0)
    door.use_up()
    assert not is_heard(door.take())
    assert is_heard(door.take("127.0.0.2"))
    door.use_up(source="127.0.0.3")
    assert not is_heard(door.take("127.0.0.3"))
    assert is_heard(door.take("127.0.0.2"))
    assert not is_heard(door.take("127.0.0.4"))


def test_addresses_take_turns_and_a_new_one_is_first(door: Door) -> None:
    """So that one that many come from holds up nobody else's newcomers for long."""
    door.use_up()
    many = [door.take() for _ in range(5)]
    few = [door.take("127.0.0.2") for _ in range(2)]
    late = door.take("127.0.0.3")
    order = []
    for turn in range(1, 7):
        door.porch.look(turn * PACE)
        order.append((is_heard(late), sum(heard(*few)), sum(heard(*many))))
    assert order == [(True, 0, 0), (True, 1, 0), (True, 1, 1), (True, 2, 1), (True, 2, 2), (True, 2, 3)]


def test_behind_those_who_wait_everybody_of_that_address_waits(door: Door) -> None:
    door.use_up()
    first = door.take()
    second = door.take(now=PACE)
    assert heard(first, second) == [False, False]
    door.porch.look(PACE)
    assert heard(first, second) == [False, True]


def test_the_line_of_an_address_is_its_own_from_the_moment_that_somebody_is_let_in(door: Door) -> None:
    door.use_up()
    here, there = door.take(), door.take("127.0.0.2")
    door.porch.admitted("127.0.0.2", 0.0)  # one of those who had a token
    door.porch.look(0.0)
    assert heard(here, there) == [True, True]  # his token goes to those who share it; a friend's address has its own
    assert not door.porch


def test_who_leaves_does_not_have_a_turn(door: Door) -> None:
    door.use_up()
    first, second = door.take(), door.take()
    door.porch.closed(second.fileno())
    door.porch.closed(second.fileno())
    door.porch.look(PACE)
    assert is_heard(first)
    assert not door.porch


def test_whose_number_was_anothers_before_is_not_forgotten(door: Door) -> None:
    """Monitors of two doors may be read in the wrong order: then he waits no longer."""
    door.use_up()
    taken = door.take()
    door.porch.closed(taken.fileno())  # said of an earlier connection with this number
    assert is_heard(taken)


def test_who_is_to_be_cut_off_is_when_his_turn_comes_and_nobody_else(door: Door) -> None:
    for _ in range(MOST_FAILURES):
        door.guard.failed("127.0.0.2", 0.0)
    at_once, other = door.take("127.0.0.2"), door.take()
    assert is_ended(at_once)
    assert not is_ended(other)
    door.use_up()
    later = door.take("127.0.0.2")
    assert not is_ended(later)
    door.porch.look(PACE)
    assert is_ended(later)
    assert door.guard.cut_off == 2


def test_a_number_that_is_anothers_by_now_is_left_alone(door: Door) -> None:
    """It waited, its end has not been heard yet, and libzmq has given its number to a connection from elsewhere."""
    for _ in range(MOST_FAILURES):
        door.guard.failed("127.0.0.2", 0.0)
    door.use_up()
    waiting = door.take("127.0.0.2")
    number = waiting.fileno()
    waiting.detach()
    friend = door.accept("127.0.0.3")
    socket.close(number)
    again = socket.socket(fileno=friend.fileno())
    taken = again.dup()  # the lowest number that is free
    again.detach()
    assert taken.fileno() == number
    door.porch.look(PACE)
    assert not is_ended(taken)
    taken.close()


def test_of_too_many_that_wait_the_oldest_is_turned_away(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.security.porch.MOST", 3)
    door.use_up()
    waiting = [door.take() for _ in range(5)]
    assert [is_ended(each) for each in waiting] == [True, True, False, False, False]
    assert door.porch.turned_away == 2


def test_no_more_addresses_of_friends_are_remembered_than_the_guard_knows(door: Door) -> None:
    door.use_up()
    door.porch.admitted("127.0.0.2", 0.0)
    door.use_up(source="127.0.0.2")
    waiting = door.take("127.0.0.2")
    for number in range(ADDRESSES):
        door.porch.admitted(f"a{number}", 0.0)
    assert len(door.porch._friends) == ADDRESSES
    door.porch.look(PACE)
    assert is_heard(waiting)  # with the tokens of those elsewhere
    assert not door.porch


def test_a_connection_that_is_gone_is_no_error(door: Door) -> None:
    door.use_up()
    taken = door.take()
    taken.close()
    door.porch.look(PACE)
    door.porch.opened(taken.fileno(), "tcp://127.0.0.1:1")
    assert not door.porch


def test_where_the_kernel_holds_nobody_a_stranger_is_cut_off_all_the_same(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zq.security.porch.CAN_HOLD", False)
    monkeypatch.setattr(crowds, "CAN_RATION", False)
    for _ in range(MOST_FAILURES):
        door.guard.failed("127.0.0.2", 0.0)
    door.use_up()
    assert is_ended(door.take("127.0.0.2"))
    assert not door.porch


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """One that takes four at once."""
    monkeypatch.setattr(crowds, "CROWD", 4)
    monkeypatch.setattr(crowds, "AGAIN", 0.5)
    monkeypatch.setattr(crowds, "FIRST", 0.0)
    made = Door()
    made.listener.settimeout(0.1)
    yield made
    made.close()


def nobody_comes_in(door: Door, source: str = HERE) -> bool:
    try:
        door.accept(source)
    except TimeoutError:
        return True
    return False


def test_who_comes_faster_than_anybody_should_waits_outside_until_he_may(small: Door) -> None:
    for _ in range(4):
        small.take()
    assert nobody_comes_in(small)
    assert is_heard(small.take("127.0.0.2"))  # each address has tokens of its own
    assert small.porch.look(0.5 * crowds.WINDOW) == pytest.approx(0.5 * crowds.WINDOW)
    assert nobody_comes_in(small)
    assert small.porch
    small.porch.look(2.0 * crowds.STEP)
    small.listener.settimeout(5.0)
    small.accept()
    assert not small.porch._crowds._rations
    assert not small.porch


def test_who_is_taken_through_the_valve_loses_nothing_of_what_he_says(small: Door) -> None:
    for _ in range(4):
        small.take("127.0.0.3")
    taken = small.accept("127.0.0.2")
    valve.attach(taken, valve.program({}, 0.0))  # as it has it of a door that lets only a share pass
    small.porch.taken(taken.fileno(), taken, "127.0.0.2", 0.0)
    small.callers[-1].sendall(b"word")
    assert taken.recv(len(GREETING) + 4, socket.MSG_WAITALL) == GREETING + b"word"


@pytest.mark.parametrize("rate", [100.0, 1_000.0, 10_000.0])
def test_on_rations_as_many_come_as_there_are_new_tokens(rate: float) -> None:
    """Whatever the share is to begin with; those who wait say it again, so that it takes some time."""
    now, tick, came = 0.0, 0.02, 0.0
    ration, taken = crowds.Ration(now), 0
    for _ in range(round(10.0 / tick)):
        now += tick
        came += rate * tick * ration.share
        while came >= 1.0:
            came -= 1.0
            taken += 1
            ration.took(STEP, now)
        ration.look(STEP, now)
    assert 0.3 * 10.0 / STEP < taken < 2.0 * 10.0 / STEP


def test_on_rations_a_new_rush_is_answered_at_once() -> None:
    ration = crowds.Ration(0.0)
    for window in range(1, 20):
        ration.look(STEP, window * crowds.WINDOW)
    assert ration.share == 1.0
    now = 20 * crowds.WINDOW
    assert [ration.took(STEP, now) for _ in range(crowds.SURPLUS)] == [False] * (crowds.SURPLUS - 1) + [True]
    assert ration.share == pytest.approx(crowds.WINDOW / STEP / crowds.SURPLUS)


def test_who_is_forgotten_while_he_is_on_rations_has_none_any_more(small: Door) -> None:
    for _ in range(4):
        taken = small.take("127.0.0.3")
    assert nobody_comes_in(small, "127.0.0.3")
    for number in range(ADDRESSES):
        friend = f"10.{number >> 8}.{number & 255}.1"
        small.porch.admitted(friend, 0.0)
        small.porch.taken(taken.fileno(), taken, friend, 0.0)
    assert not small.porch
    small.accept("127.0.0.3")


def test_a_friends_address_is_closed_by_itself(small: Door) -> None:
    small.porch.admitted("127.0.0.2", 0.0)
    for _ in range(4):
        small.take("127.0.0.2")
    assert nobody_comes_in(small, "127.0.0.2")
    assert is_heard(small.take())


def test_where_many_new_addresses_come_too_often_all_of_them_are_closed_and_friends_are_not(small: Door) -> None:
    for number in range(16):
        small.take(f"127.0.0.{number + 10}")
    assert nobody_comes_in(small, "127.0.0.9")
    small.porch.admitted("127.0.0.2", 0.0)  # one who was taken before
    assert is_heard(small.take("127.0.0.2"))


def test_one_address_alone_closes_no_others(small: Door) -> None:
    taken = small.accept("127.0.0.3")
    for _ in range(100):  # as many as were made before the valve was closed
        small.porch.taken(taken.fileno(), taken, "127.0.0.3", 0.0)
    assert nobody_comes_in(small, "127.0.0.3")
    small.accept("127.0.0.2")


def test_several_that_go_on_coming_are_counted_together_all_the_while(small: Door) -> None:
    taken = small.accept()
    tokens = small.porch._crowds._taken_elsewhere
    for _ in range(100):
        for number in range(8):
            small.porch.taken(taken.fileno(), taken, f"127.0.0.{number + 10}", 0.0)
    owed = tokens.used(4 * crowds.STEP)  # each of them has four again by then
    for number in range(8):
        small.porch.taken(taken.fileno(), taken, f"127.0.0.{number + 10}", 4 * crowds.STEP)
    assert tokens.used(4 * crowds.STEP) > owed


def test_who_is_gone_before_he_can_be_asked_is_counted_for_the_address_that_most_came_from(small: Door) -> None:
    small.take("127.0.0.3")
    small.take("127.0.0.3")
    small.take("127.0.0.2")
    for _ in range(100):
        small.porch.missed(0.0)
    assert nobody_comes_in(small, "127.0.0.3")
    assert is_heard(small.take("127.0.0.2"))
    assert is_heard(small.take("127.0.0.4"))


def test_if_nobody_came_often_who_is_gone_is_counted_for_all_who_are_new(small: Door) -> None:
    small.porch.admitted("127.0.0.2", 0.0)
    for _ in range(100):
        small.porch.missed(0.0)
    assert nobody_comes_in(small, "127.0.0.3")
    assert is_heard(small.take("127.0.0.2"))


def test_what_is_remembered_of_addresses_is_bounded(door: Door) -> None:
    taken = door.accept()
    for number in range(ADDRESSES + 10):
        door.porch.taken(taken.fileno(), taken, f"10.{number >> 8}.{number & 255}.1", 0.0)
    assert len(door.porch._crowds._taken) == ADDRESSES


def test_a_door_that_is_opened_meanwhile_has_the_valve_as_well(small: Door) -> None:
    for _ in range(4):
        small.take()
    with socket.create_server((HERE, 0)) as other, socket.create_connection(other.getsockname()):
        other.settimeout(0.1)
        other.accept()[0].close()
        small.porch.opened(other.fileno(), "tcp://127.0.0.1:2")
        with socket.create_connection(other.getsockname()), pytest.raises(TimeoutError):
            other.accept()


def test_what_is_owed_is_never_more_than_is_paid_back_soon() -> None:
    tokens = Tokens(4, 1.0, 0.0)
    for _ in range(100):
        tokens.take()
    assert not tokens.there_are(4 * DEBT + 0.5)
    assert tokens.there_are(4 * DEBT + 1.0)
