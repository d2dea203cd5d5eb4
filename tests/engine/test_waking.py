"""Each race of waking: between callers and the engine, and between callers that share a handle."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import zq
from tests.waiting import PATIENCE, eventually
from zq.engine.wake import Bell, LoopToken, ThreadToken, Waiters


def test_a_wake_is_for_one_waiter_the_longest_first() -> None:
    waiters, tokens = Waiters(), [ThreadToken() for _ in range(3)]
    for token in tokens:
        waiters.add(token)
    waiters.wake()
    waiters.wake()
    assert [token.wait(0) for token in tokens] == [True, True, False]
    waiters.wake_all()
    assert tokens[2].wait(0)
    assert not waiters


def test_a_wake_before_the_sleep_is_not_lost() -> None:
    waiters, token = Waiters(), ThreadToken()
    waiters.add(token)
    waiters.wake()
    assert token.wait(0)


def test_who_leaves_learns_whether_a_wake_was_for_him() -> None:
    waiters, tokens = Waiters(), [ThreadToken(), ThreadToken()]
    for token in tokens:
        waiters.add(token)
    assert waiters.leave(tokens[1])
    waiters.wake()
    assert not waiters.leave(tokens[0])
    waiters.wake()  # nobody is there: nothing happens


def test_the_wake_of_a_closed_loop_goes_to_the_next() -> None:
    loop = asyncio.new_event_loop()
    waiters, thread = Waiters(), ThreadToken()
    waiters.add(LoopToken(loop))
    waiters.add(thread)
    loop.close()
    waiters.wake()
    assert thread.wait(0)


@pytest.mark.parametrize("kind", ["topic", "queue"])
def test_a_burst_of_as_many_messages_as_waiters_leaves_nobody_asleep(kind: str) -> None:
    """The burst comes as one batch with one wake; whoever leaves messages behind wakes the next."""
    with zq.Peer("alone") as peer, ThreadPoolExecutor(8) as threads:
        sender, receiver = (
            (peer.publisher("a"), peer.subscriber("a")) if kind == "topic" else (peer.pusher("a"), peer.puller("a"))
        )

        def wait_for_one() -> Any:
            with receiver.receive(timeout=PATIENCE) as message:
                return message.data

        for turn in range(30):
            waiting = [threads.submit(wait_for_one) for _ in range(8)]
            eventually(lambda: len(receiver._waiters.tokens) == 8)
            sender.send_many(range(turn * 8, turn * 8 + 8))
            got = sorted(future.result() for future in waiting)
            assert got == list(range(turn * 8, turn * 8 + 8))


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="elsewhere the bell is a pair of sockets, which know their end")
def test_who_rings_a_bell_that_is_closed_writes_to_nobody_elses_descriptor() -> None:
    """A disk thread that has answered too late. libzmq aborts a process in which that happens to one of its own."""
    bell = Bell()
    number = bell.fd
    bell.close()
    other = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        if other != number:
            os.dup2(other, number)  # the system gives the lowest that is free: this is what comes sooner or later
        bell.ring()
        with pytest.raises(BlockingIOError):
            os.eventfd_read(other)
    finally:
        for descriptor in {other, number}:
            os.close(descriptor)


def test_who_takes_several_wakes_the_next_for_the_rest() -> None:
    with zq.Peer("alone") as peer, ThreadPoolExecutor(4) as threads:
        pusher, puller = peer.pusher("a"), peer.puller("a")
        waiting = [threads.submit(puller.receive_many, 3, timeout=PATIENCE) for _ in range(4)]
        eventually(lambda: len(puller._waiters.tokens) == 4)
        pusher.send_many(range(12))
        messages = [message for future in waiting for message in future.result()]
        assert sorted(message.data for message in messages) == list(range(12))
        for message in messages:
            message.ack()


def test_a_waiter_that_gives_up_does_not_swallow_a_wake() -> None:
    """Some waiters run into their timeout just when messages come: what they leave others get."""
    with zq.Peer("alone") as peer, ThreadPoolExecutor(6) as threads:
        pusher, puller = peer.pusher("a"), peer.puller("a")
        got: list[int] = []

        def impatient() -> None:
            while len(got) < 300:
                try:
                    message = puller.receive(timeout=0.001)
                except zq.Timeout:
                    continue
                message.ack()
                got.append(message.data)

        def patient() -> None:
            for message in puller:
                message.ack()
                got.append(message.data)

        working = [threads.submit(impatient) for _ in range(3)]
        waiting = [threads.submit(patient) for _ in range(2)]
        for number in range(300):
            pusher.send(number)
        pusher.flush()
        for future in working:
            future.result(PATIENCE)
        puller.close()
        for future in waiting:
            future.result(PATIENCE)
        assert sorted(got) == list(range(300))


def test_a_late_caller_does_not_clear_the_flag_of_the_next_sleep(unhelped: None) -> None:
    """Caller one rings, the engine wakes, works and sleeps again; only then caller one clears the flag.

    If that were the flag of the new sleep, caller two would not ring, and its message would wait for the next timer.
    """
    with zq.Peer("alone") as peer:
        subscriber, publisher = peer.subscriber("a"), peer.publisher("a")
        engine = peer._engine
        assert engine is not None
        publisher.wait_for_subscribers()
        eventually(lambda: engine.idle)
        ring = engine._bell.ring
        flags: list[list[bool]] = []  # of the sleeps that followed

        def ring_and_stay() -> None:
            before = engine.idle
            ring()
            flags.append(eventually(lambda: (now := engine.idle) is not before and now))

        engine._bell.ring = ring_and_stay
        publisher.send(1)
        engine._bell.ring = ring
        assert all(flags), "the new sleep's flag was cleared although nobody has rung"
        publisher.send(2)
        assert [subscriber.receive(timeout=PATIENCE).data for _ in range(2)] == [1, 2]


def test_a_caller_that_is_stopped_before_it_rings_is_found() -> None:
    """An interrupt between leaving a message and telling the engine: the sweep finds it, or the next caller does."""
    with zq.Peer("alone") as peer:
        subscriber, publisher = peer.subscriber("a"), peer.publisher("a")
        publisher.wait_for_subscribers()
        engine = peer._engine
        assert engine is not None

        class Interrupted(set):  # type: ignore[type-arg]
            def add(self, item: object) -> None:
                raise KeyboardInterrupt

        dirty, engine.dirty = engine.dirty, Interrupted(engine.dirty)
        with pytest.raises(KeyboardInterrupt):
            publisher.send("left behind")
        engine.dirty = dirty
        assert subscriber.receive(timeout=PATIENCE).data == "left behind"


def test_no_wake_is_lost_under_a_storm_of_short_waits(unhelped: None) -> None:
    """Ping-pong of two threads through the engine: each message is sent while the other end is about to sleep."""
    with zq.Peer("alone") as peer:
        there, back = peer.publisher("there"), peer.publisher("back")
        ping, pong = peer.subscriber("there"), peer.subscriber("back")

        def answer() -> None:
            for message in ping:
                back.send(message.data)

        thread = threading.Thread(target=answer)
        thread.start()
        for number in range(1_000):
            there.send(number)
            assert pong.receive(timeout=PATIENCE).data == number
        ping.close()
        thread.join()


def test_a_puller_that_is_taken_for_hung_just_when_its_program_begins_to_wait_gets_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever waits there is woken and says so; this one has looked already, and sleeps next."""
    with zq.Peer("alone") as peer, peer.puller("jobs", work_timeout=60.0) as puller, peer.pusher("jobs") as pusher:
        pusher.wait_for_pullers()
        engine = peer._engine
        assert engine is not None
        add, hung = Waiters.add, threading.Event()

        def look_first(waiters: Waiters, token: Any) -> None:
            if waiters is puller._waiters and not hung.is_set():
                hung.set()
                engine.call(lambda: engine.node.pulling._settlement._hang(puller._core))
                pusher.send("work")
            add(waiters, token)

        monkeypatch.setattr(Waiters, "add", look_first)
        with puller.receive(timeout=PATIENCE) as message:
            assert message.data == "work"
