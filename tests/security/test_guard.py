"""Counting failures by address, and who is cut off for them: with a clock of the test."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq

from zq.security.guard import ADDRESSES, MOST_FAILURES, UNKNOWN, WHILE, Guard
from zq.security.keys import read_keys, today
from zq.security.lock import DOMAIN, Lock
from zq.security.porch import Porch
from zq.security.zap import ENDPOINT, Zap


@pytest.fixture
def guard() -> Guard:
    return Guard()


def fail(guard: Guard, address: str, times: int, now: float) -> None:
    for _ in range(times):
        guard.failed(address, now)


def test_an_address_is_cut_off_after_too_many_failures_and_until_the_while_is_over(guard: Guard) -> None:
    fail(guard, "10.0.0.1", MOST_FAILURES - 1, 0.0)
    assert not guard.cuts_off("10.0.0.1", 1.0)
    fail(guard, "10.0.0.1", 1, 1.0)
    assert guard.cuts_off("10.0.0.1", 1.0)
    assert guard.cuts_off("10.0.0.1", WHILE - 0.1)
    assert not guard.cuts_off("10.0.0.1", WHILE)
    assert not guard.cuts_off("10.0.0.2", 1.0)
    assert guard.cut_off == 2


def test_an_address_has_so_many_connections_and_no_more_until_some_have_ended(guard: Guard) -> None:
    guard.share(10)
    assert [guard.taken("10.0.0.1") for _ in range(7)] == [True] * 5 + [False] * 2
    assert guard.taken("10.0.0.2")
    assert all(guard.taken(UNKNOWN) for _ in range(20))
    for _ in range(3):
        guard.ended("10.0.0.1")
    assert [guard.taken("10.0.0.1"), guard.taken("10.0.0.1")] == [True, False]
    assert guard.crowded_out == 3


def test_connections_of_nobody_are_not_remembered(guard: Guard) -> None:
    for number in range(100):
        assert guard.taken(f"10.0.0.{number}")
        guard.ended(f"10.0.0.{number}")
        guard.ended(f"10.0.0.{number}")
    assert guard._connections == {}


def test_failures_far_apart_add_up_to_nothing_but_the_total(guard: Guard) -> None:
    for number in range(3 * MOST_FAILURES):
        guard.failed("10.0.0.1", number * WHILE)
        assert not guard.cuts_off("10.0.0.1", number * WHILE)
    assert guard.by_address() == {"10.0.0.1": 3 * MOST_FAILURES}


def test_where_somebody_has_the_key_nobody_is_cut_off(guard: Guard) -> None:
    """A stranger must not be able to lock out his neighbours."""
    guard.admitted("10.0.0.1")
    fail(guard, "10.0.0.1", 10 * MOST_FAILURES, 0.0)
    assert not guard.cuts_off("10.0.0.1", 0.0)
    assert guard.failures == 10 * MOST_FAILURES


def test_an_unknown_address_is_counted_and_never_cut_off(guard: Guard) -> None:
    fail(guard, UNKNOWN, 2 * MOST_FAILURES, 0.0)
    assert not guard.cuts_off(UNKNOWN, 0.0)


def test_a_connection_that_ends_is_a_failure_unless_it_may_have_been_a_friends(guard: Guard) -> None:
    guard.closed("10.0.0.1", 0.0, failed=False)
    assert guard.failures == 1
    guard.admitted("10.0.0.2")
    guard.closed("10.0.0.2", 0.0, failed=False)
    guard.closed(UNKNOWN, 0.0, failed=False)
    assert guard.failures == 1
    guard.closed("10.0.0.2", 0.0, failed=True)
    assert guard.failures == 2


def test_a_wrong_key_is_counted_once_although_its_connection_ends_as_well(guard: Guard) -> None:
    guard.refused("10.0.0.1", 0.0)
    guard.closed("10.0.0.1", 0.0, failed=False)
    assert guard.failures == 1


def test_memory_is_bounded(guard: Guard) -> None:
    for number in range(2 * ADDRESSES):
        guard.failed(f"a{number}", 0.0)
        guard.admitted(f"b{number}")
    assert len(guard.by_address()) == ADDRESSES
    assert len(guard._friends) == ADDRESSES


def test_an_address_is_said_once_a_while_and_escaped(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    fail(guard, "10.0.0.1\x1b[2J\n", 50, 0.0)
    fail(guard, "10.0.0.1\x1b[2J\n", 50, WHILE)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "failed handshake 51" in messages[1]
    assert not {"\x1b", "\n"} & set("".join(messages))


@pytest.mark.parametrize(
    ("told", "asked"), [(b"fe80::1%eth0", "fe80::1"), (b"::ffff:10.0.0.1", "10.0.0.1"), (b"2001:db8::1", "2001:db8::1")]
)
def test_who_shows_the_key_is_known_by_what_a_connection_says_of_itself(
    told: bytes, asked: str, guard: Guard, key_file: Path
) -> None:
    """Of a link-local address libzmq tells the interface as well. A friend there is no stranger when he leaves."""
    lock, porch = Lock(read_keys(key_file), "main", today()), Porch()
    with zmq.Context() as context, context.socket(zmq.DEALER) as libzmq:
        zap = Zap(context, lock, guard)
        zap.porch = porch
        libzmq.connect(ENDPOINT)
        libzmq.send_multipart([b"", b"1.0", b"1", DOMAIN, told, b"", b"CURVE", lock._own.client.public])
        zap.socket.poll(5_000)
        zap.answer()
        zap.stop()
    guard.closed(asked, 0.0, failed=False)
    assert (guard.let_in, guard.failures) == (1, 0)
    assert list(porch._friends) == [asked]
