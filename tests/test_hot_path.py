"""What a message costs its sender and its receiver, without a clock: the interpreter's instructions and new objects.

Counted in the caller's thread alone, on one peer that hears itself. The limits are what is needed today and a tenth:
who needs more has made every message slower, and says here why it is worth it.
"""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import islice
from statistics import median
from types import FrameType
from typing import Any

import pytest

import zq

MESSAGES = 1_000
TRIPS = 200
READING = {"id": 1, "t": 21.5, "name": "sensor-kitchen", "payload": b"x" * 50}

# Instructions of CPython 3.11 for the map above, one by one; other versions differ by less than a third.
SEND, ITERATE, PUSH, SETTLE = 171, 31, 171, 94
ROUND_TRIP = 3_210
SLACK = 1.1 if sys.version_info[:2] == (3, 11) else 1.45


@pytest.fixture
def peer() -> Iterator[zq.Peer]:
    with zq.Peer("hot", discovery=["none"]) as peer:
        yield peer


def instructions(work: Callable[[], Any], *, without: str = "") -> int:
    """How many the interpreter executes for it in this thread."""
    count = 0

    def each(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        if event == "opcode":
            count += 1
        elif frame.f_code.co_name == without:
            frame.f_trace_lines = False
        else:
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        return each

    before = sys.gettrace()
    sys.settrace(each)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def test_a_message_costs_its_publisher_no_more_instructions(peer: zq.Peer) -> None:
    with peer.publisher("hot/topic") as publisher:

        def send() -> None:
            for _ in range(MESSAGES):
                publisher.send(READING)

        send()
        assert instructions(send) / MESSAGES <= SEND * SLACK


def test_a_message_costs_its_subscriber_no_more_instructions(peer: zq.Peer) -> None:
    with peer.subscriber("hot/topic") as subscriber, peer.publisher("hot/topic") as publisher:
        publisher.wait_for_subscribers()
        publisher.send_many([READING] * 10 * MESSAGES)
        publisher.flush()
        messages = iter(subscriber)
        list(islice(messages, MESSAGES))

        def receive() -> None:
            for message in islice(messages, MESSAGES):
                _ = message.data

        assert instructions(receive) / MESSAGES <= ITERATE * SLACK


def test_a_message_costs_its_pusher_and_its_puller_no_more_instructions(peer: zq.Peer) -> None:
    with peer.puller("hot-jobs", prefetch=4 * MESSAGES) as puller, peer.pusher("hot-jobs") as pusher:
        pusher.wait_for_pullers()

        def push() -> None:
            for _ in range(MESSAGES):
                pusher.send(READING)

        push()
        assert instructions(push) / MESSAGES <= PUSH * SLACK

        messages = iter(puller)
        for message in islice(messages, MESSAGES // 2):
            message.ack()

        def work() -> None:
            for message in islice(messages, MESSAGES):
                with message:
                    _ = message.data

        assert instructions(work) / MESSAGES <= SETTLE * SLACK
        for message in islice(messages, MESSAGES // 2):
            message.ack()
        pusher.flush(until="processed")


def test_of_what_has_arrived_only_a_few_messages_are_decoded_at_once(peer: zq.Peer) -> None:
    """They stay in the processor's caches, and the interpreter has no garbage to look for: half of what they cost."""
    with peer.subscriber("hot/topic") as subscriber, peer.publisher("hot/topic") as publisher:
        publisher.wait_for_subscribers()
        publisher.send_many([READING] * 5 * MESSAGES)
        publisher.flush()
        for message in islice(subscriber, 4 * MESSAGES):
            if message._index % 100 == 0:
                assert sum(isinstance(found, zq.Message) for found in gc.get_objects()) <= 40


def test_a_round_trip_costs_no_more_instructions(peer: zq.Peer) -> None:
    """Of who sends, waits, and does the engine's work meanwhile: all of it, up to the answer in the program's hands.

    The other end is a thread here. What its peer's engine or ours does in another thread is not counted, and nor is
    looking again and again for an answer that is expected soon. It is the median of all trips that counts: on some of
    them something is due that has to do with the time and not with the trip, and on a slow machine on more of them.
    """
    with (
        zq.Peer("hot-echo") as other,
        zq.Peer("hot-traveller") as traveller,
        other.subscriber("hot/there") as there,
        traveller.subscriber("hot/back") as back,
        other.publisher("hot/back") as answers,
        traveller.publisher("hot/there") as questions,
    ):
        questions.wait_for_subscribers()
        answers.wait_for_subscribers()

        def echo() -> None:
            for message in islice(there, 2 * TRIPS):
                answers.send(message.data)

        def travel() -> None:
            questions.send(READING)
            _ = back.receive().data

        thread = threading.Thread(target=echo)
        thread.start()
        for _ in range(TRIPS):
            travel()
        counts = [instructions(travel, without="wait") for _ in range(TRIPS)]
        thread.join()
        assert median(counts) <= ROUND_TRIP * SLACK


def test_what_is_sent_takes_the_memory_of_its_bytes(peer: zq.Peer) -> None:
    """A backlog costs little more than the bytes it holds."""
    with peer.pusher("hot-backlog", window=20_000) as pusher:
        pusher.send_many([READING] * 1_000)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            pusher.send_many([READING] * 10_000)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (after - before) / 10_000 <= 200
        with pytest.raises(zq.Undelivered):
            pusher.close(timeout=0)
