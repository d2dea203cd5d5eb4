"""Somebody who has the key sends bombs and lies: he is refused and counted, and what others say goes on."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

import zq
from tests.processes.conftest import Options
from tests.security.bombs import BOMBS
from tests.security.rogues import DEADLINE, Friends, lock_of
from tests.test_bad_frames import Stranger
from tests.waiting import eventually
from zq.core import meeting
from zq.engine import factory
from zq.security import offenders
from zq.security.porch import BURST, PACE, Porch
from zq.wire import frames
from zq.wire.batch import BatchHeader, Run, encode_batch, encode_topic, topic_prefix
from zq.wire.body import address, decode_addressed
from zq.wire.frames import Hello, Peers, Probe
from zq.wire.limits import SUBSCRIPTIONS

MEMORY = 100 << 20  # bytes that bombs may cost at the worst moment; the largest is 1 MiB, and some wait to be read
KINDS = [frames.HELLO, frames.ENTRY, frames.LEDGER]  # all kinds are unpacked alike; these go on to lists and maps
BOMB = BOMBS["a million empty maps"]


@contextmanager
def member_of(peer: zq.Peer) -> Iterator[Stranger]:
    """Somebody with the key who has met the peer, and pulls from `jobs`."""
    member = Stranger(peer, lock_of(peer))
    try:
        member.meet(pulls=[["jobs", bytes(16)]], topics=[["friends", 1]])
        yield member
    finally:
        member.close()


def bodies(member: Stranger, victim: zq.Peer) -> Iterator[bytes]:
    """Each bomb as the array of each kind of mailbox frame."""
    for kind in KINDS:
        for bomb in BOMBS.values():
            yield address(kind, victim.id, member.id) + bomb


def batches(member: Stranger, victim: zq.Peer) -> Iterator[tuple[bytes, bytes]]:
    """Each bomb as the messages of a topic and of a queue, of which there are said to be more and more."""
    for count in (1, 2, 1 << 20, (1 << 32) - 1):
        for bomb in BOMBS.values():
            run = Run(member.id, 1, count, time.time())
            header = BatchHeader(victim.id, member.id, secrets.token_bytes(16), 0, 1, 0, 1, count, 1, 0, 0)
            yield (
                encode_topic(topic_prefix("friends"), 0, run, 1, 0.0, [bomb]),
                encode_batch(header, [run], [bomb]),
            )


def many_names(member: Stranger) -> Iterator[object]:
    """As many as a mailbox frame holds."""
    names = [f"n/{number:06}" for number in range(20_000)]
    yield member.entry(2, topics=[[name, 1] for name in names])
    yield member.entry(3, filters=[[f"{name}/**", -1.0, number] for number, name in enumerate(names[:SUBSCRIPTIONS])])
    yield member.entry(4, pushes=[[name, 1 << 62, 1e308] for name in names])
    yield member.entry(5, pulls=[[name, secrets.token_bytes(16)] for name in names])
    yield frames.Seen([[name, 1 << 62, 1 << 62] for name in names])
    yield Peers([[secrets.token_bytes(16), ["tcp://127.0.0.1:1"]] for _ in names])


def hellos_of_nobody(victim: zq.Peer, member: Stranger, count: int) -> Iterator[bytes]:
    """Each is of another peer, with as many addresses as are dialled."""
    for number in range(count):
        rows = [[f"tcp://127.0.0.1:{20_000 + (number * 16 + at) % 12_000}"] * 3 for at in range(16)]
        hello = Hello(1, 1, member._card.tag, secrets.token_bytes(8), 0, "x", "x", 1, rows)
        yield hello.encode(victim.id, secrets.token_bytes(16))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def has_answered(member: Stranger) -> bool:
    """Whether the next frame in his mailbox is a welcome."""
    return decode_addressed(member.mailbox.recv()).kind == frames.WELCOME


def is_up(peer: zq.Peer, other: bytes) -> bool:
    return any(info.id == other and info.state == "up" for info in peer.peers())


Bombard = Callable[[Stranger, zq.Peer], None]


def bombard_mailbox(member: Stranger, victim: zq.Peer) -> None:
    for frame in bodies(member, victim):
        member.to_mailbox.send(frame)


def bombard_data(member: Stranger, victim: zq.Peer) -> None:
    for topic, batch in batches(member, victim):
        member.feed.send(topic)
        member.to_work.send(batch)
    member.tell(Probe(secrets.token_bytes(16), 0, 0, "jobs", bytes(16), 1, 1 << 62, 1 << 62, 1 << 62, 1 << 62))


def bombard_names(member: Stranger, victim: zq.Peer) -> None:
    for body in many_names(member):
        member.tell(body)


def bombard_hellos(member: Stranger, victim: zq.Peer) -> None:
    for frame in hellos_of_nobody(victim, member, 150):
        member.to_mailbox.send(frame)


@pytest.mark.parametrize("bombard", [bombard_mailbox, bombard_data, bombard_names, bombard_hellos])
def test_bombs_and_lies_of_a_member_are_not_noticed_by_others(
    keyed: Options, bombard: Bombard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offenders, "PARDONED", 1 << 40)  # so that all of them are read
    with Friends(keyed) as friends:
        victim, others = friends.sender, friends.receiver
        queue, everything = victim.pusher("jobs"), victim.subscriber("**")
        with member_of(victim) as member:
            queue.send(1)
            before, began = resident(), time.monotonic()
            bombard(member, victim)
            member.hello()
            eventually(lambda: member.mailbox.poll(0) and has_answered(member), DEADLINE)  # all before has been read
            assert resident() - before < MEMORY
        eventually(lambda: not is_up(victim, member.id), DEADLINE)
        everything.close()
        eventually(lambda: friends.sent > 100, DEADLINE)  # the bombs may have been read in less time than that takes
        friends.rest()
        engine = victim._engine
        assert engine is not None
        assert engine.failed is None
        assert victim.ledger().balanced
        eventually(lambda: is_up(victim, others.id))  # a machine that stalls makes it suspect for a moment
        assert next(info for info in victim.peers() if info.id == others.id).up_for > time.monotonic() - began
        assert len(friends.took) == friends.sent > 100
        with victim.puller("jobs").receive(timeout=DEADLINE) as message:
            assert message.data == 1


@pytest.mark.parametrize("door", ["mailbox", "work"])
def test_who_sends_a_bomb_is_cut_off_and_counted_and_waits(
    keyed: Options, door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fines: list[tuple[str, int]] = []

    def noted(porch: Porch, source: str, turns: int, now: float) -> None:
        fines.append((source, turns))
        fined(porch, source, turns, now)

    fined = Porch.fined
    monkeypatch.setattr(Porch, "fined", noted)
    with Friends(keyed) as friends, member_of(friends.sender) as member:
        victim = friends.sender
        to_it = member.to_mailbox if door == "mailbox" else member.to_work
        monitor = to_it.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        kind = frames.ENTRY if door == "mailbox" else frames.REFILLED
        to_it.send(address(kind, victim.id, member.id) + BOMB)
        assert monitor.poll(int(DEADLINE * 1_000))
        eventually(lambda: victim.ledger().turned_away.get("senseless frames") == 1)
        assert victim.ledger().refused_frames == 1
        [(fined_address, turns)] = fines
        assert fined_address == "127.0.0.1"
        assert (turns - BURST) * PACE > 1.0  # s that he waits, though he may have had a turn at once
        friends.rest()
        assert len(friends.took) == friends.sent
        eventually(lambda: is_up(victim, friends.receiver.id))


def test_who_sends_a_bomb_by_his_feed_is_gone_for_good(keyed: Options) -> None:
    with zq.Peer(**keyed) as victim, victim.subscriber("**"), member_of(victim) as member:
        while not (fence := member.feed.recv()).startswith(b"\1" + frames.FENCE):
            pass
        member.feed.send(fence[1:] + BOMB)
        eventually(lambda: not is_up(victim, member.id), DEADLINE)
        assert victim.ledger().turned_away == {"senseless frames": 1}
        assert victim.ledger().refused_frames == 1
        member.hello()
        member.hello()
        engine = victim._engine
        assert engine is not None
        assert engine.call(lambda: engine.node.meeting.roster.has_departed(member.id))


def test_who_names_peers_without_end_uses_up_neither_sockets_nor_descriptors(
    keyed: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "DIALS", 32)
    with zq.Peer(**keyed) as victim, member_of(victim) as member:
        dials = victim._engine.node.meeting._dials  # type: ignore[union-attr]
        most = 0
        for frame in hellos_of_nobody(victim, member, 200):
            member.to_mailbox.send(frame)
            most = max(most, len(dials))
        eventually(lambda: len(dials) > 20)
        assert max(most, len(dials)) <= 32 + 1
        assert is_up(victim, member.id)


def test_a_peer_that_has_no_sockets_left_goes_on(keyed: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "MAX_SOCKETS", 64)
    with Friends(keyed) as friends, member_of(friends.sender) as member:
        for frame in hellos_of_nobody(friends.sender, member, 50):
            member.to_mailbox.send(frame)
        engine = friends.sender._engine
        assert engine is not None
        eventually(lambda: engine._sockets is not None and engine._sockets._exhausted)
        friends.rest()
        assert engine.failed is None
        assert len(friends.took) == friends.sent
