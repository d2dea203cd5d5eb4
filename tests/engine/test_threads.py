"""Several threads on one peer and one handle."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import zq
from tests.waiting import PATIENCE

THREADS = 6


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    """Threads take turns as often as the interpreter can make them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(THREADS) as threads:
        yield threads


def receive_all(receiver: Any, count: int) -> list[Any]:
    data: list[Any] = []
    while len(data) < count:
        for message in receiver.receive_many(count - len(data), timeout=PATIENCE):
            message.ack()
            data.append(message.data)
    return data


@pytest.mark.parametrize("way", ["send", "send_many", "large"])
@pytest.mark.parametrize("kind", ["topic", "queue"])
def test_threads_that_send_on_one_handle_keep_each_its_order(threads: ThreadPoolExecutor, kind: str, way: str) -> None:
    count = 60 if way == "large" else 600
    with zq.Peer("alone") as peer:
        sender, receiver = (
            (peer.publisher("a"), peer.subscriber("a")) if kind == "topic" else (peer.pusher("a"), peer.puller("a"))
        )

        def send(thread: int) -> None:
            if way == "send_many":
                sender.send_many([[thread, number] for number in range(count)])
                return
            for number in range(count):
                sender.send([thread, number, bytes(20_000 if way == "large" else 0)])

        sending = [threads.submit(send, thread) for thread in range(THREADS)]
        data = receive_all(receiver, THREADS * count)
        for future in sending:
            future.result(PATIENCE)
        for thread in range(THREADS):
            assert [row[1] for row in data if row[0] == thread] == list(range(count))


@pytest.mark.parametrize("kind", ["publisher", "pusher"])
def test_handles_made_at_once_are_views_of_one_stream(threads: ThreadPoolExecutor, kind: str) -> None:
    with zq.Peer("alone") as peer:
        for turn in range(30):
            name = f"name/{turn}"
            making = [threads.submit(getattr(peer, kind), name) for _ in range(THREADS)]
            handles = [future.result() for future in making]
            assert len({id(handle._stream) for handle in handles}) == 1
            assert handles[0]._stream.views == THREADS
            for future in [threads.submit(handle.close) for handle in handles[1:]]:
                future.result()
            handles[0].send(turn)
        ledger = peer.ledger()
        assert len(ledger.published) + len(ledger.held) == 30
        for queue in [row.queue for row in ledger.held]:
            peer.puller(queue).receive(timeout=PATIENCE).ack()


def test_a_stream_that_is_closed_and_opened_at_once_never_loses_a_message(threads: ThreadPoolExecutor) -> None:
    """Each thread opens a view, sends and closes it; the last of the moment takes the stream with it."""
    with zq.Peer("alone") as peer:
        puller = peer.puller("jobs")

        def open_send_close(thread: int) -> None:
            for number in range(40):
                with peer.pusher("jobs") as pusher:
                    pusher.send([thread, number])

        sending = [threads.submit(open_send_close, thread) for thread in range(THREADS)]
        data = receive_all(puller, THREADS * 40)
        for future in sending:
            future.result(PATIENCE)
        assert sorted(data) == sorted([thread, number] for thread in range(THREADS) for number in range(40))


def test_the_shortcuts_from_several_threads(threads: ThreadPoolExecutor) -> None:
    with zq.Peer("alone") as peer:
        subscriber, puller = peer.subscriber("**"), peer.puller("jobs")

        def send(thread: int) -> None:
            for number in range(100):
                peer.publish(f"topic/{number % 7}", [thread, number])
                peer.push("jobs", [thread, number])

        sending = [threads.submit(send, thread) for thread in range(THREADS)]
        expected = sorted([thread, number] for thread in range(THREADS) for number in range(100))
        assert sorted(receive_all(subscriber, len(expected))) == expected
        assert sorted(receive_all(puller, len(expected))) == expected
        for future in sending:
            future.result(PATIENCE)


def test_receivers_made_and_closed_by_several_threads_lose_nothing(threads: ThreadPoolExecutor) -> None:
    with zq.Peer("alone") as peer:
        pusher = peer.pusher("jobs")
        got: list[int] = []

        def work() -> None:
            for _ in range(10):
                with peer.puller("jobs", prefetch=4) as puller:
                    for _ in range(5):
                        try:
                            message = puller.receive(timeout=0.05)
                        except zq.Timeout:
                            break
                        got.append(message.data)
                        message.ack()

        working = [threads.submit(work) for _ in range(THREADS)]
        pusher.send_many(range(200))
        for future in working:
            future.result(PATIENCE)
        left = peer.puller("jobs")
        while len(set(got)) < 200:
            with left.receive(timeout=PATIENCE) as message:
                got.append(message.data)
        pusher.flush()
        assert sorted(got) == list(range(200))  # nothing twice either: nobody was killed
