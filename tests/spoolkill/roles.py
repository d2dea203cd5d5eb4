"""What the players of the campaign do: python -m tests.spoolkill.roles ROLE '[ARGUMENTS]'; see `campaign`.

Each does its part until it is killed, or told to be calm, and writes down what it was confirmed or has done, in a
journal that outlives it. Told "finish" it says when it holds nothing any more.
"""

from __future__ import annotations

import queue
import random
from pathlib import Path
from typing import Any

import zq
from tests.nemesis.roles import genuine, stamped
from tests.processes import roles
from tests.processes.journal import Journal
from tests.processes.roles import main, role, say

PACE = (0.0, 0.03)  # s between pieces of a producer's work: as much as the pullers can take
FLUSH = 60.0  # s that the last flush may take
STILL = 1.0  # s without a message after which a consumer says that it has them all


class Ear:
    """What the player is told, looked at between two pieces of its work."""

    def __init__(self) -> None:
        self.calm = self.finishing = False
        say("ready")

    def listen(self, seconds: float = 0.0) -> bool:
        """Waits for a word for so long at most; False when it is told to leave."""
        try:
            word = roles._told.get(timeout=seconds) if seconds else roles._told.get_nowait()
        except queue.Empty:
            return True
        self.calm |= word == "calm"
        self.finishing |= word == "finish"
        return word is not None

    def finished(self, what: Any = True) -> None:
        self.finishing = False
        say({"finished": what})


@role
def produce(stream: int, journal: str, outbox: str) -> None:
    """With an outbox: what `send` has returned for is confirmed."""
    written, chance, number = Journal(journal), random.Random(stream), 0
    with zq.Peer(f"producer-{stream}") as peer:
        pusher, ear = peer.pusher("jobs", outbox=outbox), Ear()
        while ear.listen(chance.uniform(*PACE)):
            if not ear.calm:
                count = chance.choice((1, 1, 1, 20, 100))
                batch = [stamped(stream, number + place, chance) for place in range(1, count + 1)]
                if count == 1:
                    pusher.send(batch[0])
                else:
                    pusher.send_many(batch)
                number += count
                written.add("confirmed", number)
            if ear.finishing:
                (row,) = (row for row in peer.ledger().held if row.queue == "jobs")
                assert row.balanced, row
                if not (row.waiting or row.in_flight):
                    ear.finished(number)


@role
def push(stream: int, journal: str) -> None:
    """Without one: what `flush` has returned for is confirmed."""
    written, chance, number = Journal(journal), random.Random(stream), 0
    with zq.Peer(f"pusher-{stream}") as peer:
        pusher, ear = peer.pusher("jobs"), Ear()
        while ear.listen(chance.uniform(*PACE)):
            if not ear.calm:
                for _ in range(chance.choice((1, 1, 20, 100))):
                    number += 1
                    pusher.send(stamped(stream, number, chance))
            try:
                pusher.flush(timeout=FLUSH if ear.finishing else 0.2)
                written.add("confirmed", number)
            except zq.Undelivered:
                assert not ear.finishing, "nobody has confirmed what was pushed last"
            if ear.finishing:
                ear.finished(number)


@role
def keep(stream: int, journal: str, directory: str) -> None:
    """A spool."""
    with zq.Peer(f"spool-{stream}") as peer, peer.spool(Path(directory), queues=["jobs"]) as spool:
        ear = Ear()
        while ear.listen(0.05):
            if ear.finishing and spool.queues()[0].depth == 0:
                ear.finished()


@role
def consume(stream: int, journal: str) -> None:
    written, chance = Journal(journal), random.Random(stream)
    with zq.Peer(f"consumer-{stream}") as peer:
        puller, ear = peer.puller("jobs", prefetch=chance.choice((None, 8, 64))), Ear()
        while ear.listen():
            try:
                messages = puller.receive_many(64, timeout=STILL if ear.finishing else 0.05)
            except zq.Timeout:
                if ear.finishing:
                    ear.finished()
                continue
            for message in messages:
                written.add("came", *genuine(message.data), message.redelivered)
                message.ack()


if __name__ == "__main__":
    main()
