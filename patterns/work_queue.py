"""Share work between processes that may die.

Problem      Jobs are produced faster than one process can do them, and any worker may be killed at any moment.
Topology     one producer -> queue `jobs` -> many workers -> queue `results` -> one collector (here: the producer).
Guarantee    Every job is done at least once and every result arrives, although a worker is killed with SIGKILL
             while it has a job in hand. No job waits for a slow worker while another one is free.
Not          Exactly once: the killed worker's job is done again, and says so (`message.redelivered`), so a job has to
             be harmless when done twice. The producer must outlive the work: it holds what is not acknowledged.
Seen elsewhere
             RabbitMQ work queues with manual acknowledgement, SQS, Celery, ZeroMQ PUSH/PULL (which loses the job).
Run          python -m patterns.work_queue
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import zq

JOBS = 60
WORKERS = 3
WORK = 0.02  # s a job
PATIENCE = 10.0  # s without any progress after which the demonstration has failed


def work(realm: str) -> None:
    """A worker: one job at a time, until it is killed or terminated."""
    with zq.Peer(f"worker-{os.getpid()}", realm=realm) as peer, peer.pusher("results") as results:
        for job in peer.puller("jobs", prefetch=1):
            with job:  # acknowledges when the block ends without an exception
                time.sleep(WORK)  # stands for the work itself
                number = job.data["number"]
                again = job.redelivered  # somebody may have done it already
                results.send({"number": number, "square": number**2, "worker": os.getpid(), "again": again})
                # The result is with the collector before the job is acknowledged: killed here, the job is done again.
                results.flush(timeout=PATIENCE)


def main() -> None:
    realm = f"work-queue-{os.getpid()}"  # so that two runs on one machine do not share their jobs
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=work, args=(realm,), daemon=True) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    try:
        with zq.Peer("producer", realm=realm) as peer, peer.puller("results") as results:
            jobs = peer.pusher("jobs")
            jobs.wait_for_pullers(WORKERS, timeout=PATIENCE)
            jobs.send_many({"number": number} for number in range(JOBS))
            done, victim = collect(results, {worker.pid for worker in workers if worker.pid is not None})
            jobs.flush(until="processed", timeout=PATIENCE)
            redelivered = sum(queue.redelivered for queue in peer.ledger().held)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    assert done == {number: number**2 for number in range(JOBS)}, "a job or a result is missing"
    assert redelivered >= 1, "the killed worker had a job in hand, and nobody else got it"
    print(f"{JOBS} jobs done by {WORKERS} workers, 0 lost; {victim} was killed at work, {redelivered} redelivered")


def collect(results: zq.Puller, workers: set[int]) -> tuple[dict[int, int], int]:
    """Takes results until every job has one. Kills one worker on the way; returns the results and its process id."""
    done: dict[int, int] = {}
    victim: int | None = None
    while len(done) < JOBS:
        with results.receive(timeout=PATIENCE) as result:
            done[result.data["number"]] = result.data["square"]
            if victim is None and len(done) > JOBS // 3:
                victim = result.data["worker"]
                assert victim in workers
                # It waits for this result to be acknowledged, which happens below: its job is in its hand, unfinished.
                os.kill(victim, signal.SIGKILL)
    assert victim is not None
    return done, victim


if __name__ == "__main__":
    main()
