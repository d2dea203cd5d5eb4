"""A spool's queues: what is pushed is confirmed once it is on disk, and delivered whenever somebody pulls."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, take

MANY = 20_000  # more than fits into a window: the rest is read from the disk


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def depth(spool: Any) -> int:
    (row,) = spool.queues()
    return int(row.depth)


def row_of(peer: Any) -> zq.HeldQueue:
    (row,) = peer.ledger().held
    assert row.balanced
    return row


def test_what_is_stored_is_confirmed_without_a_puller_and_outlives_its_pusher_and_the_spool(
    face: Face, directory: Path
) -> None:
    keeper = face.peer("keeper")
    spool = keeper.spool(directory, queues=["jobs"])
    with face.unopened("sender") as sender:
        pusher = sender.pusher("jobs")
        pusher.send_many(range(MANY))
        pusher.flush()
        row = row_of(sender)
        assert (row.taken, row.stored, row.acked, row.waiting, row.in_flight) == (MANY, MANY, 0, 0, 0)
    assert depth(spool) == MANY
    spool.close()
    again = keeper.spool(directory, queues=["jobs"])
    assert take(face.peer("receiver").puller("jobs"), MANY) == list(range(MANY))
    eventually(lambda: depth(again) == 0)
    row = row_of(keeper)
    assert (row.taken, row.acked, row.waiting, row.redelivered) == (MANY, MANY, 0, 0)


def test_a_message_keeps_its_id_and_all_that_its_sender_said(face: Face, directory: Path) -> None:
    face.peer("keeper").spool(directory, queues=["jobs"])
    sender = face.peer("sender")
    pusher = sender.pusher("jobs")
    pusher.wait_for_pullers()
    pusher.send({"a": 1}, headers={"x": "y"}, key="k")
    pusher.send(b"b" * 100_000, id="mine", lane="high")
    pusher.flush()
    puller = face.peer("receiver").puller("jobs")
    got = {message.id: message for message in (puller.receive(timeout=PATIENCE) for _ in range(2))}
    first = got[f"{sender.id.hex()}-1"]
    assert (first.data, dict(first.headers), first.key, first.queue) == ({"a": 1}, {"x": "y"}, "k", "jobs")
    assert (first.attempt, first.redelivered) == (1, False)
    assert got["mine"].data == b"b" * 100_000
    for message in got.values():
        message.ack()


def test_pullers_are_served_by_the_spool_only(face: Face, directory: Path) -> None:
    puller = face.peer("receiver").puller("jobs")
    spool = face.peer("keeper").spool(directory, queues=["jobs"])
    sender = face.peer("sender")
    pusher = sender.pusher("jobs")
    eventually(lambda: any(peer.pulls for peer in sender.peers()) and pusher._core.path)  # it knows of both
    pusher.send("through")
    message = puller.receive(timeout=PATIENCE)
    assert message.data == "through"
    pusher.flush()  # though it is not acked
    assert row_of(sender).stored == 1
    assert depth(spool) == 1
    message.ack()
    eventually(lambda: depth(spool) == 0)


def test_a_spool_that_comes_later_takes_over_and_one_that_leaves_gives_back(face: Face, directory: Path) -> None:
    keeper, sender = face.peer("keeper"), face.peer("sender")
    puller = face.peer("receiver").puller("jobs")
    pusher = sender.pusher("jobs")
    pusher.send("direct")
    first = puller.receive(timeout=PATIENCE)
    spool = keeper.spool(directory, queues=["jobs"])

    def goes_through() -> bool:
        pusher.send("through")
        puller.receive(timeout=PATIENCE).ack()
        return row_of(sender).stored > 0

    eventually(goes_through)
    first.ack()
    eventually(lambda: row_of(sender).acked > 0)
    spool.close()
    stored = row_of(sender).stored
    pusher.send("direct again")
    message = puller.receive(timeout=PATIENCE)
    assert message.data == "direct again"
    message.ack()
    pusher.flush()
    assert row_of(sender).stored == stored


def test_a_delayed_message_is_stored_at_once_and_delivered_when_it_is_due(face: Face, directory: Path) -> None:
    spool = face.peer("keeper").spool(directory, queues=["jobs"])
    pusher = face.peer("sender").pusher("jobs")
    pusher.wait_for_pullers()
    puller = face.peer("receiver").puller("jobs")
    pusher.send("much later", delay=600)
    pusher.flush(timeout=PATIENCE)
    sent = time.monotonic()
    pusher.send("later", delay=0.6)
    pusher.flush(timeout=PATIENCE)
    message = puller.receive(timeout=PATIENCE)
    assert message.data == "later"
    assert time.monotonic() - sent >= 0.6
    message.ack()
    eventually(lambda: depth(spool) == 1)


def test_a_ttl_ends_a_message_in_the_spool(face: Face, directory: Path) -> None:
    keeper = face.peer("keeper")
    spool = keeper.spool(directory, queues=["jobs"])
    pusher = face.peer("sender").pusher("jobs")
    pusher.wait_for_pullers()
    pusher.send("short", ttl=2.0)  # time enough to be stored
    pusher.flush()
    eventually(lambda: depth(spool) == 0)
    assert row_of(keeper).expired == 1


def test_a_message_of_which_an_attempt_failed_says_so_after_the_spool_was_opened_again(
    face: Face, directory: Path
) -> None:
    keeper = face.peer("keeper")
    spool = keeper.spool(directory, queues=["jobs"])
    pusher = face.peer("sender").pusher("jobs")
    pusher.wait_for_pullers()
    pusher.send_many(["good", "bad", "other"])
    pusher.flush()
    with face.peer("receiver").puller("jobs", prefetch=1) as puller:
        puller.receive(timeout=PATIENCE).ack()
        message = puller.receive(timeout=PATIENCE)
        assert message.data == "bad"
        message.nack(delay=60)
        puller.receive(timeout=PATIENCE).ack()
        eventually(lambda: depth(spool) == 1)
    spool.close()
    keeper.spool(directory, queues=["jobs"])
    message = face.peer("second").puller("jobs").receive(timeout=PATIENCE)
    assert (message.data, message.attempt, message.redelivered) == ("bad", 2, True)
    message.ack()


def letters(peer: Any) -> list[Any]:
    answer = peer.dead_letters("jobs")
    assert (answer.unknown, answer.problems) == ((), ())
    return [letter.data for letter in answer.letters]


def test_a_dead_letter_has_its_reason_and_history_after_the_spool_was_opened_again(face: Face, directory: Path) -> None:
    keeper = face.peer("keeper")
    spool = keeper.spool(directory, queues=["jobs"])
    sender, receiver = face.peer("sender"), face.peer("receiver")
    pusher = sender.pusher("jobs", max_attempts=2)
    pusher.wait_for_pullers()
    pusher.send("poison", id="order-7", headers={"x": "y"})
    pusher.flush()
    puller = receiver.puller("jobs")
    puller.receive(timeout=PATIENCE).nack()
    puller.receive(timeout=PATIENCE).reject("no such order")
    eventually(lambda: letters(receiver) == ["poison"])
    eventually(lambda: depth(spool) == 0)
    spool.close()
    spool = keeper.spool(directory, queues=["jobs"])
    [letter] = sender.dead_letters("jobs").letters
    assert (letter.data, letter.id, letter.reason, letter.holder) == ("poison", "order-7", "no such order", "keeper")
    assert dict(letter.headers) == {"x": "y"}
    assert [(failed.attempt, failed.outcome) for failed in letter.history] == [(1, "nacked"), (2, "rejected")]
    assert {failed.puller for failed in letter.history} == {"receiver"}
    (row,) = spool.queues()
    assert (row.depth, row.dead) == (0, 1)
    assert sender.retry_dead_letters("jobs").count == 1
    message = puller.receive(timeout=PATIENCE)
    assert (message.data, message.id, message.attempt, message.redelivered) == ("poison", "order-7", 1, True)
    assert dict(message.headers) == {"x": "y"}
    message.ack()
    eventually(lambda: depth(spool) == 0)
    assert letters(receiver) == []


def test_a_spool_keeps_more_letters_than_a_pusher_and_all_of_them_can_be_dealt_with(
    face: Face, directory: Path
) -> None:
    many = 1_500  # a pusher keeps 1,000
    keeper, sender = face.peer("keeper"), face.peer("sender")
    spool = keeper.spool(directory, queues=["jobs"])
    pusher = sender.pusher("jobs")
    pusher.wait_for_pullers()
    pusher.send_many(range(many))
    with face.peer("receiver").puller("jobs") as puller:
        for _ in range(many):
            puller.receive(timeout=PATIENCE).reject("no")
        eventually(lambda: depth(spool) == 0)
    assert sorted(letters(sender)) == list(range(many))
    chosen = [f"{sender.id.hex()}-{number}" for number in (1, 2, 3)]
    assert sender.purge_dead_letters("jobs", ids=chosen).count == 3
    assert sender.retry_dead_letters("jobs", ids=[f"{sender.id.hex()}-{many}"]).count == 1
    assert take(sender.puller("jobs"), 1) == [many - 1]
    with face.peer("undertaker").puller("jobs.dead") as dead:
        assert sorted(take(dead, many - 4)) == list(range(3, many - 1))
    eventually(lambda: letters(sender) == [])
    assert keeper.ledger().balanced


def test_of_more_letters_than_a_spool_is_to_keep_the_oldest_are_forgotten(face: Face, directory: Path) -> None:
    keeper = face.peer("keeper")
    spool = keeper.spool(directory, queues=["jobs"], options=zq.SpoolOptions(max_dead=3))
    pusher = face.peer("sender").pusher("jobs")
    pusher.wait_for_pullers()
    pusher.send_many(range(5))
    puller = face.peer("receiver").puller("jobs")
    for _ in range(5):
        puller.receive(timeout=PATIENCE).reject("no")
    eventually(lambda: depth(spool) == 0)
    eventually(lambda: letters(keeper) == [2, 3, 4])
    assert {row.queue: dict(row.dropped) for row in keeper.ledger().held}["jobs.dead"] == {"forgotten": 2}
    assert keeper.purge_dead_letters("jobs").count == 3
    assert letters(keeper) == []


def test_a_full_spool_refuses_by_name_and_still_delivers(face: Face, directory: Path) -> None:
    options = zq.SpoolOptions(max_messages=100)
    spool = face.peer("keeper").spool(directory, queues=["jobs"], options=options)
    pusher = face.peer("sender").pusher("jobs", window=50)
    pusher.wait_for_pullers()
    sent = 0

    def is_refused() -> bool:
        nonlocal sent
        try:
            pusher.send(sent, timeout=0.2)
        except zq.SpoolFull:
            return True
        except zq.Timeout:
            return False
        sent += 1
        return False

    eventually(is_refused)
    (row,) = spool.queues()
    assert row.full
    with pytest.raises(zq.Undelivered, match="room in the spool of jobs, which takes no more"):
        pusher.flush(timeout=0.1)
    puller = face.peer("receiver").puller("jobs")
    assert take(puller, sent) == list(range(sent))
    pusher.send("room again", timeout=PATIENCE)
    assert take(puller, 1) == ["room again"]


def test_flushing_until_processed_is_refused_where_nobody_would_tell(face: Face, directory: Path) -> None:
    face.peer("keeper").spool(directory, queues=["jobs"])
    pusher = face.peer("sender").pusher("jobs")
    pusher.wait_for_pullers()
    pusher.send(1)
    with pytest.raises(zq.Refused, match="stored"):
        pusher.flush(until="processed")


def test_a_peer_may_push_spool_and_pull(face: Face, directory: Path) -> None:
    peer = face.peer("alone")
    spool = peer.spool(directory, queues=["jobs"])
    peer.pusher("jobs").send_many(range(1_000))
    assert take(peer.puller("jobs"), 1_000) == list(range(1_000))
    eventually(lambda: depth(spool) == 0)


def test_a_directory_that_cannot_be_a_spool_is_refused(face: Face, directory: Path, tmp_path: Path) -> None:
    peer = face.peer("keeper")
    with pytest.raises(zq.Refused, match="at least one queue"):
        peer.spool(directory, queues=[])
    with pytest.raises(zq.Refused, match="sequence"):
        peer.spool(directory, queues="jobs")
    with pytest.raises(zq.Refused, match="max_bytes"):
        zq.SpoolOptions(max_bytes=0)
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "mine" / "letter").write_text("dear")
    with pytest.raises(zq.Refused, match="other things"):
        peer.spool(tmp_path / "mine", queues=["jobs"])
    spool = peer.spool(directory, queues=["jobs"])
    with pytest.raises(zq.SpoolLocked):
        peer.spool(directory, queues=["others"])
    with pytest.raises(zq.Refused, match="already"):
        peer.spool(tmp_path / "second", queues=["jobs"])
    spool.close()
    spool.close()
    shutil.rmtree(directory)
