"""Waiting for messages: timeouts, many at a time, iterating, and two threads on one handle."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, take


@pytest.fixture(params=["topic", "queue"])
def pair(request: pytest.FixtureRequest, face: Face) -> tuple[Any, Any]:
    """A sender and a receiver that know each other; what is said of receiving holds for both kinds."""
    sender, receiver = face.peer("sender"), face.peer("receiver")
    if request.param == "topic":
        ends = sender.publisher("news"), receiver.subscriber("news")
        ends[0].wait_for_subscribers()
    else:
        ends = sender.pusher("jobs"), receiver.puller("jobs")
        ends[0].wait_for_pullers()
    return ends


def test_a_timeout_of_nothing_looks_once(pair: tuple[Any, Any]) -> None:
    _, receiver = pair
    for receive in (receiver.receive, lambda timeout: receiver.receive_many(5, timeout=timeout)):
        with pytest.raises(zq.Timeout) as caught:
            receive(timeout=0)
        assert isinstance(caught.value, TimeoutError)


def test_a_timeout_is_kept(pair: tuple[Any, Any]) -> None:
    _, receiver = pair
    started = time.monotonic()
    with pytest.raises(zq.Timeout, match=r"within 0\.1 s"):
        receiver.receive(timeout=0.1)
    assert 0.1 <= time.monotonic() - started < PATIENCE / 2


def test_without_a_timeout_it_waits_until_something_comes(face: Face, pair: tuple[Any, Any]) -> None:
    sender, receiver = pair
    waiting = face.background(receiver.receive)
    eventually(lambda: receiver._waiters)
    sender.send("here")
    message = waiting.result(PATIENCE)
    message.ack()
    assert message.data == "here"


def test_receive_many_waits_for_the_first_only(pair: tuple[Any, Any]) -> None:
    sender, receiver = pair
    sender.send_many(range(10))
    data: list[int] = []
    while len(data) < 10:
        messages = receiver.receive_many(4, timeout=PATIENCE)
        assert 1 <= len(messages) <= 4
        for message in messages:
            message.ack()
        data += [message.data for message in messages]
    assert data == list(range(10))


def test_iterating_ends_when_the_handle_is_closed(face: Face, pair: tuple[Any, Any]) -> None:
    sender, receiver = pair
    got: list[int] = []
    second = threading.Event()

    def iterate() -> None:
        for message in receiver:
            message.ack()
            got.append(message.data)
            if len(got) == 2:
                second.set()

    iterating = face.background(iterate)
    sender.send_many([1, 2])
    assert second.wait(PATIENCE)
    receiver.close()
    iterating.result(PATIENCE)
    assert got == [1, 2]


def test_a_waiting_receive_is_told_that_the_handle_was_closed(face: Face, pair: tuple[Any, Any]) -> None:
    _, receiver = pair
    waiting = [face.background(receiver.receive) for _ in range(3)]
    eventually(lambda: len(receiver._waiters.tokens) == 3)
    receiver.close()
    for future in waiting:
        with pytest.raises(zq.Closed):
            future.result(PATIENCE)


def test_threads_that_share_a_handle_share_its_messages(face: Face, pair: tuple[Any, Any]) -> None:
    sender, receiver = pair
    taking = [face.background(take, receiver, 500) for _ in range(4)]
    assert sender.send_many(range(2_000)) == 2_000
    shares = [future.result(PATIENCE) for future in taking]
    assert sorted(number for share in shares for number in share) == list(range(2_000))
    assert all(share == sorted(share) for share in shares)


def test_as_many_messages_as_waiters_leave_nobody_waiting(face: Face, pair: tuple[Any, Any]) -> None:
    sender, receiver = pair
    waiting = [face.background(take, receiver, 1) for _ in range(8)]
    eventually(lambda: len(receiver._waiters.tokens) == 8)
    sender.send_many(range(8))
    assert sorted(future.result(PATIENCE)[0] for future in waiting) == list(range(8))
