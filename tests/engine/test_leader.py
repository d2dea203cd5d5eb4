"""A caller that waits does the engine's work meanwhile: who leads when, and what signals do then."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

import zq
from tests.waiting import PATIENCE, eventually
from zq.core import inbox, reports, topics
from zq.engine import leader
from zq.engine.engine import Engine
from zq.engine.signals import Deferral

pytestmark = pytest.mark.usefixtures("unhelped")


@pytest.fixture
def peer(clean_environment: None) -> Iterator[zq.Peer]:
    with zq.Peer("alone") as peer:
        yield peer


def engine_of(peer: zq.Peer) -> Engine:
    assert peer._engine is not None
    return peer._engine


def caller_leads(engine: Engine) -> bool:
    return engine.leader.leading is not None and bool(engine.idle)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Handlers of SIGUSR1 and SIGALRM are put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGALRM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_waiting_receive_leads_and_reads_what_comes_itself(peer: zq.Peer) -> None:
    publisher, subscriber = peer.publisher("a"), peer.subscriber("a")
    engine = engine_of(peer)
    publisher.wait_for_subscribers()
    readers: list[int] = []
    on_batch = engine.node.receptions.on_batch

    def note(*arguments: Any) -> None:
        readers.append(threading.get_ident())
        on_batch(*arguments)

    engine.node.receptions.on_batch = note  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(lambda: (threading.get_ident(), subscriber.receive(timeout=PATIENCE).data))
        eventually(lambda: caller_leads(engine))
        publisher.send("hello")
        who, data = waiting.result(PATIENCE)
    assert data == "hello"
    assert readers == [who]


def test_the_thread_leads_again_when_no_caller_does(peer: zq.Peer) -> None:
    subscriber, engine = peer.subscriber("a"), engine_of(peer)
    with pytest.raises(zq.Timeout):
        subscriber.receive(timeout=0.01)
    eventually(lambda: not engine.leader.nobody)
    assert engine.leader.leading is None


def test_the_first_answer_to_what_was_received_goes_out_from_the_callers_thread(peer: zq.Peer) -> None:
    there, back = peer.publisher("there"), peer.publisher("back")
    asked, answered = peer.subscriber("there"), peer.subscriber("back")
    engine = engine_of(peer)
    for publisher in (there, back):
        publisher.wait_for_subscribers()
    senders: list[int] = []
    publish = engine._sockets.publish  # type: ignore[union-attr]

    def note(parts: Any) -> None:
        if parts[0].startswith(b"Tback"):
            senders.append(threading.get_ident())
        publish(parts)

    engine.node.topics._publish = note

    def answer() -> int:
        back.send(asked.receive(timeout=PATIENCE).data + 1)
        return threading.get_ident()

    direct = 0
    with ThreadPoolExecutor(1) as threads:
        for number in range(20):  # the thread may lead again before the answer, on a busy machine
            answering = threads.submit(answer)
            eventually(lambda: caller_leads(engine))
            there.send(number)
            direct += answering.result(PATIENCE) in senders
            assert answered.receive(timeout=PATIENCE).data == number + 1
            senders.clear()
    assert direct


@pytest.fixture
def parked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's thread does not lead again by itself, so that whoever forgets to call it is stuck."""
    monkeypatch.setattr(leader, "PARK", 60.0)


def test_what_follows_the_first_answer_calls_the_thread(parked: None, peer: zq.Peer) -> None:
    publisher, subscriber = peer.publisher("a"), peer.subscriber("a")
    publisher.wait_for_subscribers()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(subscriber.receive, timeout=PATIENCE)
        eventually(lambda: caller_leads(engine_of(peer)))
        publisher.send(0)  # from here on nobody leads, and this thread is not the one that has
        assert waiting.result(PATIENCE).data == 0
    peer.settle(timeout=PATIENCE)  # asks the engine, which nobody runs
    publisher.send(1)
    publisher.flush(timeout=PATIENCE)
    assert subscriber.receive(timeout=PATIENCE).data == 1


def test_what_a_leader_left_undone_is_done_when_it_leads_again(parked: None) -> None:
    """It stops reading at its message: what it read before is answered in the next turn, here an ack."""
    with zq.Peer("sender") as sender, zq.Peer("worker") as worker, ThreadPoolExecutor(1) as threads:
        pusher, puller = sender.pusher("jobs"), worker.puller("jobs")
        pusher.wait_for_pullers()

        def work() -> None:
            for message in puller:
                message.ack()

        working = threads.submit(work)
        for number in range(10):
            eventually(lambda: caller_leads(engine_of(worker)))
            pusher.send(number)
            pusher.flush(until="processed", timeout=PATIENCE)
        puller.close()
        working.result(PATIENCE)


def test_a_leader_whose_messages_keep_coming_does_the_rest_of_its_work_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it takes is counted and reported, or the inbox would seem full and the publisher be held back for ever."""
    for module, name in ((topics, "WINDOW_BYTES"), (topics, "RING_BYTES"), (inbox, "INBOX_BYTES")):
        monkeypatch.setattr(module, name, 1 << 20)
    monkeypatch.setattr(reports, "REPORT_BYTES", 1 << 18)
    gaps: list[zq.Gap] = []
    with zq.Peer("source") as source, zq.Peer("sink") as sink, ThreadPoolExecutor(1) as threads:
        subscriber = sink.subscriber("large", on_gap=gaps.append)
        publisher = source.publisher("large", patience=None)  # it waits for a test that is late as well
        publisher.wait_for_subscribers()
        sending = threads.submit(publisher.send_many, [bytes(100_000)] * 200)
        for _ in range(200):
            subscriber.receive(timeout=PATIENCE)
        assert sending.result(PATIENCE) == 200
    assert gaps == []


def test_what_was_taken_is_reported_before_the_leader_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The publisher is held back until then, and so nothing would come that ends the sleep."""
    for module, name, value in ((topics, "WINDOW_BYTES", 1_100_000), (topics, "TAKEN_AGAIN", 60.0)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(reports, "REPORT_BYTES", 1)
    with zq.Peer("source") as source, zq.Peer("sink") as sink, ThreadPoolExecutor(1) as threads:
        subscriber, publisher = sink.subscriber("large"), source.publisher("large", patience=None)
        publisher.wait_for_subscribers()
        for _ in range(8):
            sending = threads.submit(publisher.send_many, [bytes(100_000)] * 20)
            eventually(lambda: subscriber._inbox.messages >= 10)
            for _ in range(20):
                subscriber.receive(timeout=PATIENCE)
            assert sending.result(PATIENCE) == 20


@pytest.mark.parametrize("leads", ["the thread", "a caller"])
def test_little_that_was_taken_is_told_soon_although_nothing_follows(
    leads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "REPORT_AFTER", 0.01)
    with zq.Peer("source") as source, zq.Peer("sink") as sink, ThreadPoolExecutor(1) as threads:
        subscriber, publisher = sink.subscriber("news"), source.publisher("news")
        publisher.wait_for_subscribers()
        topic = publisher._core
        follower = next(iter(topic.followers.values()))
        for number in range(3):
            publisher.send(number)
            assert subscriber.receive(timeout=PATIENCE).data == number
            waiting = threads.submit(subscriber.receive) if leads == "a caller" else None
            eventually(lambda: follower.taken == topic.head)
            if waiting is not None:
                publisher.send("go on")
                waiting.result(PATIENCE)


def test_a_leader_begins_with_what_the_last_one_left_undone() -> None:
    """Each finds its message at once; the turn it does not wait for is the next one's."""
    work = Busy()
    always = leader.Leader(work, work.rung.set)
    for done in range(5):
        assert leader.CallerToken(always).wait(None)
        assert work.turns == done


def test_nothing_is_done_any_more_when_the_work_ends_while_a_caller_waits_for_the_lead() -> None:
    work = Busy()
    ending = leader.Leader(work, work.asked.set)
    assert leader.CallerToken(ending).wait(None)  # leaves a turn undone
    ending.lock.acquire()  # as the engine's thread does, at its end
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ending.lead, leader.CallerToken(ending), None)
        assert work.asked.wait(PATIENCE)
        work.over = True
        ending.lock.release()
        assert waiting.result(PATIENCE) is None
    assert not ending.act()
    assert work.turns == 0


def test_who_leads_and_is_woken_by_another_thread_stops_at_once() -> None:
    """As when a handle is drained: nothing comes in that would end its sleep."""
    work = Idle()
    alone = leader.Leader(work, work.rung.set)
    token = leader.CallerToken(alone)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(token.wait, None)
        assert work.sleeps.wait(PATIENCE)
        token.wake()
        assert waiting.result(PATIENCE)
    assert alone.nobody
    assert not alone.lock.locked()


class Idle:
    """Work for a leader: there is nothing to do, and only ringing ends a sleep."""

    over = False

    def __init__(self) -> None:
        self.rung, self.sleeps = threading.Event(), threading.Event()

    def read(self, token: leader.CallerToken | None) -> None:
        pass

    def turn(self) -> None:
        pass

    def serve(self) -> None:
        pass

    def sleep(self, until: float | None, *, awake: bool = False) -> None:
        self.sleeps.set()
        assert self.rung.wait(PATIENCE)

    def rest(self) -> bool:
        return True

    def fail(self, error: BaseException) -> None:
        raise error


class Busy(Idle):
    """There is a message whenever somebody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0
        self.asked = threading.Event()  # for the lead
        self.rung.set()

    def read(self, token: leader.CallerToken | None) -> None:
        assert token is not None
        token.wake()

    def turn(self) -> None:
        self.turns += 1


def test_many_threads_wait_and_everybody_gets_what_is_for_him(parked: None, peer: zq.Peer) -> None:
    """One leads at a time; whoever got his message and stops leading leaves nobody else without a reader."""
    publishers = [peer.publisher(f"topic/{number}") for number in range(6)]
    subscribers = [peer.subscriber(f"topic/{number}") for number in range(6)]
    for publisher in publishers:
        publisher.wait_for_subscribers()

    def echo(number: int) -> list[Any]:
        got: list[Any] = []
        while len(got) < 50:
            got.append(subscribers[number].receive(timeout=PATIENCE).data)
            publishers[(number + 1) % 6].send(got[-1] + 1)
        return got

    with ThreadPoolExecutor(6) as threads:
        echoing = [threads.submit(echo, number) for number in range(6)]
        publishers[0].send(0)
        got = [future.result(PATIENCE) for future in echoing]
    assert sorted(number for numbers in got for number in numbers) == list(range(300))


def test_closing_the_handle_ends_a_receive_that_leads(peer: zq.Peer) -> None:
    for receiver in (peer.subscriber("a"), peer.puller("a")):
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(receiver.receive)
            eventually(lambda: caller_leads(engine_of(peer)))
            receiver.close()
            with pytest.raises(zq.Closed):
                waiting.result(PATIENCE)


def test_closing_the_peer_ends_a_receive_that_leads() -> None:
    with zq.Peer("alone") as peer:
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(peer.subscriber("a").receive)
            eventually(lambda: caller_leads(engine_of(peer)))
            peer.close()
            with pytest.raises(zq.Closed):
                waiting.result(PATIENCE)
        assert not engine_of(peer)._thread.is_alive()


def test_a_bug_met_by_the_caller_who_leads_is_the_engines_failure() -> None:
    with zq.Peer("broken") as peer:
        engine = engine_of(peer)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(peer.subscriber("a").receive)
            eventually(lambda: caller_leads(engine))

            def fail() -> None:
                raise LookupError("on purpose")

            engine.later(fail)
            with pytest.raises(zq.EngineFailed):
                waiting.result(PATIENCE)
        eventually(lambda: not engine._thread.is_alive())


# --- signals


def waiting_main(peer: zq.Peer, then: Callable[[], object], receive: Callable[[], Any]) -> Any:
    """What `receive` returns in this thread, the main one, while another does `then` as soon as it leads."""

    def other() -> None:
        eventually(lambda: caller_leads(engine_of(peer)))
        then()

    thread = threading.Thread(target=other)
    thread.start()
    try:
        return receive()
    finally:
        thread.join()


def kill(number: int) -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def test_a_handler_runs_at_once_and_the_wait_goes_on(peer: zq.Peer, handlers: None) -> None:
    publisher, subscriber = peer.publisher("a"), peer.subscriber("a")
    publisher.wait_for_subscribers()

    def handler(number: int, frame: FrameType | None) -> None:
        publisher.send(signal.Signals(number).name)  # a handler may use the peer

    signal.signal(signal.SIGUSR1, handler)
    message = waiting_main(peer, lambda: kill(signal.SIGUSR1), lambda: subscriber.receive(timeout=PATIENCE))
    assert message.data == "SIGUSR1"
    assert signal.getsignal(signal.SIGUSR1) is handler


def test_a_handler_may_call_what_needs_the_engine(peer: zq.Peer, handlers: None) -> None:
    subscriber = peer.subscriber("a")
    ledgers: list[zq.Ledger] = []

    def handler(number: int, frame: FrameType | None) -> None:
        ledgers.append(peer.ledger())
        subscriber.close()

    signal.signal(signal.SIGUSR1, handler)
    with pytest.raises(zq.Closed):
        waiting_main(peer, lambda: kill(signal.SIGUSR1), subscriber.receive)
    assert ledgers[0].balanced


class Alarm(Exception):
    """What a handler raises to end a wait."""


def test_what_a_handler_raises_comes_out_of_the_wait_and_every_handler_is_back(peer: zq.Peer, handlers: None) -> None:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Alarm

    signal.signal(signal.SIGALRM, ring)
    signal.signal(signal.SIGUSR1, ring)
    subscriber, started = peer.subscriber("a"), time.monotonic()
    with pytest.raises(Alarm):
        waiting_main(peer, lambda: kill(signal.SIGALRM), lambda: subscriber.receive(timeout=3 * PATIENCE))
    assert time.monotonic() - started < 2 * PATIENCE
    assert [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGUSR1)] == [ring, ring]
    peer.publisher("a").send("after")
    assert subscriber.receive(timeout=PATIENCE).data == "after"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_meanwhile_has_the_handlers_that_the_program_set(peer: zq.Peer) -> None:
    subscriber, status = peer.subscriber("a"), []

    def fork() -> None:
        child = os.fork()
        if not child:
            os._exit(signal.getsignal(signal.SIGINT) is not signal.default_int_handler)
        status.append(os.waitpid(child, 0)[1])
        peer.publisher("a").send("done")

    message = waiting_main(peer, fork, lambda: subscriber.receive(timeout=PATIENCE))
    assert (message.data, status) == ("done", [0])


def test_every_signal_that_comes_meanwhile_is_heard_even_if_the_first_handler_raises(handlers: None) -> None:
    heard: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        raise Alarm

    numbers = [signal.SIGUSR1, signal.SIGALRM]
    for number in numbers:
        signal.signal(number, handler)
    rung: list[bool] = []
    deferral = Deferral(lambda: rung.append(True))
    deferral.begin()
    for number in numbers:
        signal.raise_signal(number)
    assert (heard, len(rung), deferral.noted) == ([], 2, True)
    with pytest.raises(Alarm):
        deferral.end()
    assert heard == numbers
    assert not deferral.noted
    assert [signal.getsignal(number) for number in numbers] == [handler, handler]
