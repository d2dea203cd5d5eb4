"""Messages that nobody can process: how they die, where they are kept, how they become messages again."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, take


@pytest.fixture
def sender(face: Face) -> Any:
    return face.peer("sender")


@pytest.fixture
def receiver(face: Face) -> Any:
    return face.peer("receiver")


def dropped(peer: Any, queue: str = "jobs") -> dict[str, int]:
    [row] = [row for row in peer.ledger().held if row.queue == queue]
    assert row.balanced
    return dict(row.dropped)


def reject(pusher: Any, puller: Any, *values: Any, reason: str = "no such order", **options: Any) -> None:
    for value in values:
        pusher.send(value, **options)
        puller.receive(timeout=PATIENCE).reject(reason)
    pusher.flush()


def test_a_rejected_message_is_kept_with_its_reason_and_who_rejected_it(sender: Any, receiver: Any) -> None:
    pusher, puller = sender.pusher("jobs"), receiver.puller("jobs")
    reject(pusher, puller, {"order": 7}, headers={"trace": "1"}, id="order-7")
    assert dropped(sender) == {"rejected": 1}
    answer = receiver.dead_letters("jobs")
    assert (answer.count, answer.unknown, answer.problems) == (1, (), ())
    [letter] = answer.letters
    assert (letter.queue, letter.id, letter.reason, letter.data) == ("jobs", "order-7", "no such order", {"order": 7})
    assert (letter.holder, letter.holder_id, dict(letter.headers)) == ("sender", sender.id, {"trace": "1"})
    [failed] = letter.history
    assert (failed.attempt, failed.outcome, failed.puller, failed.puller_id, failed.reason) == (
        1, "rejected", "receiver", receiver.id, "no such order",
    )  # fmt: skip
    assert letter.sent_at <= failed.at == letter.died_at


def test_a_message_is_dead_after_as_many_attempts_as_its_pusher_allows(sender: Any, receiver: Any) -> None:
    pusher, puller = sender.pusher("jobs", max_attempts=3), receiver.puller("jobs")
    pusher.send("poison")
    for attempt in (1, 2, 3):
        message = puller.receive(timeout=PATIENCE)
        assert message.attempt == attempt
        message.nack()
    pusher.flush()
    with pytest.raises(zq.Timeout):
        puller.receive(timeout=0)
    assert dropped(sender) == {"dead": 1}
    [letter] = sender.dead_letters().letters
    assert [(failed.attempt, failed.outcome) for failed in letter.history] == [(n, "nacked") for n in (1, 2, 3)]
    assert letter.reason.startswith("3 attempts failed")


def test_five_attempts_are_the_default(sender: Any, receiver: Any) -> None:
    puller = receiver.puller("jobs")
    sender.push("jobs", "poison")
    attempts = []
    for _ in range(5):
        message = puller.receive(timeout=PATIENCE)
        attempts.append(message.attempt)
        message.nack()
    eventually(lambda: dropped(sender) == {"dead": 1})
    assert attempts == [1, 2, 3, 4, 5]


def test_the_exception_of_a_handler_is_told_with_the_dead(face: Face, sender: Any, receiver: Any) -> None:
    pusher, puller = sender.pusher("jobs", max_attempts=2), receiver.puller("jobs")

    def handle(message: zq.Message) -> None:
        raise ValueError(f"no order {message.data}")

    running = face.background(puller.run, face.handler(handle))
    pusher.send(7)
    pusher.flush()
    puller.close()
    running.result(PATIENCE)
    [letter] = sender.dead_letters("jobs").letters
    assert [failed.reason for failed in letter.history] == ["ValueError: no order 7"] * 2


def test_the_exception_in_a_with_block_is_told_with_the_dead(sender: Any, receiver: Any) -> None:
    pusher, puller = sender.pusher("jobs", max_attempts=1), receiver.puller("jobs")
    pusher.send(7)
    with pytest.raises(ValueError, match="no order"), puller.receive(timeout=PATIENCE):
        raise ValueError("no order")
    pusher.flush()
    [letter] = sender.dead_letters("jobs").letters
    assert [failed.reason for failed in letter.history] == ["ValueError: no order"]


def test_the_dead_can_be_pulled_like_any_other_queue(sender: Any, receiver: Any) -> None:
    pusher, puller = sender.pusher("jobs"), receiver.puller("jobs")
    reject(pusher, puller, 1, 2)
    with receiver.puller("jobs.dead") as dead:
        for value in (1, 2):
            with dead.receive(timeout=PATIENCE) as message:
                assert (message.data, message.queue) == (value, "jobs.dead")
                assert message.headers["dead-queue"] == "jobs"
                assert message.headers["dead-reason"] == "no such order"
        eventually(lambda: sender.dead_letters("jobs").letters == ())
        reject(pusher, puller, 3)
        assert take(dead, 1) == [3]


def test_the_realm_lists_how_many_are_dead(sender: Any, receiver: Any) -> None:
    reject(sender.pusher("jobs"), receiver.puller("jobs"), 1, 2)

    def depth() -> int:
        return next((queue.depth for queue in receiver.queues() if queue.name == "jobs.dead"), -1)

    eventually(lambda: depth() == 2)


def test_a_retried_message_comes_again_as_the_first_attempt_with_the_same_id(sender: Any, receiver: Any) -> None:
    pusher, puller = sender.pusher("jobs", max_attempts=1), receiver.puller("jobs")
    pusher.send({"order": 7}, headers={"trace": "1"})
    first = puller.receive(timeout=PATIENCE)
    first.nack()
    pusher.flush()
    answer = receiver.retry_dead_letters("jobs")
    assert (answer.count, answer.unknown, answer.problems) == (1, (), ())
    again = puller.receive(timeout=PATIENCE)
    assert (again.data, again.id, again.attempt) == ({"order": 7}, first.id, 1)
    assert dict(again.headers) == {"trace": "1"}
    assert again.sent_at == first.sent_at
    again.ack()
    pusher.flush()
    assert dropped(sender) == {"dead": 1}
    assert dropped(sender, "jobs.dead") == {"retried": 1}
    assert sender.dead_letters("jobs").letters == ()


def test_what_is_purged_is_forgotten(sender: Any, receiver: Any) -> None:
    reject(sender.pusher("jobs"), receiver.puller("jobs"), 1, 2, 3)
    ids = [letter.id for letter in receiver.dead_letters("jobs").letters]
    assert receiver.purge_dead_letters("jobs", ids=[ids[1]]).count == 1
    assert [letter.data for letter in receiver.dead_letters("jobs").letters] == [1, 3]
    assert receiver.purge_dead_letters("jobs").count == 2
    assert dropped(sender, "jobs.dead") == {"purged": 3}


def test_every_holder_is_asked(face: Face, receiver: Any) -> None:
    puller = receiver.puller("jobs")
    for name in ("a", "b"):
        reject(face.peer(name).pusher("jobs"), puller, name)
    assert [(letter.holder, letter.data) for letter in receiver.dead_letters("jobs").letters] == [
        ("a", "a"), ("b", "b"),
    ]  # fmt: skip
    assert receiver.purge_dead_letters("jobs").count == 2


def test_the_dead_outlive_the_pusher_but_are_not_pushed_again_without_one(sender: Any, receiver: Any) -> None:
    with sender.pusher("jobs") as pusher:
        reject(pusher, receiver.puller("jobs"), 1)
    answer = receiver.retry_dead_letters("jobs")
    assert (answer.count, answer.problems) == (0, ("sender: nobody there pushes to jobs any more",))
    assert len(receiver.dead_letters("jobs").letters) == 1


def test_nobody_waits_for_the_dead(face: Face, receiver: Any) -> None:
    sender = face.peer("leaver")
    reject(sender.pusher("jobs"), receiver.puller("jobs"), 1)
    sender.close()  # raises nothing: they were told and counted


def test_a_message_too_large_to_show_says_how_large_it_is(sender: Any, receiver: Any) -> None:
    reject(sender.pusher("jobs"), receiver.puller("jobs"), b"x" * 100_000)
    [letter] = receiver.dead_letters("jobs").letters
    assert (letter.complete, letter.data, letter.reason) == (False, None, "no such order")
    assert letter.size > 100_000


def test_a_large_message_is_retried_as_it_was(sender: Any, receiver: Any) -> None:
    puller = receiver.puller("jobs")
    reject(sender.pusher("jobs"), puller, {"image": b"x" * 100_000})
    receiver.retry_dead_letters("jobs")
    assert take(puller, 1) == [{"image": b"x" * 100_000}]


@pytest.mark.parametrize("max_attempts", [0, -1, 65_536, 1.5, None, "5"])
def test_a_number_of_attempts_that_cannot_be_is_refused(sender: Any, max_attempts: Any) -> None:
    with pytest.raises(zq.Refused, match="from 1 to 65,535"):
        sender.pusher("jobs", max_attempts=max_attempts)


@pytest.mark.parametrize("work_timeout", [0, -1, float("nan"), float("inf"), "5"])
def test_a_work_timeout_that_cannot_be_is_refused(receiver: Any, work_timeout: Any) -> None:
    with pytest.raises(zq.Refused, match="work_timeout is seconds > 0"):
        receiver.puller("jobs", work_timeout=work_timeout)


def test_names_of_the_dead_are_reserved(sender: Any) -> None:
    for make, name in ((sender.pusher, "jobs.dead"), (sender.subscriber, "jobs.dead"), (sender.publisher, "a/b.dead")):
        with pytest.raises(zq.Refused, match=r"\.dead are reserved"):
            make(name)
    with pytest.raises(zq.Refused, match=r"\.dead are reserved"):
        sender.dead_letters("jobs.dead")


def test_ids_that_cannot_be_are_refused(sender: Any) -> None:
    with pytest.raises(zq.Refused, match="several strs"):
        sender.purge_dead_letters("jobs", ids="abc")
    with pytest.raises(zq.Refused, match="is a str"):
        sender.purge_dead_letters("jobs", ids=[1])
    with pytest.raises(zq.Refused, match="at a time"):
        sender.purge_dead_letters("jobs", ids=map(str, range(1_001)))


def test_views_of_one_queue_have_one_number_of_attempts(sender: Any) -> None:
    sender.pusher("jobs", max_attempts=2)
    with pytest.raises(zq.Refused, match="max_attempts"):
        sender.pusher("jobs")


# --- work_timeout


def test_what_a_handler_holds_for_too_long_is_done_by_somebody_else(
    face: Face, sender: Any, receiver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pusher, slow = sender.pusher("jobs"), receiver.puller("jobs", work_timeout=0.2, prefetch=1)
    pusher.send("work")
    late = slow.receive(timeout=PATIENCE)
    other = face.peer("other").puller("jobs")
    with other.receive(timeout=PATIENCE) as message:
        assert (message.data, message.id, message.attempt) == ("work", late.id, 2)
    pusher.flush()
    with caplog.at_level(logging.WARNING, "zq"):
        late.ack()
        eventually(lambda: "settled too late" in caplog.text)
    row = next(row for row in sender.ledger().held if row.queue == "jobs")
    assert (row.acked, dict(row.dropped)) == (1, {})


def test_a_handler_that_hangs_keeps_nothing_that_lies_behind_it(face: Face, sender: Any, receiver: Any) -> None:
    pusher, hung = sender.pusher("jobs"), receiver.puller("jobs", work_timeout=0.2)
    go_on = threading.Event()
    running = face.background(hung.run, face.handler(lambda message: go_on.wait(PATIENCE)))
    pusher.wait_for_pullers()
    pusher.send_many(range(20))
    eventually(lambda: any(row.handed_out for row in receiver.ledger().pulled))
    other = face.peer("other").puller("jobs")
    done: list[int] = []
    while len(done) < 20:
        with other.receive(timeout=PATIENCE) as message:
            done.append(message.data)
    assert sorted(done) == list(range(20))
    pusher.flush()
    go_on.set()
    hung.close()
    running.result(PATIENCE)


def test_a_puller_that_hung_gets_work_again(face: Face, sender: Any, receiver: Any) -> None:
    pusher, puller = sender.pusher("jobs"), receiver.puller("jobs", work_timeout=0.1, prefetch=2)
    pusher.send_many(range(3))
    late = puller.receive(timeout=PATIENCE)
    eventually(lambda: receiver.ledger().pulled[0].nacked == 1)
    late.ack()
    done: set[int] = set()

    def work() -> None:
        for message in puller:  # some twice, where the program was not quick enough
            done.add(message.data)
            message.ack()

    working = face.background(work)
    pusher.flush()
    puller.close()
    working.result(PATIENCE)
    assert done == {0, 1, 2}


# --- settled twice


def test_settling_twice_is_logged_and_a_block_around_it_is_not(
    sender: Any, receiver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pusher, puller = sender.pusher("jobs"), receiver.puller("jobs")
    pusher.send_many([1, 2])
    with caplog.at_level(logging.WARNING, "zq"):
        with puller.receive(timeout=PATIENCE) as message:
            message.reject("seen before")
        assert "was settled before" not in caplog.text
        message = puller.receive(timeout=PATIENCE)
        message.ack()
        message.nack()
        assert "was settled before; nack() changes nothing" in caplog.text
    pusher.flush()


def test_a_handler_that_has_settled_is_not_settled_again(
    face: Face, sender: Any, receiver: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pusher, puller = sender.pusher("jobs"), receiver.puller("jobs")

    def handle(message: zq.Message) -> None:
        message.reject("seen before")
        if message.data == 2:
            raise ValueError("afterwards")

    with caplog.at_level(logging.WARNING, "zq"):
        running = face.background(puller.run, face.handler(handle))
        pusher.send_many([1, 2])
        pusher.flush()
        puller.close()
        running.result(PATIENCE)
    assert "was settled before" not in caplog.text
    assert dropped(sender) == {"rejected": 2}
