"""A peer that has met the others in good order, and then lies: it costs only what has to do with itself.

Everything is on the simulated network, where an exception in the victim fails the test. What one that has the realm's
key can do by claiming to be somebody else is another matter (SECURITY.md); here he does so only with frames that were
said before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.core.test_node import Reader, Realm, Worker
from zq.core.port import Kind
from zq.testing import Connection, Weather
from zq.wire import frames
from zq.wire.batch import BATCH, REDELIVERED, BatchHeader, Parts, Run, encode_batch, encode_topic, topic_prefix
from zq.wire.body import Body
from zq.wire.frames import (
    ACKED,
    NACKED,
    Ask,
    End,
    Entry,
    Goodbye,
    LedgerReply,
    Noted,
    Probe,
    Refilled,
    Repair,
    Seen,
    State,
)

HUGE = (1 << 62) - 1
LINK = b"l" * 16


class Scene:
    """A victim and an honest peer that push to, pull from, publish to and subscribe to each other; and a liar."""

    def __init__(self) -> None:
        self.realm = Realm(3, Weather(latency=0.002))
        self.victim, self.honest, self.liar = self.realm.peers
        self.recorded: list[tuple[Kind, Parts]] = []
        self._record()
        self.workers = [Worker(self.victim), Worker(self.honest, prefetch=1)]
        self.readers = [Reader(self.victim), Reader(self.honest)]
        self.sent = 0
        self.done: list[bytes] = []
        self.link = self._lying_link()

    def _record(self) -> None:
        """What the honest peer says to the victim."""
        carry = self.realm.network.carry_frame

        def record(connection: Connection, parts: Parts) -> None:
            if connection.dialler is self.honest and connection.acceptor is self.victim:
                self.recorded.append((connection.kind, parts))
            carry(connection, parts)

        self.realm.network.carry_frame = record  # type: ignore[method-assign]

    def _lying_link(self) -> Probe:
        """On which the liar may push to the victim: opened as it should be."""
        self.liar.node.pushing.on_state = lambda *_: None  # type: ignore[method-assign]  # it would end it
        self.liar.node.pulling.on_probe = lambda *_: None  # type: ignore[method-assign]  # and say that it is closed
        probe = Probe(LINK, 0, 0, "jobs", self.workers[0].core.id, 1, 0, 0, 4, 1)
        self.tell(probe)
        self.realm.run(0.1)
        return probe

    def tell(self, body: Body) -> None:
        self.liar.node.connections.send(self.victim.id, body)

    def work(self, *parts: bytes) -> None:
        assert self.liar.node.connections.send_work(self.victim.id, parts)

    def batch(self, first: int, count: int = 1, *, link: bytes = LINK, flags: int = 0, floor: int = 1) -> None:
        header = BatchHeader(self.victim.id, self.liar.id, link, 0, 1, flags, first, count, floor, 0, 0)
        self.work(encode_batch(header, [Run(self.liar.id, first, count, 0.0)], [b"!"] * count))

    def state(self, link: bytes, *, settled: Any = (), refused: Any = (), limit: int = 0, closed: bool = False) -> None:
        self.tell(State(link, 0, 1, list(settled), list(refused), limit, limit, 0, 0, closed, HUGE))

    def send(self) -> None:
        """Victim and honest peer send to both; nobody takes it yet."""
        for peer in (self.victim, self.honest):
            self.realm.push(peer)  # opens the queue, and its links
        self.realm.run(0.2)
        self.sent += 2  # so that both workers have some of both
        words = [b"%c" % (95 + self.sent), b"%c" % (96 + self.sent)]
        for peer in (self.victim, self.honest):
            self.realm.push(peer, *words)
            self.realm.publish(peer, *words)
        self.realm.run(0.1)

    def arrive(self) -> None:
        """Everything arrives, once and in order."""
        assert self.realm.run(60.0, self._is_done), (self.done, [reader.seen for reader in self.readers])

    def _is_done(self) -> bool:
        for worker in self.workers:
            for item, attempt in worker.take():
                if item != b"!":  # the liar's own
                    assert attempt == 1, f"{item!r} is charged"
                    self.done.append(item)
            worker.ack()
        words = [b"%c" % (97 + number) for number in range(self.sent)]
        for reader in self.readers:
            seen = [item for item in reader.look() if item in words]
            if sorted(seen) != sorted(2 * words):
                return False
        return sorted(self.done) == sorted(2 * words) and self.realm.acked(self.victim) == self.sent

    def check(self) -> None:
        self.arrive()
        for peer in (self.victim, self.honest):
            ledger = peer.node.ledger(peer.clock())
            assert ledger.balanced
            assert self.realm.run(5.0, lambda: self.realm.acked(peer) == self.sent)  # noqa: B023
        assert [event for event in self.realm.events if event[1] != "changed" and event[1] != "joined"] == []

    def acked(self) -> list[int]:
        return [self.realm.acked(peer) for peer in (self.victim, self.honest)]

    def links_of_others(self) -> Iterator[bytes]:
        yield from (link.id for link in self.victim.node.pushing.pullers("jobs"))
        yield from (link.id for link in self.honest.node.pushing.pullers("jobs"))


LIES: dict[str, Callable[[Scene], None]] = {}


def lie(tell: Callable[[Scene], None]) -> Callable[[Scene], None]:
    LIES[tell.__name__] = tell
    return tell


@lie
def numbers_that_jump(scene: Scene) -> None:
    for first in (3, 2, 4, 4, 1 << 40, HUGE):
        scene.batch(first)
    scene.batch(1, 4, floor=HUGE)
    scene.batch(2, 3, flags=REDELIVERED)


@lie
def batches_beyond_the_credit(scene: Scene) -> None:
    for _ in range(20):
        scene.batch(1, 512)
    assert scene.realm.run(1.0, lambda: scene.victim.node.reading.refused >= 20)


@lie
def receipts_for_links_of_others(scene: Scene) -> None:
    for link in scene.links_of_others():
        scene.state(link, settled=[[1, HUGE, ACKED]])
        scene.state(link, refused=[[number, NACKED, 0.0, ""] for number in range(1, 20)])
        scene.state(link, closed=True)


@lie
def ends_and_probes_of_links_of_others(scene: Scene) -> None:
    for link in scene.links_of_others():
        scene.tell(Probe(link, 0, HUGE, "jobs", scene.workers[0].core.id, HUGE, HUGE, HUGE, HUGE, HUGE))
        scene.tell(End(link))
        scene.batch(1, 3, link=link)


@lie
def demand_and_floor_without_measure(scene: Scene) -> None:
    for sent, returned in ((HUGE, 0), (0, HUGE), (HUGE, HUGE)):
        scene.tell(Probe(LINK, 0, 0, "jobs", scene.workers[0].core.id, HUGE, sent, returned, 65_536, HUGE))


@lie
def a_link_that_goes_on_after_its_end(scene: Scene) -> None:
    scene.batch(1)
    scene.tell(End(LINK))
    scene.batch(2)
    scene.state(LINK, closed=True)
    scene.tell(End(LINK))
    scene.state(LINK, settled=[[1, HUGE, ACKED]], limit=HUGE)


@lie
def a_link_to_a_puller_that_is_none(scene: Scene) -> None:
    for puller in (bytes(16), scene.workers[1].core.id):
        scene.tell(Probe(b"m" * 16, 0, 0, "jobs", puller, 1, 0, 0, 9, 1))
        scene.batch(1, link=b"m" * 16)
    scene.tell(Probe(b"n" * 16, 0, 0, "mail", scene.workers[0].core.id, 1, 0, 0, 9, 1))


@lie
def entries_that_cannot_be(scene: Scene) -> None:
    for version, rows in (
        (HUGE - 1, [["**", -1.0, 1]] * 500),
        (HUGE, [["a", float("nan"), 1], ["a", float("inf"), 2], ["a", -99.0, 2]]),
    ):
        scene.tell(Entry(version, bytes(8), rows, [["a", HUGE]] * 9, [["jobs", HUGE, float("nan")]], []))
    scene.tell(Noted(HUGE))


@lie
def reports_of_what_was_never_published(scene: Scene) -> None:
    scene.tell(Seen([["a", HUGE, HUGE], ["a", 0, HUGE], ["nothing", 1, 1]]))


@lie
def repairs_without_end(scene: Scene) -> None:
    for request in range(200):
        scene.tell(Repair(request, "a", 0, HUGE, -1e308))
        scene.tell(Refilled(request, "a", 1, HUGE, HUGE))


@lie
def a_topic_that_jumps(scene: Scene) -> None:
    prefix = topic_prefix("a")
    for number in (1, 7, HUGE - 1, 3):
        scene.liar.publish((encode_topic(prefix, 0, Run(scene.liar.id, 1, 1, 0.0), number, 0.0, [b"!"]),))
    scene.liar.publish((encode_topic(prefix, 1, Run(scene.liar.id, 0, 0, 0.0), HUGE, 0.0, []),))


@lie
def messages_of_somebody_elses_topic(scene: Scene) -> None:
    prefix = topic_prefix("a")
    for number in (1, scene.sent + 1, scene.sent + 2, HUGE):
        scene.liar.publish((encode_topic(prefix, 0, Run(scene.honest.id, 1, 1, 0.0), number, 0.0, [b"?"]),))


@lie
def a_ledger_that_nobody_asked_for(scene: Scene) -> None:
    for request, page, pages in [(0, 0, 1), (1, 0, 1), (1, 0, HUGE), (1, HUGE, HUGE), (HUGE, 1, 0)]:
        scene.tell(LedgerReply(request, {"peer": b"", "held": HUGE}, page, pages, HUGE))


@lie
def pages_of_ledgers_that_there_are_not(scene: Scene) -> None:
    """Asked for in numbers, of questions old and new: each is answered with the first page."""
    for request, page in [(1, HUGE), (HUGE, 1), (2, 0), (1, 1), (2, HUGE)]:
        scene.tell(Ask(request, page))


@lie
def frames_of_others_that_are_played_again(scene: Scene) -> None:
    """All that the honest peer has said to the victim, in order and the other way round, by another's connection."""
    assert {bytes(parts[0][:1]) for _, parts in scene.recorded} >= {BATCH, frames.STATE, frames.PROBE, frames.ENTRY}
    recorded = list(scene.recorded)
    for kind, parts in [*recorded, *reversed(recorded)]:
        remote = scene.liar.node.meeting.roster.get(scene.victim.id)
        assert remote is not None
        if kind is Kind.WORK:
            scene.liar.node.connections.send_work(scene.victim.id, parts)
        else:
            assert remote.mailbox is not None
            scene.liar.send(remote.mailbox.connection, parts)


@pytest.mark.parametrize("name", LIES)
def test_a_lie_costs_only_the_liar(name: str) -> None:
    scene = Scene()
    for _ in range(3):
        scene.send()
        acked = scene.acked()
        LIES[name](scene)
        scene.realm.run(0.5)
        assert scene.acked() == acked, "what nobody has taken is done"
        scene.check()


def test_all_lies_together_cost_only_the_liar() -> None:
    scene = Scene()
    for _ in range(3):
        scene.send()
        for name in LIES.keys() - {"batches_beyond_the_credit"}:
            LIES[name](scene)
            scene.realm.run(0.01)
        scene.check()


@pytest.mark.parametrize("limit", [HUGE, (1 << 63) - 1])
def test_credit_without_measure_loses_nothing(limit: int) -> None:
    """A puller that takes everything and does nothing is a hung worker; what it was given goes to others with it."""
    scene = Scene()
    scene.tell(Entry(HUGE, bytes(8), [], [], [], [["jobs", b"x" * 16]]))
    scene.realm.run(0.2)
    scene.realm.push(scene.victim, b"1")
    scene.realm.run(0.2)
    lying = next(link for link in scene.victim.node.pushing.pullers("jobs") if link.puller == b"x" * 16)
    scene.state(lying.id, limit=limit)
    scene.realm.push(scene.victim, *[b"%d" % number for number in range(2, 10)])
    taken: list[bytes] = []
    scene.realm.run(1.0)
    scene.realm.network.kill(scene.liar)

    def all_done() -> bool:
        for worker in scene.workers:
            taken.extend(item for item, _ in worker.take())
            worker.ack()
        return scene.realm.acked(scene.victim) == 9

    assert scene.realm.run(10.0, all_done)
    assert sorted(taken) == [b"%d" % number for number in range(1, 10)]


def test_a_goodbye_with_impossible_heads_is_a_gap_of_the_liars_own_topics() -> None:
    scene = Scene()
    scene.send()
    scene.tell(Goodbye([["a", HUGE], ["b", HUGE]]))
    scene.realm.run(1.0)
    scene.arrive()
    gaps = [item for item in scene.readers[0].seen if not isinstance(item, bytes)]
    assert {gap.publisher for gap in gaps} <= {scene.liar.id}
    assert scene.victim.node.ledger(scene.victim.clock()).balanced
