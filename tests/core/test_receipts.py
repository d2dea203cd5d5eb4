"""When a puller tells its pushers: at once, or where its program has much to do yet, with the next whole frame."""

from __future__ import annotations

import pytest

from zq.core.inbox import Handing, Inbox
from zq.core.pulling import Pulling
from zq.core.receipts import LATE
from zq.core.receiving import Settled
from zq.core.timers import Timers
from zq.wire.batch import Batch, BatchHeader, Run
from zq.wire.body import Body
from zq.wire.frames import NACKED, Probe, State
from zq.wire.limits import BATCH_MESSAGES

PREFETCH = 8 * BATCH_MESSAGES  # a step is a whole frame
PEERS = [bytes([number]) * 16 for number in range(1, 5)]
MANY = 50_000  # messages that each pusher has


class World:
    """One puller and four pushers that send what they may."""

    def __init__(self, prefetch: int) -> None:
        self.now = 1.0
        self.timers = Timers()
        self.states: list[State] = []
        self.pulling = Pulling(self.timers, self._on_state, lambda peer: 0)
        self.puller = self.pulling.open(
            b"q" * 16, "jobs", Inbox(lambda: None), prefetch=prefetch, prefetch_bytes=1 << 20
        )
        self.sent = dict.fromkeys(PEERS, 0)
        self.limit = dict.fromkeys(PEERS, 0)

    def _on_state(self, peer: bytes, body: Body) -> None:
        assert isinstance(body, State)
        self.states.append(body)
        self.limit[peer] = max(self.limit[peer], body.limit)

    def probe(self, peer: bytes, wanted: int = MANY) -> None:
        self.pulling.on_probe(peer, Probe(peer, 0, 0, "jobs", b"q" * 16, 1, self.sent[peer], 0, wanted, 1, 5), self.now)

    def send(self, peer: bytes) -> list[int]:
        """All that it may, in frames; how many messages each has."""
        frames = []
        while (count := min(self.limit[peer] - self.sent[peer], BATCH_MESSAGES)) > 0:
            header = BatchHeader(b"", peer, peer, 0, 1, 0, self.sent[peer] + 1, count, 1, 0, MANY)
            run = Run(peer, self.sent[peer] + 1, count, 0.0)
            batch = Batch(sender=peer, first=self.sent[peer] + 1, count=count, runs=[run], body=bytes(count))
            self.sent[peer] += count
            assert self.pulling.on_batch(header, batch, self.now)
            frames.append(count)
        return frames

    def work(self) -> int:
        """The program takes a batch and acknowledges all of it; how many messages that was."""
        inbox = self.puller.inbox
        if not inbox.arrived:
            return 0
        batch = inbox.arrived.popleft()
        assert isinstance(batch, Batch)
        inbox.taken.append(batch)
        inbox.handing = Handing(batch, ())
        batch.link.acks.extend(range(batch.first, batch.first + batch.count))
        self.pulling.on_taken(self.puller, self.now)
        return batch.count

    def turn(self) -> None:
        for due in self.timers.due(self.now):
            due(self.now)
        self.pulling.report(self.now)


@pytest.fixture
def world() -> World:
    world = World(PREFETCH)
    for peer in PEERS:
        world.probe(peer)
    world.turn()
    return world


def test_busy_pushers_get_whole_frames_of_credit_in_turn(world: World) -> None:
    """And not each a few messages for every batch of any of them."""
    for peer in PEERS:
        world.send(peer)
    world.states.clear()
    frames: list[int] = []
    done = dict.fromkeys(PEERS, 0)
    for _ in range(64):
        world.now += 0.004
        assert world.work()
        world.turn()
        for peer in PEERS:
            frames += (sent := world.send(peer))
            done[peer] += sum(sent)
    assert set(frames) == {BATCH_MESSAGES}
    assert max(done.values()) - min(done.values()) <= BATCH_MESSAGES
    assert len(world.states) <= 2 * len(frames)


def test_no_state_waits_for_ever(world: World) -> None:
    """A program stops in the midst of much: what it has settled is told all the same."""
    for peer in PEERS:
        world.send(peer)
    world.turn()
    world.now += 2 * LATE  # whatever has waited so far
    world.turn()
    world.now += LATE
    world.turn()
    world.states.clear()
    link = world.puller.links[PEERS[0]]
    link.acks.append(1)
    world.pulling.on_taken(world.puller, world.now)
    world.turn()
    assert not world.states, "one of a thousand can wait"
    world.now += LATE
    world.turn()
    assert [row[:2] for row in world.states[0].settled] == [[1, 1]]


def test_who_waits_for_credit_gets_little_when_the_others_do_not_use_theirs() -> None:
    """Three pushers hang and have all but less than a step; the fourth goes on with that."""
    world = World(PREFETCH)
    for peer in PEERS[1:]:
        world.probe(peer, PREFETCH // 3 - BATCH_MESSAGES // 4)
        world.turn()
    alive = PEERS[0]
    world.probe(alive)
    world.turn()
    sent = []
    for _ in range(20):
        sent.append(sum(world.send(alive)))
        while world.work():
            pass
        world.now += LATE
        world.turn()
    assert max(sent) < BATCH_MESSAGES
    assert sum(map(bool, sent)) >= 9, "once in twice LATE"


def test_a_small_prefetch_is_granted_and_told_at_once() -> None:
    world = World(8)
    for peer in PEERS:
        world.probe(peer)
    world.turn()
    for peer in PEERS:
        world.send(peer)
    world.turn()
    world.states.clear()
    count = world.work()
    world.turn()
    assert count
    assert sum(world.limit.values()) == sum(world.sent.values()) + count
    assert world.states


def test_a_failure_is_told_at_once(world: World) -> None:
    for peer in PEERS:
        world.send(peer)
    world.turn()
    world.states.clear()
    batch = world.puller.inbox.arrived[0]
    assert isinstance(batch, Batch)
    batch.link.others.append(Settled(1, NACKED, 0.0, "no", batch, 0))
    world.pulling.on_taken(world.puller, world.now)
    world.turn()
    assert [[1, NACKED, 0.0, "no"]] in [state.refused for state in world.states]
