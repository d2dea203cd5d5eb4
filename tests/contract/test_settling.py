"""ack, nack, reject, give back, with-blocks, and messages that nobody settles."""

from __future__ import annotations

import gc
import time
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually


@pytest.fixture
def sender(face: Face) -> Any:
    return face.peer("sender")


@pytest.fixture
def pusher(sender: Any) -> Any:
    return sender.pusher("jobs")


@pytest.fixture
def puller(face: Face, pusher: Any) -> Any:
    puller = face.peer("receiver").puller("jobs")
    pusher.wait_for_pullers()
    return puller


def first(pusher: Any, puller: Any) -> zq.Message:
    pusher.send("work", headers={"trace": "1"})
    message: zq.Message = puller.receive(timeout=PATIENCE)
    assert (message.attempt, message.redelivered) == (1, False)
    return message


def again(puller: Any, before: zq.Message, *, attempt: int) -> zq.Message:
    """The same message on its next delivery."""
    message: zq.Message = puller.receive(timeout=PATIENCE)
    assert (message.data, message.id, dict(message.headers)) == ("work", before.id, {"trace": "1"})
    assert (message.attempt, message.redelivered) == (attempt, True)
    assert message.sent_at == before.sent_at
    return message


def row_of(sender: Any) -> zq.HeldQueue:
    (row,) = (row for row in sender.ledger().held if row.queue == "jobs")
    assert row.balanced
    return row


def test_a_nacked_message_comes_again_and_counts_the_attempt(sender: Any, pusher: Any, puller: Any) -> None:
    message = first(pusher, puller)
    message.nack()
    message = again(puller, message, attempt=2)
    message.nack()
    again(puller, message, attempt=3).ack()
    pusher.flush()
    assert (row_of(sender).acked, row_of(sender).redelivered) == (1, 2)


def test_a_delayed_nack_keeps_its_distance(pusher: Any, puller: Any) -> None:
    message = first(pusher, puller)
    started = time.monotonic()
    message.nack(delay=0.2)
    message = again(puller, message, attempt=2)
    assert time.monotonic() - started >= 0.2
    message.nack(delay=600)
    pusher.send("another")
    with puller.receive(timeout=PATIENCE) as other:
        assert other.data == "another"


def test_a_rejected_message_is_dropped_and_counted(sender: Any, pusher: Any, puller: Any) -> None:
    first(pusher, puller).reject("no such order")
    pusher.flush()
    row = row_of(sender)
    assert (row.acked, dict(row.dropped)) == (0, {"rejected": 1})
    with pytest.raises(zq.Timeout):
        puller.receive(timeout=0)


def test_a_message_given_back_comes_again_with_no_attempt_counted(pusher: Any, puller: Any) -> None:
    message = first(pusher, puller)
    message.give_back()
    again(puller, message, attempt=1).ack()
    pusher.flush()


def test_leaving_a_with_block_acks(sender: Any, pusher: Any, puller: Any) -> None:
    with first(pusher, puller) as message:
        assert message.data == "work"
    pusher.flush()
    assert row_of(sender).acked == 1


def test_an_exception_in_a_with_block_nacks_and_is_raised_again(pusher: Any, puller: Any) -> None:
    message = first(pusher, puller)
    with pytest.raises(ZeroDivisionError), message:
        raise ZeroDivisionError
    again(puller, message, attempt=2).ack()
    pusher.flush()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupt_in_a_with_block_gives_the_message_back(
    pusher: Any, puller: Any, interrupt: type[BaseException]
) -> None:
    message = first(pusher, puller)
    with pytest.raises(interrupt), message:
        raise interrupt
    again(puller, message, attempt=1).ack()
    pusher.flush()


def forget(messages: list[zq.Message], warned: pytest.WarningsRecorder) -> None:
    messages.clear()
    gc.collect()
    eventually(lambda: warned.list)  # a thread that has handed one over may hold it for another moment


def test_a_message_that_is_forgotten_warns_and_is_given_back(pusher: Any, puller: Any) -> None:
    messages = [first(pusher, puller)]
    before = {"id": messages[0].id, "sent_at": messages[0].sent_at}
    with pytest.warns(ResourceWarning, match="without being settled") as warned:
        forget(messages, warned)
    message = puller.receive(timeout=PATIENCE)
    assert {"id": message.id, "sent_at": message.sent_at} == before
    assert (message.attempt, message.redelivered) == (1, True)
    message.ack()
    pusher.flush()


def test_settling_twice_is_harmless_and_the_first_word_counts(sender: Any, pusher: Any, puller: Any) -> None:
    message = first(pusher, puller)
    message.ack()
    message.ack()
    message.nack()
    message.reject("late")
    message.give_back()
    pusher.flush()
    row = row_of(sender)
    assert (row.taken, row.acked, row.redelivered, dict(row.dropped)) == (1, 1, 0, {})
    with pytest.raises(zq.Timeout):
        puller.receive(timeout=0)


def test_settling_within_a_with_block_is_what_counts(sender: Any, pusher: Any, puller: Any) -> None:
    with first(pusher, puller) as message:
        message.reject("seen before")
    pusher.flush()
    assert dict(row_of(sender).dropped) == {"rejected": 1}


def test_settling_after_the_handle_was_closed_is_harmless(face: Face, pusher: Any, puller: Any) -> None:
    message = first(pusher, puller)
    puller.close()
    message.reject("too late")
    other = face.peer("other").puller("jobs")
    again(other, message, attempt=1).ack()
    pusher.flush()


def test_settling_after_the_pusher_has_gone_is_harmless(face: Face) -> None:
    puller = face.peer("receiver").puller("jobs")
    sender = face.peer("sender")
    sender.push("jobs", 1)
    message = puller.receive(timeout=PATIENCE)
    with pytest.raises(zq.Undelivered):
        sender.close(timeout=0)
    message.ack()
    with pytest.raises(zq.Timeout):
        puller.receive(timeout=0)


def test_settling_out_of_order_releases_exactly_what_was_settled(sender: Any, pusher: Any, puller: Any) -> None:
    pusher.send_many(range(20))
    messages = [puller.receive(timeout=PATIENCE) for _ in range(20)]
    for message in reversed(messages[::2]):
        message.ack()
    eventually(lambda: row_of(sender).acked == 10)
    assert row_of(sender).in_flight == 10
    for message in messages[1::2]:
        message.ack()
    pusher.flush()


def test_a_message_that_is_nacked_for_ever_does_not_stop_the_others(face: Face) -> None:
    pusher = face.peer("patient").pusher("jobs", max_attempts=65_535)
    puller = face.peer("receiver").puller("jobs")
    pusher.wait_for_pullers()
    pusher.send_many(["poison", *range(50)])
    done = []
    while len(done) < 50:
        message = puller.receive(timeout=PATIENCE)
        if message.data == "poison":
            message.nack()
        else:
            message.ack()
            done.append(message.data)
    assert done == list(range(50))
    with puller.receive(timeout=PATIENCE) as message:
        assert message.data == "poison"
        assert message.attempt > 1
