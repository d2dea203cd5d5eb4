"""zq.testing, as its users use it: programs run as they are, time passes when they wait, and luck comes from a seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

import zq
from zq.testing import Killed, Network, Peer, Weather
from zq.testing.tasks import Task

BAD = Weather(latency=0.02, mailbox_loss=0.2, mailbox_repeat=0.1, mailbox_late=0.1, feed_loss=0.1)


@pytest.fixture
def network() -> Iterator[Network]:
    with Network(seed=3) as network:
        yield network


def producer_and_workers(network: Network, count: int = 2) -> tuple[Peer, list[Peer]]:
    return network.peer("producer"), [network.peer(f"worker-{number}") for number in range(count)]


def working(
    network: Network, done: list[tuple[str, int, int]], worker: Peer, seconds: float = 0.5
) -> Callable[[zq.Message], None]:
    """A handler that takes so long."""

    def handle(message: zq.Message) -> None:
        network.sleep(seconds)
        done.append((worker.name, message.data, message.attempt))

    return handle


def test_a_killed_worker_loses_nothing_and_no_time_really_passes() -> None:
    started = time.monotonic()
    with Network(seed=1) as network:
        producer, workers = producer_and_workers(network)
        done: list[tuple[str, int, int]] = []
        for worker in workers:
            worker.start(worker.puller("jobs", prefetch=1).run, working(network, done, worker, seconds=50.0))
        producer.pusher("jobs").send_many(range(10))
        network.after(120.0, workers[0].kill)
        producer.pusher("jobs").flush(timeout=6_000)
        assert sorted(data for _, data, _ in done) == list(range(10))
        assert [attempt for _, _, attempt in done].count(2) == 1
        assert 350 < network.now < 600
    assert time.monotonic() - started < 35


def test_a_seed_gives_the_same_run_and_another_seed_another_one() -> None:
    def play(seed: int) -> list[str]:
        told: list[str] = []
        with Network(seed, weather=BAD, trace=told.append) as network:
            producer, workers = producer_and_workers(network, 3)
            for worker in workers:
                worker.start(worker.puller("jobs").run, working(network, [], worker))
                worker.start(list, worker.subscriber("news/**"))
            producer.pusher("jobs").send_many(range(20))
            producer.publisher("news/local").send_many(range(20))
            network.after(1.0, workers[1].kill)
            producer.pusher("jobs").flush(timeout=60)
            network.run(5)
        return told

    first = play(5)
    assert len(first) > 100
    assert play(5) == first
    assert play(6) != first


def test_pauses_after_failures_are_of_the_seed_too() -> None:
    def play() -> list[float]:
        times: list[float] = []

        def fail(_: zq.Message) -> None:
            times.append(network.now)
            raise ValueError("as always")

        with Network(seed=7) as network:
            producer, (worker,) = producer_and_workers(network, 1)
            worker.start(worker.puller("jobs").run, fail)
            producer.pusher("jobs").send_many(range(3))
            network.run(30)
        return times

    first = play()
    assert len(first) == 15
    assert play() == first


def test_a_process_that_kills_itself_does_not_go_on(network: Network) -> None:
    producer, (first, second) = producer_and_workers(network)
    steps: list[str] = []

    def handle(message: zq.Message) -> None:
        steps.append("begun")
        if message.attempt == 1:
            first.kill()
        steps.append("done")

    first.start(first.puller("jobs").run, handle)
    producer.push("jobs", 1)
    network.run(1.0)
    assert steps == ["begun"]
    assert not first.alive
    second.start(second.puller("jobs").run, handle)
    producer.pusher("jobs").flush()
    assert steps == ["begun", "begun", "done"]
    with pytest.raises(zq.Closed, match="killed"):
        first.push("jobs", 1)


def test_a_killed_process_ends_wherever_its_threads_wait(network: Network) -> None:
    worker = network.peer("worker")
    ends: list[str] = []

    def wait(how: Callable[[], object]) -> None:
        try:
            how()
            ends.append("went on")
        except Killed:
            ends.append("killed")
            raise

    subscriber = worker.subscriber("news")
    for how in (subscriber.receive, lambda: network.sleep(100), lambda: list(subscriber), worker.pusher("q").flush):
        worker.start(wait, how)
    worker.pusher("q").send(1)
    network.run(1)
    worker.kill()
    network.run(1)
    assert ends == ["killed"] * 4
    assert all(task.ended for task in worker.tasks)


def test_receiving_lets_time_pass_until_the_timeout_and_not_longer(network: Network) -> None:
    reader = network.peer("reader")
    with pytest.raises(zq.Timeout):
        reader.subscriber("news").receive(timeout=100.0)
    assert network.now == pytest.approx(100.0)
    with pytest.raises(zq.Timeout):
        reader.wait_for_peers(1, timeout=20.0)
    assert network.now == pytest.approx(120.0)


def test_a_test_that_waits_for_ever_is_told_so(network: Network) -> None:
    with pytest.raises(zq.Error, match="for ever"):
        network.peer("reader").subscriber("news").receive()


def test_an_exception_of_a_program_is_the_tests(network: Network) -> None:
    worker = network.peer("worker")
    worker.start(lambda: {}["nothing"])
    with pytest.raises(KeyError):
        network.run(1.0)


def test_a_handler_that_fails_is_nacked_as_it_is_by_a_real_peer(network: Network) -> None:
    producer, (worker,) = producer_and_workers(network, 1)
    attempts: list[tuple[int, float]] = []

    def handle(message: zq.Message) -> None:
        attempts.append((message.attempt, network.now))
        if message.attempt < 3:
            raise ValueError("not yet")

    worker.start(worker.puller("jobs").run, handle)
    producer.push("jobs", 1)
    producer.pusher("jobs").flush()
    assert [attempt for attempt, _ in attempts] == [1, 2, 3]
    assert attempts[2][1] - attempts[0][1] > 0.1


def test_several_threads_share_a_puller(network: Network) -> None:
    producer, (worker,) = producer_and_workers(network, 1)
    done: list[tuple[str, int, int]] = []
    puller = worker.puller("jobs")
    worker.start(lambda: puller.run(working(network, done, worker), concurrency=4))
    producer.pusher("jobs").send_many(range(8))
    producer.pusher("jobs").flush()
    assert len(done) == 8
    assert network.now < 2.0
    worker.close()
    network.run(1)
    assert all(task.ended for task in worker.tasks)


def test_a_frozen_process_does_nothing_until_it_goes_on(network: Network) -> None:
    producer, (worker,) = producer_and_workers(network, 1)
    done: list[tuple[str, int, int]] = []
    worker.start(worker.puller("jobs").run, working(network, done, worker))
    producer.wait_for_peers(1)
    worker.freeze()
    producer.push("jobs", 1)
    network.run(1.0)
    assert done == []
    worker.go_on()
    producer.pusher("jobs").flush()
    assert [data for _, data, _ in done] == [1]


def test_a_partition_heals(network: Network) -> None:
    producer, (worker,) = producer_and_workers(network, 1)
    producer.wait_for_peers(1)
    network.sever(producer, worker)
    network.run(20.0)
    assert producer.peers() == []
    network.heal(producer, worker)
    producer.wait_for_peers(1)
    assert [event.kind for event in producer.watch(timeout=0)] == ["joined"]


def test_a_publisher_that_vanishes_is_a_gap_of_unknown_length(network: Network) -> None:
    publisher, reader = network.peer("publisher"), network.peer("reader")
    gaps: list[zq.Gap] = []
    subscriber = reader.subscriber("news", on_gap=gaps.append)
    publisher.publish("news", 1)
    assert subscriber.receive(timeout=5).data == 1
    publisher.kill(vanish=True)
    with pytest.raises(zq.Timeout):
        subscriber.receive(timeout=20)
    assert [(gap.publisher, gap.first, gap.last) for gap in gaps] == [(publisher.id, 2, None)]


def test_what_is_lost_on_the_way_is_repaired() -> None:
    with Network(seed=2, weather=BAD) as network:
        publisher, reader = network.peer("publisher"), network.peer("reader")
        subscriber = reader.subscriber("news")
        stream = publisher.publisher("news")
        stream.wait_for_subscribers()
        for number in range(50):
            stream.send(number)
            network.sleep(0.01)
        assert [subscriber.receive(timeout=30).data for _ in range(50)] == list(range(50))
        network.weather = Weather()
        network.reset(publisher, reader)
        network.slow(publisher, reader, 0.5)
        stream.send(50)
        assert subscriber.receive(timeout=30).data == 50


def test_closing_waits_for_what_was_sent_and_says_what_was_not_taken(network: Network) -> None:
    producer = network.peer("producer")
    producer.push("jobs", 1)
    with pytest.raises(zq.Undelivered):
        producer.close(timeout=7.0)
    assert network.now == pytest.approx(7.0, abs=0.1)
    assert not producer.alive
    other, (worker,) = producer_and_workers(network, 1)
    worker.start(worker.puller("jobs").run, working(network, [], worker))
    with other:
        other.push("jobs", 1)
    assert not other.alive


def test_real_peers_are_refused_meanwhile_and_work_afterwards() -> None:
    with (
        Network() as network,
        pytest.raises(zq.Error, match="simulated"),
        zq.Peer("real"),
    ):
        pass
    with zq.Peer("real") as peer:
        assert peer.peers() == []
    with pytest.raises(zq.Error, match="with"):
        network.peer("late")


def test_a_thread_that_fails_on_its_way_out_is_told_and_all_others_end_too() -> None:
    def stubborn(peer: Peer) -> None:
        try:
            peer.subscriber("news").receive()
        finally:
            raise ValueError("no way")

    def play(error: Exception | None = None) -> None:
        with Network() as network:
            peers = [network.peer(name) for name in ("a", "b")]
            tasks.extend(peer.start(stubborn, peer) for peer in peers)
            network.run(1.0)
            if error is not None:
                raise error

    tasks: list[Task] = []
    with pytest.raises(ValueError, match="no way"):
        play()
    with pytest.raises(KeyError) as caught:
        play(KeyError("of the test"))
    assert "no way" in caught.value.__notes__[0]
    assert [task.ended for task in tasks] == [True] * 4


def test_only_the_test_runs_the_network(network: Network) -> None:
    network.peer("a").start(network.run, 1.0)
    with pytest.raises(zq.Error, match="sleep"):
        network.run(1.0)


def test_a_request_is_answered_and_waits_in_simulated_time(network: Network) -> None:
    asker, server = network.peer("asker"), network.peer("server")

    def double(request: zq.Request) -> int:
        network.sleep(3)
        return int(request.data) * 2

    server.start(server.replier("double").run, double)
    assert asker.request("double", 21, timeout=5).data == 42
    with pytest.raises(zq.Timeout):
        asker.request("double", 21, timeout=2)
    began = network.now
    network.after(1, server.kill)
    with pytest.raises(zq.PeerLost):
        asker.request("double", 21, timeout=60)
    assert network.now - began < 30


def test_a_request_whose_time_is_up_does_not_reach_the_program_although_nobody_says_so(network: Network) -> None:
    asker, server = network.peer("asker"), network.peer("server")
    replier = server.replier("slow")
    asker.start(asker.request, "slow", "old", timeout=1)
    asker.start(asker.request, "slow", "new", timeout=3)
    network.run(0.5)
    asker.kill(vanish=True)
    network.run(1)
    with replier.receive(timeout=0) as request:
        assert request.data == "new"
    with pytest.raises(zq.Timeout):
        replier.receive(timeout=0)


def test_what_a_handler_holds_for_too_long_goes_to_somebody_else(network: Network) -> None:
    producer, (slow, fast) = producer_and_workers(network)
    slow.start(slow.puller("jobs", prefetch=1, work_timeout=2).run, lambda message: network.sleep(30))
    network.run(1)
    producer.pusher("jobs").send("job")
    network.run(1)
    [message] = [fast.puller("jobs").receive(timeout=10)]
    message.ack()
    assert (message.data, message.attempt) == ("job", 2)


def test_dead_letters_are_seen_and_retried(network: Network) -> None:
    producer, (worker, other) = producer_and_workers(network)
    puller = worker.puller("jobs")
    producer.pusher("jobs").send("bad")
    puller.receive(timeout=10).reject("no such order")
    network.run(1)
    [letter] = other.dead_letters("jobs").letters
    assert (letter.data, letter.reason, letter.holder) == ("bad", "no such order", "producer")
    [missing] = other.ledger(realm=True).missing
    assert (missing.queue, missing.count, missing.why) == ("jobs", 1, "rejected")
    assert other.retry_dead_letters("jobs").count == 1
    assert not other.ledger(realm=True).missing
    puller.receive(timeout=10).ack()
    network.run(1)
    queues = {queue.queue: queue for queue in other.ledger(realm=True).queues}
    assert (queues["jobs"].taken, queues["jobs"].acked, queues["jobs"].dropped) == (2, 1, {"rejected": 1})
    assert queues["jobs.dead"].dropped == {"retried": 1}
