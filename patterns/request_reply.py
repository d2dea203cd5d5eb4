"""Ask a service, and know what became of the question.

Problem      A program needs an answer from one of several processes, any of which may be killed while it works on it.
Topology     many askers (here: one) -> service `square` -> one of many repliers.
Guarantee    Every request ends exactly once: with its reply, or with an error that says what happened, long before
             its timeout although a replier is killed with SIGKILL while it has one in hand. Nothing is asked twice.
Not          The answer itself: a request whose replier is killed is not given to another one, as it may have been
             done. Asking again is the asker's decision (here: squares may be computed twice). Nothing is kept for a
             service that nobody offers: for work that has to be done in the end, use a queue.
Seen elsewhere
             HTTP, gRPC, NATS request/reply, ZeroMQ REQ/REP (which waits for ever when a replier dies).
Run          python -m patterns.request_reply
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import zq

REQUESTS = 40
REPLIERS = 3
WORK = 0.02  # s a request
STUCK = 60.0  # s that the victim would take for its last one
PATIENCE = 10.0  # s a request may take: far longer than any does


def reply(realm: str, victim: bool) -> None:
    """A replier: one request at a time, until it is killed. The victim gets stuck in its third."""

    def square(request: zq.Request) -> object:
        served.append(request.data)
        time.sleep(STUCK if victim and len(served) == 3 else WORK)  # stands for the work itself
        if request.data < 0:
            request.fail(f"{request.data} is negative")  # as an exception would, with its type and message
        return {"square": request.data**2, "replier": os.getpid()}

    served: list[int] = []
    with zq.Peer(f"replier-{os.getpid()}", realm=realm) as peer:
        peer.replier("square").run(square)


def ask(peer: zq.Peer, number: int) -> tuple[int, int]:
    """The square of a number, and how often it had to be asked for."""
    for attempt in range(1, REPLIERS + 1):
        try:
            answer = peer.request("square", number, timeout=PATIENCE)
        except zq.PeerLost:
            continue  # it may have been done: twice is harmless
        square: int = answer.data["square"]
        return square, attempt
    raise AssertionError(f"every replier that was asked for {number} has died")


def failure_of(peer: zq.Peer, number: int) -> str:
    """What the replier says is wrong."""
    try:
        peer.request("square", number, timeout=PATIENCE)
    except zq.RemoteError as error:
        return str(error)
    return ""


def main() -> None:
    realm = f"request-reply-{os.getpid()}"  # so that two runs on one machine do not ask each other
    spawn = multiprocessing.get_context("spawn")
    repliers = [spawn.Process(target=reply, args=(realm, index == 0), daemon=True) for index in range(REPLIERS)]
    for process in repliers:
        process.start()
    try:
        with zq.Peer("asker", realm=realm) as peer, ThreadPoolExecutor(max_workers=6) as threads:
            peer.wait_for_repliers("square", REPLIERS, timeout=PATIENCE)
            answers = [threads.submit(ask, peer, number) for number in range(REQUESTS)]
            victim = repliers[0].pid
            assert victim is not None
            while sum(answer.done() for answer in answers) < REQUESTS // 2:
                time.sleep(WORK)
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic()
            squares = [answer.result(PATIENCE) for answer in answers]
            took = time.monotonic() - killed
            failure = failure_of(peer, -1)
            (row,) = peer.ledger().requested
    finally:
        for process in repliers:
            process.kill()
            process.join()
    again = sum(attempts - 1 for _, attempts in squares)
    assert failure == "Error: -1 is negative", "an error of a replier did not arrive"
    assert [square for square, _ in squares] == [number**2 for number in range(REQUESTS)], "a reply is missing or wrong"
    assert row.lost == again >= 1, "the killed replier had a request in hand, and nobody was told"
    assert row.asked == row.replied + row.failed + row.lost == REQUESTS + 1 + again, "a request ended twice, or never"
    assert took < PATIENCE / 2, "a request waited for one who was dead"
    print(f"{REQUESTS} requests replied to by {REPLIERS} repliers, 0 lost; {victim} was killed, {again} asked again")


if __name__ == "__main__":
    main()
