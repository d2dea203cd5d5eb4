"""What a sender may ask for: a lane, a key, a delay, a time to live."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, take


@pytest.fixture
def sender(face: Face) -> Any:
    return face.peer("sender")


@pytest.fixture
def pusher(sender: Any) -> Any:
    return sender.pusher("jobs")


def row_of(sender: Any) -> zq.HeldQueue:
    (row,) = sender.ledger().held
    assert row.balanced
    return row


def test_what_was_asked_for_does_not_change_the_message(face: Face, pusher: Any) -> None:
    puller = face.peer("receiver").puller("jobs")
    pusher.send("work", headers={"trace": "1"}, id="mine", key="k", lane="high", ttl=60.0, delay=0.01)
    pusher.send("plain", lane="normal", delay=0.0)
    received = {}
    for _ in range(2):
        with puller.receive(timeout=PATIENCE) as message:
            received[message.data] = message
    work, plain = received["work"], received["plain"]
    assert (work.id, dict(work.headers), work.key) == ("mine", {"trace": "1"}, "k")
    assert (work.attempt, work.redelivered) == (1, False)
    assert (dict(plain.headers), plain.key) == ({}, None)


def test_large_data_has_a_lane_a_key_and_a_time_as_well(face: Face, pusher: Any) -> None:
    puller = face.peer("receiver").puller("jobs")
    large = bytes(100_000)
    pusher.send(large, key="k", lane="low", ttl=60.0)
    with puller.receive(timeout=PATIENCE) as message:
        assert (message.data, message.key) == (large, "k")


def test_the_high_lane_goes_first_and_the_low_one_does_not_starve(face: Face, pusher: Any) -> None:
    for lane in ("low", "normal", "high"):
        pusher.send_many([lane] * 130, lane=lane)
    puller = face.peer("receiver").puller("jobs", prefetch=1)
    first = take(puller, 5 * 13)
    assert first[:20].count("high") >= 10, "it came last, and goes first"
    assert first.count("low") >= 4
    rest = take(puller, 3 * 130 - len(first))
    assert {lane: (first + rest).count(lane) for lane in ("low", "normal", "high")} == dict.fromkeys(
        ("low", "normal", "high"), 130
    )


def test_an_urgent_message_passes_what_a_busy_puller_has_already(face: Face, pusher: Any) -> None:
    receiver = face.peer("receiver")
    puller = receiver.puller("jobs", prefetch=8)
    pusher.send(0)
    message = puller.receive(timeout=PATIENCE)
    for number in range(1, 6):
        pusher.send(number)
        eventually(lambda number=number: receiver.ledger().pulled[0].queued == number)
    pusher.send("urgent", lane="high")
    eventually(lambda: receiver.ledger().pulled[0].queued == 6)
    message.ack()
    assert take(puller, 6) == ["urgent", 1, 2, 3, 4, 5]


def test_each_lane_is_in_order(face: Face, pusher: Any) -> None:
    puller = face.peer("receiver").puller("jobs")
    for number in range(600):
        pusher.send(number, lane=("high", "normal", "low")[number % 3])
    got = take(puller, 600)
    for lane in range(3):
        assert [number for number in got if number % 3 == lane] == list(range(lane, 600, 3))


def test_of_a_key_one_message_at_a_time_is_at_work_and_others_pass(face: Face, pusher: Any) -> None:
    puller = face.peer("receiver").puller("jobs", prefetch=10)
    pusher.send_many(["a1", "a2"], key="a")
    pusher.send("b1", key="b")
    first, other = puller.receive(timeout=PATIENCE), puller.receive(timeout=PATIENCE)
    assert (first.data, other.data) == ("a1", "b1")
    with pytest.raises(zq.Timeout):
        puller.receive(timeout=0.1)
    first.nack()
    again = puller.receive(timeout=PATIENCE)
    assert (again.data, again.attempt) == ("a1", 2), "the nacked one goes before the next of its key"
    again.ack()
    with puller.receive(timeout=PATIENCE) as second:
        assert second.data == "a2"
    other.ack()
    pusher.flush()


def test_a_delayed_message_comes_when_its_time_has_come_and_flush_waits_for_it(
    face: Face, sender: Any, pusher: Any
) -> None:
    puller = face.peer("receiver").puller("jobs")
    started = time.monotonic()
    pusher.send("later", delay=0.3)
    flushing = face.background(pusher.flush)
    message = puller.receive(timeout=PATIENCE)
    assert (message.data, time.monotonic() - started >= 0.3) == ("later", True)
    assert not flushing.done()
    message.ack()
    flushing.result(PATIENCE)
    pusher.send("much later", delay=600)
    pusher.send("now")
    assert take(puller, 1) == ["now"]
    eventually(lambda: row_of(sender).acked == 2)
    with pytest.raises(zq.Undelivered) as caught:
        pusher.flush(timeout=0)
    assert caught.value.count == 1


def test_what_nobody_got_in_time_is_dropped_and_counted_and_flush_goes_on(face: Face, sender: Any, pusher: Any) -> None:
    pusher.send_many(["too late", "too late as well"], ttl=0.05)
    pusher.send("in time", ttl=600)
    eventually(lambda: row_of(sender).expired == 2)
    puller = face.peer("receiver").puller("jobs")
    assert take(puller, 1) == ["in time"]
    pusher.flush()
    row = row_of(sender)
    assert (row.taken, row.acked, row.expired, row.waiting, row.in_flight) == (3, 1, 2, 0, 0)


def test_a_window_full_of_what_expires_opens_again(face: Face, sender: Any) -> None:
    pusher = sender.pusher("jobs", window=2)
    pusher.send_many([1, 2], ttl=0.05)
    pusher.send(3, timeout=PATIENCE)
    assert row_of(sender).expired == 2


def test_a_clock_that_is_set_changes_nothing(face: Face, pusher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    puller = face.peer("receiver").puller("jobs")
    started = time.monotonic()
    pusher.send("later", delay=0.3, ttl=60.0)
    wall = time.time()
    monkeypatch.setattr(time, "time", lambda: wall + 10 * 365 * 86_400)
    assert take(puller, 1) == ["later"]
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lane": "urgent"}, "high, normal, low"),
        ({"lane": None}, "high, normal, low"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": math.nan}, "ttl"),
        ({"ttl": math.inf}, "ttl"),
        ({"ttl": 1e12}, "ttl"),
        ({"ttl": "5"}, "ttl"),
        ({"ttl": True}, "ttl"),
        ({"delay": -0.1}, "delay"),
        ({"delay": math.nan}, "delay"),
        ({"delay": 1e12}, "delay"),
        ({"delay": None}, "delay"),
        ({"ttl": 1, "delay": 2}, "nobody would ever get"),
        ({"key": 5}, "key"),
        ({"key": "x" * 256}, "key"),
    ],
    ids=repr,
)
def test_what_cannot_be_is_refused_and_nothing_is_sent(
    sender: Any, pusher: Any, options: dict[str, Any], words: str
) -> None:
    sends: list[Callable[..., object]] = [
        lambda **given: pusher.send("x", **given),
        lambda **given: pusher.send_many(["x"], **given),
        lambda **given: sender.push("jobs", "x", **given),
    ]
    for send in sends:
        with pytest.raises(zq.Refused, match=words):
            send(**options)
    assert row_of(sender).taken == 0


def test_an_option_that_does_not_exist_is_a_type_error(pusher: Any) -> None:
    with pytest.raises(TypeError, match="priority"):
        pusher.send("x", priority=1)
    with pytest.raises(TypeError, match="priority"):
        pusher.send_many(["x"], priority=1)
