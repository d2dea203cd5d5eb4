"""What a process on a host of the LAN does: python -m tests.lan.roles ROLE '[ARGUMENTS]'; see `tests.lan.hosts`."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import zq
from tests.lan import crowd, flooder, forger  # noqa: F401 - roles of their own
from tests.processes.roles import listen, main, role, say
from zq.core import meeting
from zq.engine import factory

SILENCE = 60.0  # s; more than anything waits for


@role
def neighbour(options: dict[str, Any]) -> None:
    """Says whom it sees come and go, and what it hears; told something, publishes it; told nothing, leaves.

    One of the options is not of zq.Peer: who is `steadfast` suspects nobody for being silent, only who hangs up.
    """
    if options.pop("steadfast", False):
        factory.HEARTBEAT_TIMEOUT, meeting.SUSPECT_FOR = int(SILENCE * 1_000), SILENCE
    logging.basicConfig(level=logging.INFO, format="%(relativeCreated)d %(name)s %(message)s")
    began = time.monotonic()
    with zq.Peer(**options) as peer, peer.subscriber("news") as subscriber:
        say({"what": "open", "peer": peer.id.hex(), "at": began})
        threading.Thread(target=_say_events, args=(peer,), daemon=True).start()
        threading.Thread(target=_say_news, args=(subscriber,), daemon=True).start()
        publisher = peer.publisher("news")
        while (word := listen()) is not None:
            if isinstance(word, dict):
                _work(peer, **word)
            elif word == "settle":
                peer.settle(timeout=20.0)
                say({"what": "settled", "at": time.monotonic()})
            elif word == "endpoints":
                say({"what": "endpoints", "rows": _rows(peer)})
            else:
                publisher.send(word)


def _work(peer: zq.Peer, *, pull: str = "", push: str = "", count: int = 0) -> None:
    """Takes and says what is pushed to a queue, or pushes so many numbers and says when all are done with."""
    if pull:
        threading.Thread(target=_pull, args=(peer, pull), daemon=True).start()
    if push:
        threading.Thread(target=_push, args=(peer, push, count), daemon=True).start()


def _pull(peer: zq.Peer, queue: str) -> None:
    for message in peer.puller(queue):
        with message:
            say({"what": "job", "data": message.data, "at": time.monotonic()})


def _push(peer: zq.Peer, queue: str, count: int) -> None:
    pusher = peer.pusher(queue)
    pusher.send_many(range(count))
    pusher.flush(until="processed", timeout=60.0)
    say({"what": "pushed", "at": time.monotonic()})


def _rows(peer: zq.Peer) -> list[list[str]]:
    """What it tells others of where it listens."""
    engine = peer._engine
    assert engine is not None
    return engine.call(lambda: [list(row) for row in engine.node.card.endpoints])


def _say_events(peer: zq.Peer) -> None:
    for event in peer.watch():
        say(
            {
                "what": event.kind,
                "peer": event.peer.id.hex(),
                "at": time.monotonic(),
                "found_by": event.peer.found_by,
                "address": event.peer.address,
            }
        )


def _say_news(subscriber: zq.Subscriber) -> None:
    for message in subscriber:
        say({"what": "news", "peer": message.sender.hex(), "at": time.monotonic(), "data": message.data})


if __name__ == "__main__":
    main()
