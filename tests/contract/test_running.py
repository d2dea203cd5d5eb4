"""run(): a handler for every message, several at once, and what its exceptions do."""

from __future__ import annotations

import logging
import threading
import time

import pytest

import zq
from tests.contract.faces import PATIENCE, Face
from zq.core.backoff import FIRST


def test_run_settles_what_the_handler_has_done(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    pusher, puller = sender.pusher("jobs"), receiver.puller("jobs")
    done: list[int] = []
    running = face.background(puller.run, face.handler(lambda message: done.append(message.data)))
    pusher.send_many(range(50))
    pusher.flush(until="processed")
    puller.close()
    running.result(PATIENCE)
    assert done == list(range(50))


def test_run_on_a_subscription(face: Face) -> None:
    peer = face.peer("alone")
    subscriber, publisher = peer.subscriber("news"), peer.publisher("news")
    done: list[int] = []
    complete = threading.Event()

    def handle(message: zq.Message) -> None:
        done.append(message.data)
        if len(done) == 50:
            complete.set()

    running = face.background(subscriber.run, face.handler(handle))
    publisher.send_many(range(50))
    assert complete.wait(PATIENCE)
    subscriber.close()
    running.result(PATIENCE)
    assert done == list(range(50))


def test_as_many_handlers_run_at_once_as_asked_for(face: Face) -> None:
    peer = face.peer("alone")
    pusher, puller = peer.pusher("jobs"), peer.puller("jobs")
    meeting = threading.Barrier(3, timeout=PATIENCE)
    running = face.background(puller.run, face.handler(lambda message: meeting.wait()), concurrency=3)
    pusher.send_many(range(9))
    pusher.flush()
    puller.close()
    running.result(PATIENCE)


def test_a_handler_that_fails_is_logged_and_its_message_comes_again_later(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    peer = face.peer("alone")
    pusher, puller = peer.pusher("jobs"), peer.puller("jobs")
    attempts: list[tuple[int, float]] = []

    def handle(message: zq.Message) -> None:
        attempts.append((message.attempt, time.monotonic()))
        if message.attempt < 3:
            raise ZeroDivisionError("on purpose")

    with caplog.at_level(logging.ERROR, "zq"):
        running = face.background(puller.run, face.handler(handle))
        pusher.send("work")
        pusher.flush()
        puller.close()
        running.result(PATIENCE)
    assert [attempt for attempt, _ in attempts] == [1, 2, 3]
    first, second, third = (when for _, when in attempts)
    assert (second - first >= FIRST, third - second >= 2 * FIRST) == (True, True)
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


def test_a_handler_that_fails_on_one_message_does_the_others(face: Face) -> None:
    peer = face.peer("alone")
    pusher, puller = peer.pusher("jobs", max_attempts=1_000), peer.puller("jobs")
    done: list[str | int] = []

    def handle(message: zq.Message) -> None:
        if message.data == "bad" and len(done) < 20:
            raise ValueError("on purpose")
        done.append(message.data)

    running = face.background(puller.run, face.handler(handle))
    pusher.send_many(["bad", *range(20)])
    pusher.flush()
    puller.close()
    running.result(PATIENCE)
    assert done == [*range(20), "bad"]


def test_run_ends_when_its_peer_is_closed(face: Face) -> None:
    peer = face.peer("alone")
    running = face.background(peer.puller("jobs").run, face.handler(lambda message: None), concurrency=2)
    peer.close()
    running.result(PATIENCE)


@pytest.mark.parametrize("concurrency", [0, -1])
def test_a_concurrency_that_cannot_be_is_refused(face: Face, concurrency: int) -> None:
    puller = face.peer("alone").puller("jobs")
    with pytest.raises(zq.Refused, match="at least 1"):
        puller.run(print, concurrency=concurrency)
