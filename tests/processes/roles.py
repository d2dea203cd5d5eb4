"""What the processes of these tests do: python -m tests.processes.roles ROLE '[ARGUMENTS]'; see `process`.

A role says when it is ready, does its work, and writes to a journal what must be known whatever becomes of it.
"""

from __future__ import annotations

import errno
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zq
from tests.processes.journal import Journal
from tests.processes.watching import endpoints, footprint
from tests.waiting import PATIENCE, eventually
from zq.core import meeting
from zq.handles import life

ROLES: dict[str, Callable[..., None]] = {}
_told: queue.SimpleQueue[Any] = queue.SimpleQueue()


def role(function: Callable[..., None]) -> Callable[..., None]:
    ROLES[function.__name__] = function
    return function


def say(what: Any = None) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def listen() -> Any:
    """What the test tells next."""
    return _told.get()


def _hear() -> None:
    """Descriptor 0 itself, not sys.stdin: a thread that blocks in that would make the interpreter abort at its end."""
    rest = b""
    while piece := os.read(0, 65_536):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            _told.put(json.loads(line))
    os._exit(7)  # the test is gone


# --- queues


@role
def work(
    options: dict[str, Any], name: str, journal: str, seconds: float, report: int, then: float | None = None
) -> None:
    """Takes `seconds` for each message of queue `name`; says when `report` of them are done, and takes `then` from then
    on, if it is given."""
    done, written = 0, Journal(journal)
    with zq.Peer(**options) as peer:
        puller = peer.puller(name)
        say([peer.id.hex(), endpoints(peer)])
        for message in puller:
            number = message.data[0]
            written.add("began", number, message.attempt, message.redelivered)
            if seconds:
                time.sleep(seconds)  # the work
            written.add("done", number)
            message.ack()
            done += 1
            if done == report:
                seconds = seconds if then is None else then
                say("reported")


@role
def serve(options: dict[str, Any], name: str, topics: list[str], journal: str) -> None:
    """A replica of a service whose queue is bound to topics; SIGTERM ends it in good order."""
    written = Journal(journal)

    def handle(message: zq.Message) -> None:
        written.add("began", message.data, message.attempt, message.redelivered)
        written.add("done", message.data)

    with zq.Peer(**options) as peer, peer.puller(name, topics=topics) as puller:
        say(peer.id.hex())
        puller.run(handle)


@role
def answer(options: dict[str, Any], service: str, journal: str, stuck: int) -> None:
    """Replies to each request with its data; gets stuck in the request that is `stuck`, and says so."""
    written = Journal(journal)
    with zq.Peer(**options) as peer, peer.replier(service) as replier:
        say([peer.id.hex(), endpoints(peer)])
        for request in replier:
            number = request.data[0]
            written.add("began", number)
            if number == stuck:
                say("stuck")
                listen()
            with request:
                request.reply(request.data)


@role
def hold(options: dict[str, Any], name: str, count: int) -> None:
    """Takes `count` messages of queue `name` and never settles them."""
    with zq.Peer(**options) as peer:
        puller = peer.puller(name)
        say([peer.id.hex(), endpoints(peer)])
        held = [puller.receive() for _ in range(count)]
        say([message.data for message in held])
        listen()
        for message in held:
            message.ack()
        puller.close()
        say("settled")
        listen()


@role
def work_until_poisoned(options: dict[str, Any], name: str) -> None:
    """Does what comes, and is gone the moment it is handed the message "poison", before any thread can do anything."""
    with zq.Peer(**options) as peer:
        puller = peer.puller(name)
        say("open")
        for message in puller:
            if message.data == "poison":
                os._exit(13)
            message.ack()


# --- topics


def wait_for_late_answers() -> None:
    """A publisher that leaves gives whoever has not answered it a second, less than a machine may stall."""
    meeting.ANSWER = life.ANSWER = PATIENCE


@role
def publish(options: dict[str, Any], topic: str, count: int, wait: bool = False) -> None:
    """Publishes 0 to `count` - 1 and leaves at once; with `wait` it is there before it is told to begin."""
    wait_for_late_answers()
    with zq.Peer(**options) as peer, peer.publisher(topic) as publisher:
        if wait:
            peer.settle()
            say("open")
            listen()
        for number in range(count):
            publisher.send(number)
        if wait:
            say("sent")


@role
def publish_one_after_another(options: dict[str, Any], topic: str, peers: int, each: int) -> None:
    """`peers` peers in a row, each of which publishes `each` messages and leaves."""
    wait_for_late_answers()
    for index in range(peers):
        with zq.Peer(**options) as peer, peer.publisher(topic) as publisher:
            for number in range(each):
                publisher.send([index, number])
    say("published")


@role
def subscribe(options: dict[str, Any], filter: str, count: int) -> None:
    """Says the first `count` messages, in one list, or what came when there are no more."""
    with zq.Peer(**options) as peer, peer.subscriber(filter) as subscriber:
        say("subscribed")
        received: list[Any] = []
        try:
            while len(received) < count:
                received.append(subscriber.receive(timeout=10.0).data)
        except zq.Timeout:
            received.append("no more")
        say(received)


@role
def subscribe_and_stop(options: dict[str, Any], filter: str, count: int) -> None:
    """Stands still as soon as it has subscribed: what its engine had to tell others may still be here."""
    with zq.Peer(**options) as peer:
        say("open")
        listen()
        subscriber = peer.subscriber(filter)
        os.kill(os.getpid(), signal.SIGSTOP)
        say([subscriber.receive(timeout=10.0).data for _ in range(count)])


@role
def follow(options: dict[str, Any], filter: str, journal: str) -> None:
    """Writes down the first item of every message, and every hole, until that is None."""
    written = Journal(journal)
    with zq.Peer(**options) as peer:
        subscriber = peer.subscriber(filter, on_gap=lambda gap: written.add("gap", gap.first, gap.last))
        say([peer.id.hex(), endpoints(peer)])
        while True:
            numbers = [message.data[0] for message in subscriber.receive_many(1_000)]
            written.add("came", [number for number in numbers if number is not None])
            if None in numbers:
                say("followed")
                listen()


@role
def observe(options: dict[str, Any], filter: str) -> None:
    """Subscribes; told a number it receives so many messages, then says them, and what it takes with nobody there."""
    with zq.Peer(**options) as peer, peer.subscriber(filter) as subscriber:
        say(peer.id.hex())
        while True:
            count = listen()
            received = [subscriber.receive(timeout=15.0).data for _ in range(count)]
            eventually(lambda: peer.peers() == [], 15.0)
            say([received, footprint()])


# --- ends


@role
def party(options: dict[str, Any], part: str, way: str) -> None:
    """One of four parts, which ends in one of several ways, none of which is to close its peer."""
    peer = zq.Peer(name=part, **options).open()
    kept: list[Any] = []
    if part == "publisher":
        kept.append(publisher := peer.publisher("news"))
        for number in range(10):
            publisher.send(number)
        publisher.flush(timeout=10.0)
    elif part == "subscriber":
        kept.append(peer.subscriber("orders"))
    elif part == "pusher":
        kept.append(pusher := peer.pusher("jobs"))
        for number in range(10):
            pusher.send(number)
    else:
        kept.append(puller := peer.puller("chores", prefetch=10))
        kept += [puller.receive() for _ in range(10)]
    say(peer.id.hex())
    listen()
    if way == "os._exit":
        os._exit(3)
    if way == "sys.exit":
        sys.exit(3)
    if way == "an exception":
        raise RuntimeError("a bug of the program")
    listen()  # for a signal


# --- the realm


@role
def member(options: dict[str, Any], others: int) -> None:
    """Says when it is there, when it has met `others`, and who leaves after that; told to, it leaves."""
    with zq.Peer(**options) as peer:
        say(peer.id.hex())
        events = peer.watch()
        while others:
            others -= next(events).kind == "joined"
        say(time.monotonic())
        threading.Thread(target=_say_who_leaves, args=(events,), daemon=True).start()
        listen()


def _say_who_leaves(events: Iterator[zq.PeerEvent]) -> None:
    for event in events:
        if event.kind == "left":
            say(event.peer.id.hex())


@role
def idle(options: dict[str, Any]) -> None:
    """Told for how many seconds, says how much processor time they take with nothing to do, how many others it knows,
    and what happens."""
    with zq.Peer(**options) as peer:
        say([peer.id.hex(), endpoints(peer)])
        while True:
            seconds = listen()
            here = len(peer.peers())
            before = time.process_time()
            events = [event.kind for event in peer.watch(timeout=seconds)]
            say([time.process_time() - before, here, events[here:]])


@role
def listed(options: dict[str, Any]) -> None:
    """Told to, says how the peers that it sees were found."""
    with zq.Peer(**options) as peer:
        say([peer.id.hex(), endpoints(peer)])
        while True:
            listen()
            peer.settle()
            say({other.id.hex(): [other.state, *other.found_by] for other in peer.peers()})


# --- another user


@role
def intrude(user: int, directory: str, sockets: list[str], own: str, options: dict[str, Any]) -> None:
    """Becomes `user`, tries what a stranger might, and says what came of it."""
    with zq.Peer(**options):
        pass  # everything that is needed is imported now: the stranger may not be allowed to read it
    os.environ["XDG_CONFIG_HOME"] = own  # a user's own settings
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    found: dict[str, Any] = {"connect": []}
    try:
        found["list"] = os.listdir(directory)  # noqa: PTH208, names are enough
    except OSError as error:
        found["list"] = errno.errorcode[error.errno or 0]
    for path in sockets:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
                found["connect"].append("connected")
            except OSError as error:
                found["connect"].append(errno.errorcode[error.errno or 0])
    try:
        zq.Peer(**options).open().close()
        found["theirs"] = "opened"
    except zq.AccessDenied as error:
        found["theirs"] = str(error)
    os.environ["ZQ_HOST_DIR"] = own
    with zq.Peer(**options) as peer:
        peer.settle()
        found["peers"] = len(peer.peers())
        found["own"] = sorted(path.suffix for path in Path(own).iterdir())
    say(found)


def main() -> None:
    threading.Thread(target=_hear, daemon=True).start()
    ROLES[sys.argv[1]](*json.loads(sys.argv[2]))


if __name__ == "__main__":
    main()
