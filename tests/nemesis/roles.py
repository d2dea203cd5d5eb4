"""What the players of a round do: python -m tests.nemesis.roles ROLE '[ARGUMENTS]'; see `tests.nemesis.players`.

Each does its part until it is told to be calm, and writes down what it does before (or when) it is done, in a journal
that outlives it. Told "look" it says how it is; told "finish" it says when everybody has what it has sent, or that
nothing has come for a while; told nothing, it leaves.
"""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import zq
from tests.nemesis.plan import asks_all, is_doomed, key_of, lane_of
from tests.processes import roles
from tests.processes.journal import Journal
from tests.processes.roles import main, role, say
from tests.processes.watching import footprint

FLUSH = 60.0  # s that the last flush of a round may take
STILL = 0.5  # s without a message after which a receiver says that it has them all
LARGEST = 3_000  # bytes of filler in a message


def stamped(stream: int, number: int, chance: random.Random) -> list[Any]:
    filler = chance.randbytes(chance.choice((0, 20, LARGEST)))
    return [stream, number, filler, digest(stream, number, filler)]


def digest(stream: int, number: int, filler: bytes) -> bytes:
    return blake2b(b"%d/%d/" % (stream, number) + filler, digest_size=8).digest()


def genuine(data: Any) -> list[int]:
    """Stream and number. Fails when the message is not as it was sent."""
    stream, number, filler, said = data
    assert digest(stream, number, filler) == said, f"message {stream}/{number} was altered"
    return [stream, number]


class Ear:
    """What the player is told, looked at between two pieces of its work."""

    def __init__(self, peer: zq.Peer) -> None:
        self._peer = peer
        self.calm = self.finishing = self.leaving = False
        say(peer.id.hex())

    def listen(self, seconds: float = 0.0) -> None:
        """Waits for a word for so long at most."""
        try:
            word = roles._told.get(timeout=seconds) if seconds else roles._told.get_nowait()
        except queue.Empty:
            return
        if word == "calm":
            self.calm = True
        elif word == "finish":
            self.finishing = True
        elif word == "look":
            self._look()
        else:
            self.leaving = True

    def _look(self) -> None:
        ledger = self._peer.ledger()
        held = [
            [row.queue, row.taken, row.waiting, row.in_flight, row.acked + row.stored, sum(row.dropped.values())]
            for row in ledger.held
        ]
        others = [info.id.hex() for info in self._peer.peers() if info.state == "up"]
        say({"balanced": ledger.balanced, "ledger": repr(ledger), "held": held, "others": others} | footprint())

    def finished(self, what: Any = True) -> None:
        self.finishing = False
        say({"finished": what})


@role
def push(options: dict[str, Any], stream: int, journal: str) -> None:
    written, chance = Journal(journal), random.Random(stream)
    number = 0
    with zq.Peer(**options) as peer:
        pusher, ear = peer.pusher("jobs"), Ear(peer)
        while not ear.leaving:
            if not ear.calm:
                for _ in range(chance.choice((1, 1, 5, 30))):
                    number += 1
                    pusher.send(stamped(stream, number, chance), lane=lane_of(number), key=key_of(number))
                    written.add("taken", number)
                try:
                    pusher.flush(until="processed", timeout=chance.choice((0.02, 0.3)))
                    written.add("confirmed", number)
                except zq.Undelivered:
                    pass  # they are only taken
            if ear.finishing:
                pusher.flush(until="processed", timeout=FLUSH)
                written.add("confirmed", number)
                ear.finished(number)
            ear.listen(chance.uniform(0.0, 0.1))


@role
def pull(options: dict[str, Any], stream: int, journal: str) -> None:
    _pull(options, stream, Journal(journal), "jobs", ())


@role
def serve(options: dict[str, Any], stream: int, journal: str) -> None:
    """A replica of the one service whose queue is bound to all topics."""
    _pull(options, stream, Journal(journal), "mailer", ["news/**"])


def _pull(options: dict[str, Any], stream: int, written: Journal, queue: str, topics: Sequence[str]) -> None:
    chance = random.Random(stream)
    with zq.Peer(**options) as peer:
        puller, ear = peer.puller(queue, prefetch=chance.choice((None, 1, 8)), topics=topics), Ear(peer)
        written.add("bound")
        while not ear.leaving:
            ear.listen()
            try:
                message = puller.receive(timeout=STILL if ear.finishing else 0.05)
            except zq.Timeout:
                if ear.finishing:
                    ear.finished()
                continue
            row = genuine(message.data)
            if not topics:
                assert message.key == key_of(row[1]), f"message {row} has key {message.key}"
            written.add("began", *row, message.attempt, message.redelivered)
            time.sleep(chance.choice((0.0, 0.002, 0.01)))  # the work
            if not ear.calm and chance.random() < 0.03:
                message.nack()
            elif not topics and is_doomed(row[1]):
                written.add("rejected", *row)
                message.reject("doomed")
            else:
                written.add("done", *row)
                message.ack()


@role
def store(options: dict[str, Any], stream: int, journal: str, directory: str) -> None:
    """With an outbox, which whoever takes its place has as well: what `send` has returned for is confirmed."""
    written, chance = Journal(journal), random.Random(stream)
    number = 0
    with zq.Peer(**options) as peer:
        pusher, ear = peer.pusher("kept", outbox=directory), Ear(peer)
        while not ear.leaving:
            for _ in range(0 if ear.calm else chance.choice((1, 1, 5, 30))):
                number += 1
                pusher.send(stamped(stream, number, chance))
                written.add("confirmed", number)
            if ear.finishing:
                (row,) = (row for row in peer.ledger().held if row.queue == "kept")
                if not (row.waiting or row.in_flight):
                    ear.finished(number)
            ear.listen(chance.uniform(0.0, 0.1))


@role
def keep(options: dict[str, Any], stream: int, journal: str, directory: str) -> None:
    """A spool, whose directory has whoever takes its place as well."""
    with zq.Peer(**options) as peer, peer.spool(Path(directory), queues=["kept"]) as spool:
        ear = Ear(peer)
        while not ear.leaving:
            ear.listen(0.05)
            if ear.finishing and spool.queues()[0].depth == 0:
                ear.finished()


@role
def fetch(options: dict[str, Any], stream: int, journal: str) -> None:
    written, chance = Journal(journal), random.Random(stream)
    with zq.Peer(**options) as peer:
        puller, ear = peer.puller("kept", prefetch=chance.choice((None, 1, 8))), Ear(peer)
        while not ear.leaving:
            ear.listen()
            try:
                message = puller.receive(timeout=STILL if ear.finishing else 0.05)
            except zq.Timeout:
                if ear.finishing:
                    ear.finished()
                continue
            written.add("fetched", *genuine(message.data), message.redelivered)
            message.ack()


@role
def publish(options: dict[str, Any], stream: int, journal: str) -> None:
    written, chance = Journal(journal), random.Random(stream)
    number = 0
    with zq.Peer(**options) as peer:
        publisher, ear = peer.publisher(f"news/{stream}"), Ear(peer)
        while not ear.leaving:
            for _ in range(0 if ear.calm else chance.choice((1, 1, 5, 30))):
                number += 1
                written.add("published", number)  # before: what is published after a subscription is owed to it
                publisher.send(stamped(stream, number, chance))
            if ear.finishing:
                publisher.flush(timeout=FLUSH)
                ear.finished(number)
            ear.listen(chance.uniform(0.0, 0.1))


@role
def subscribe(options: dict[str, Any], stream: int, journal: str) -> None:
    written = Journal(journal)

    def on_gap(gap: zq.Gap) -> None:
        written.add("gap", int(gap.topic.removeprefix("news/")), gap.first, gap.last)

    with zq.Peer(**options) as peer:
        subscriber = peer.subscriber("news/**", on_gap=on_gap)
        written.add("subscribed")
        ear = Ear(peer)
        while not ear.leaving:
            ear.listen()
            try:
                message = subscriber.receive(timeout=STILL if ear.finishing else 0.05)
            except zq.Timeout:
                if ear.finishing:
                    ear.finished()
                continue
            written.add("came", *genuine(message.data))


@role
def ask(options: dict[str, Any], stream: int, journal: str) -> None:
    """One request after another; how each ended."""
    written, chance = Journal(journal), random.Random(stream)
    number = 0
    with zq.Peer(**options) as peer:
        ear = Ear(peer)
        while not ear.leaving:
            if ear.finishing or not ear.calm:
                number += 1 + (ear.finishing and asks_all(number + 1))
                data, timeout = stamped(stream, number, chance), FLUSH if ear.finishing else 1.0
                try:
                    if asks_all(number):
                        replies, how = list(peer.request_all("sum", data, timeout=timeout)), "asked all"
                    else:
                        replies, how = [peer.request("sum", data, timeout=timeout)], "replied"
                    for reply in replies:
                        assert genuine(reply.data) == [stream, number], f"request {number} got another one's reply"
                except zq.Error as error:
                    how = type(error).__name__
                written.add("ended", stream, number, how)
            if ear.finishing:
                ear.finished(how)
            ear.listen(chance.uniform(0.0, 0.1))


@role
def reply(options: dict[str, Any], stream: int, journal: str) -> None:
    written, chance = Journal(journal), random.Random(stream)
    with zq.Peer(**options) as peer:
        replier, ear = peer.replier("sum"), Ear(peer)
        while not ear.leaving:
            ear.listen()
            try:
                request = replier.receive(timeout=0.05)
            except zq.Timeout:
                if ear.finishing:
                    ear.finished()
                continue
            written.add("handed", *genuine(request.data))
            time.sleep(chance.choice((0.0, 0.002, 0.01)))
            request.reply(request.data)


if __name__ == "__main__":
    main()
