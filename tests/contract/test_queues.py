"""Push and pull: every message to one puller, held by its pusher until it is settled."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, take


def held(peer: Any) -> zq.HeldQueue:
    (row,) = peer.ledger().held
    assert row.balanced
    return row


def test_a_message_goes_to_one_puller_and_is_released_by_its_ack(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    pusher, puller = sender.pusher("jobs"), receiver.puller("jobs")
    pusher.send({"job": 1})
    message = puller.receive(timeout=PATIENCE)
    assert message.data == {"job": 1}
    assert (message.topic, message.queue, message.sender) == (None, "jobs", sender.id)
    assert (message.attempt, message.redelivered) == (1, False)
    with pytest.raises(zq.Undelivered):
        pusher.flush(timeout=0)
    message.ack()
    pusher.flush()
    row = held(sender)
    assert (row.taken, row.acked, row.in_flight, row.waiting) == (1, 1, 0, 0)


def test_what_is_pushed_before_anybody_pulls_waits(face: Face) -> None:
    sender = face.peer("sender")
    sender.pusher("jobs").send_many(range(1_000))
    assert take(face.peer("receiver").puller("jobs"), 1_000) == list(range(1_000))


def test_a_puller_that_was_there_first_gets_everything_in_order(face: Face) -> None:
    puller = face.peer("receiver").puller("jobs")
    with face.unopened("sender") as sender:
        for number in range(1_000):
            sender.push("jobs", number)
        assert take(puller, 1_000) == list(range(1_000))
    assert held_by_nobody(puller)


def held_by_nobody(puller: Any) -> bool:
    with pytest.raises(zq.Timeout):
        puller.receive(timeout=0)
    return True


def test_a_queue_within_one_peer(face: Face) -> None:
    peer = face.peer("alone")
    peer.pusher("jobs").send_many(range(1_000))
    assert take(peer.puller("jobs"), 1_000) == list(range(1_000))
    peer.pusher("jobs").flush()
    assert held(peer).acked == 1_000


def test_pullers_share_a_queue_and_each_message_comes_once(face: Face) -> None:
    pusher = face.peer("sender").pusher("jobs")
    pullers = [face.peer(name).puller("jobs", prefetch=10) for name in "abc"]
    pusher.wait_for_pullers(3)
    shares: list[list[int]] = [[], [], []]
    everybody = threading.Barrier(3, timeout=PATIENCE)

    def work(index: int) -> None:
        for message in pullers[index]:
            shares[index].append(message.data)
            if len(shares[index]) <= 30:
                everybody.wait()  # nobody is so quick that nothing is left for the others
            message.ack()

    working = [face.background(work, index) for index in range(3)]
    pusher.send_many(range(600))
    pusher.flush(until="processed")
    for puller in pullers:
        puller.close()
    for future in working:
        future.result(PATIENCE)
    assert sorted(number for share in shares for number in share) == list(range(600))
    assert min(map(len, shares)) >= 30  # a third would be 200


def test_a_busy_puller_with_a_prefetch_of_one_holds_one(face: Face) -> None:
    pusher = face.peer("sender").pusher("jobs")
    busy, free = face.peer("busy").puller("jobs", prefetch=1), face.peer("free").puller("jobs", prefetch=1)
    pusher.wait_for_pullers(2)
    pusher.send_many(range(10))
    with busy.receive(timeout=PATIENCE) as at_work:
        assert sorted([at_work.data, *take(free, 9)]) == list(range(10))
        with pytest.raises(zq.Timeout):
            busy.receive(timeout=0)


def test_a_prefetch_is_a_total_over_all_pushers(face: Face) -> None:
    receiver = face.peer("receiver")
    puller = receiver.puller("jobs", prefetch=7)
    pushers = [face.peer(name).pusher("jobs") for name in "abc"]
    for pusher in pushers:
        pusher.send_many(range(100))
    taken = 0
    while taken < 300:
        row = receiver.ledger().pulled[0]
        assert row.queued + row.handed_out <= 7
        take(puller, 1)
        taken += 1


def test_an_adaptive_prefetch_grows_and_stays_within_4096(face: Face) -> None:
    receiver = face.peer("receiver")
    puller = receiver.puller("jobs")
    pushers = [face.peer(name).pusher("jobs") for name in "ab"]
    sending = [face.background(pusher.send_many, range(20_000)) for pusher in pushers]
    most = taken = 0
    while taken < 20_000:
        for message in puller.receive_many(500, timeout=PATIENCE):
            message.ack()
            taken += 1
        row = receiver.ledger().pulled[0]
        most = max(most, row.queued + row.handed_out)
    assert 64 < most <= 4_096
    row = eventually(lambda: _unmoved(receiver))
    assert row.queued <= 4_096
    take(puller, 40_000 - taken)
    assert [future.result(PATIENCE) for future in sending] == [20_000, 20_000]


def _unmoved(receiver: Any) -> zq.PulledQueue | None:
    """The row of the one queue when two looks agree that nothing more comes."""
    first = receiver.ledger().pulled[0]
    receiver.ledger(realm=True)  # a round trip to everybody
    second = receiver.ledger().pulled[0]
    return second if first == second else None


def test_a_full_window_makes_send_wait_and_a_timeout_takes_nothing(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    pusher = sender.pusher("jobs", window=10)
    with pytest.raises(zq.Timeout) as caught:
        pusher.send_many(range(50), timeout=0)
    assert caught.value.sent == 10
    with pytest.raises(zq.Timeout, match="not taken"):
        pusher.send("too much", timeout=0)
    eventually(lambda: held(sender).taken == 10)
    waiting = face.background(pusher.send, "at last")
    assert take(receiver.puller("jobs"), 11) == [*range(10), "at last"]
    waiting.result(PATIENCE)
    pusher.flush()


def test_a_window_of_bytes_holds_back_too_but_one_large_message_passes(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    pusher = sender.pusher("jobs", window_bytes=10_000)
    large = bytes(50_000)
    pusher.send(large, timeout=PATIENCE)
    with pytest.raises(zq.Timeout):  # what is piled up in front of the window has a bound of its own
        pusher.send_many([large] * 2_000, timeout=0.1)
    puller = receiver.puller("jobs")
    waiting = face.background(pusher.send, "small")
    while take(puller, 1) != ["small"]:
        pass
    waiting.result(PATIENCE)


def test_send_many_takes_an_iterator_too(face: Face) -> None:
    peer = face.peer("alone")
    pusher, puller = peer.pusher("jobs"), peer.puller("jobs")
    assert pusher.send_many(number for number in range(300)) == 300
    assert pusher.send_many(()) == 0
    assert take(puller, 300) == list(range(300))


def test_flush_that_runs_out_says_what_is_missing(face: Face) -> None:
    sender = face.peer("sender")
    pusher = sender.pusher("jobs")
    pusher.send_many(range(1_500))
    pusher.send("named", id="job-1500")
    with pytest.raises(zq.Undelivered) as caught:
        pusher.flush(timeout=0.05)
    assert caught.value.count == 1_501
    assert len(caught.value.ids) == 1_000
    assert caught.value.ids[0] == f"{sender.id.hex()}-1"
    assert "jobs" in caught.value.waiting_for


def test_flush_of_nothing_and_of_what_is_confirmed_is_done_at_once(face: Face) -> None:
    peer = face.peer("alone")
    pusher, puller = peer.pusher("jobs"), peer.puller("jobs")
    pusher.flush(timeout=0)
    pusher.send(1)
    take(puller, 1)
    pusher.flush()
    pusher.flush(timeout=0)
    pusher.flush(until="processed", timeout=0)


def test_waiting_for_pullers(face: Face) -> None:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    pusher = sender.pusher("jobs")
    with pytest.raises(zq.Timeout, match="jobs"):
        pusher.wait_for_pullers(timeout=0)
    waiting = face.background(pusher.wait_for_pullers, 2, timeout=PATIENCE)
    pullers = [receiver.puller("jobs"), sender.puller("jobs")]
    waiting.result()
    pusher.wait_for_pullers(2, timeout=0)
    pullers[0].close()
    eventually(lambda: not _reaches(pusher, 2))


def _reaches(pusher: Any, count: int) -> bool:
    try:
        pusher.wait_for_pullers(count, timeout=0)
    except zq.Timeout:
        return False
    return True


def test_a_closed_puller_gives_back_what_it_has_not_settled(face: Face) -> None:
    pusher = face.peer("sender").pusher("jobs")
    holder, second = face.peer("first"), face.peer("second")
    first = holder.puller("jobs")
    pusher.send_many(range(100))
    kept = [first.receive(timeout=PATIENCE) for _ in range(10)]
    eventually(lambda: holder.ledger().pulled[0].received >= 64)  # as many as its prefetch begins with
    kept[0].ack()
    first.close()
    puller = second.puller("jobs")
    got = []
    while len(got) < 99:
        message = puller.receive(timeout=PATIENCE)
        assert message.attempt == 1
        assert message.redelivered or message.data >= 64
        message.ack()
        got.append(message.data)
    assert sorted(got) == list(range(1, 100))
    for message in kept:
        message.ack()  # too late, and harmless
    pusher.flush()


def test_a_peer_that_leaves_gives_back_at_once(face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.core.liveness.SUSPECT_FOR", 600.0)  # nobody waits until it is thought to be gone
    sender = face.peer("sender")
    pusher = sender.pusher("jobs")
    pusher.send_many(range(10))
    with face.unopened("first") as first:
        puller = first.puller("jobs")
        message = puller.receive(timeout=PATIENCE)
        assert message.data == 0
    assert take(face.peer("second").puller("jobs"), 10) == list(range(10))
    message.nack()  # of a peer that is closed: harmless
