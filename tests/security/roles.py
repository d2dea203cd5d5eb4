"""The processes of the proof that strangers disturb nobody: two friends who talk, a bystander, and the strangers.

As in `tests.processes.roles`; python -m tests.security.roles ROLE '[ARGUMENTS]'.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import zq
from tests.processes.roles import listen, main, role, say
from tests.security.rogues import doors_of, listeners_of, lookout_of
from tests.security.strangers import KINDS, Until
from zq.security.keys import read_keys, today
from zq.security.lock import Lock

DEADLINE = 30.0  # s for anything here


@role
def talk(options: dict[str, Any], rate: float, processors: list[int]) -> None:
    """Publishes the time at that rate until told to stop; its doors are those that strangers come to."""
    settle_on(processors)
    stop = threading.Event()
    sent = 0

    def send() -> None:
        nonlocal sent
        due = time.monotonic()
        while not stop.wait(max(due - time.monotonic(), 0.0)):
            publisher.send(time.monotonic())
            sent += 1
            due += 1 / rate

    with zq.Peer("talker", **options) as peer:
        publisher = peer.publisher("friends")
        say({"doors": doors_of(peer), "peer": peer.id.hex()})
        listen()
        publisher.wait_for_subscribers(timeout=DEADLINE)
        thread = threading.Thread(target=send)
        thread.start()
        say("talking")
        while listen() == "state":
            say(state_of(peer))
        stop.set()
        thread.join()
        publisher.flush(timeout=DEADLINE)
        say(state_of(peer) | {"sent": sent})
        listen()


def state_of(peer: zq.Peer) -> dict[str, Any]:
    """What its doors have counted."""
    listeners, ledger = listeners_of(peer), peer.ledger()
    guard = listeners.guard
    return {
        "failures": guard.failures, "cut_off": guard.cut_off, "held": listeners.porch.held, "let_in": guard.let_in,
        "taken": guard.failures + guard.unseen + guard.let_in, "shut_out": listeners.porch.shut_out,
        "refused_frames": ledger.refused_frames, "bombs": listeners.offenders.cut_off,
        "forged": lookout_of(peer).forged, "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "processor": time.process_time(),
    }  # fmt: skip


@role
def hear(options: dict[str, Any], processors: list[int]) -> None:
    """Says, whenever asked, how long each message has taken since it was asked last; at the end, told how many were
    sent, how many came."""
    settle_on(processors)
    took: list[float] = []
    with zq.Peer("hearer", **options) as peer, peer.subscriber("friends") as subscriber:

        def receive() -> None:
            took.extend(time.monotonic() - message.data for message in subscriber)

        thread = threading.Thread(target=receive)
        thread.start()
        say("open")
        heard = 0
        while (word := listen()) == "took":
            latest = took[heard:]
            heard += len(latest)
            say([round(each * 1e6) for each in latest])
        over = time.monotonic() + DEADLINE / 2  # whoever asks does not wait for longer
        while len(took) < word and time.monotonic() < over:  # what has arrived is still to be taken
            threading.Event().wait(0.002)
        subscriber.close()
        thread.join()
        say(len(took))


@role
def stand_by(options: dict[str, Any], processors: list[int]) -> None:
    """A peer that has nothing to do with the friends; strangers come to its doors as well."""
    settle_on(processors)
    with zq.Peer("bystander", **options) as peer:
        say({"doors": doors_of(peer)})
        while listen() == "state":
            say(state_of(peer))


@role
def strangers(processors: list[int]) -> None:
    """Comes to doors as it is told, and says how many came, who got in, and how long it took.

    It yields to the friends, since its like would be on other machines.
    """
    os.nice(19)
    settle_on(processors)
    say("ready")
    while (word := listen()) is not None:
        os.environ |= {"ZQ_KEY_FILE": word["key_file"], "ZQ_REALM": word["realm"]}  # of those who are members
        lock = Lock(read_keys(Path(word["key_file"])), word["realm"], today())
        began = time.monotonic()
        until = Until(began + word["seconds"] if word["seconds"] is not None else None, word["most"])
        visit = KINDS[word["kind"]](word["doors"], lock, until)
        say({"count": visit.count, "wrong": visit.wrong[:10], "seconds": time.monotonic() - began})


def settle_on(processors: list[int]) -> None:
    if processors and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)


if __name__ == "__main__":
    main()
