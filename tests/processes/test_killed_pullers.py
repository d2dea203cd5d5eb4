"""A puller that is killed under load: everything is processed, by somebody else, and nobody is charged in error."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import zq
from tests.processes.conftest import Options, Start
from tests.processes.journal import read
from tests.processes.process import Process
from tests.processes.watching import Watcher, wait_until

MESSAGES = 3_000
SLOWLY = 0.02  # s a message, of whoever is to have some left whenever he is killed
SOON = 10.0  # s that nothing takes, not on a machine that stalls either, but what has waited for silence


@pytest.mark.usefixtures("steadfast")
def test_a_puller_killed_under_load_loses_nothing_and_holds_nobody_up(
    start: Start, options: Options, tmp_path: Path
) -> None:
    journals = [tmp_path / "victim", tmp_path / "heir"]
    workers: list[Process] = [
        start("work", options, "jobs", str(journals[0]), 0.0005, 200, SLOWLY),
        start("work", options, "jobs", str(journals[1]), 0.0005, MESSAGES),
    ]
    with zq.Peer(**options) as peer:
        for worker in workers:
            worker.hear()
        pusher = peer.pusher("jobs")
        pusher.wait_for_pullers(2)
        pusher.send_many([number, "x" * 100] for number in range(MESSAGES))
        assert workers[0].hear() == "reported"
        workers[0].kill()
        killed = time.monotonic()
        pusher.flush(until="processed")
        (held,) = peer.ledger().held
    assert (held.taken, held.acked, held.waiting, held.in_flight) == (MESSAGES, MESSAGES, 0, 0)

    victim, heir = map(read, journals)
    done = {number for _, what, number, *_ in victim + heir if what == "done"}
    assert done == set(range(MESSAGES))  # processed by somebody, says somebody who asked neither side
    assert held.redelivered > 0

    # Who had it before says so, and what nobody had comes in order.
    begun = {number for _, what, number, *_ in victim if what == "began"}
    later = [(at, number, attempt, again) for at, what, number, attempt, again in
             (row for row in heir if row[1] == "began")]  # fmt: skip
    assert all(again for _, number, _, again in later if number in begun)
    firsts = [number for _, number, _, again in later if not again]
    assert firsts == sorted(set(firsts))

    # An attempt is charged to what the program may have had in hand, and to the lowest number that had arrived there.
    # Nobody pays if the victim had no time to say that anything had arrived; see the test below of one that had.
    charged = {number for _, number, attempt, _ in later if attempt > 1}
    assert all(attempt <= 2 for _, _, attempt, _ in later)
    assert len(charged - begun) <= 1
    assert not (charged - begun) or min(charged - begun) > max(begun)

    # The queue goes on: nobody waits for silence, neither for the next message nor for what the victim had.
    times = [at for at, *_ in later if at >= killed]
    assert max(second - first for first, second in zip([killed, *times], times, strict=False)) < SOON
    assert min(at for at, _, _, again in later if again) - killed < SOON


def test_only_the_message_in_hand_is_charged(start: Start, options: Options) -> None:
    with zq.Peer(**options) as peer:
        watcher = Watcher(peer)
        victim = start("hold", options, "jobs", 1)
        id, _ = victim.hear()
        pusher = peer.pusher("jobs")
        pusher.wait_for_pullers()
        for number in range(20):
            pusher.send(number)
        assert victim.hear() == [0]
        wait_until(
            peer, lambda node: all(link.handed == 1 and link.expected == 21 for link in node.pushing.pullers("jobs"))
        )
        victim.kill()
        watcher.wait_for("left", id)
        puller = peer.puller("jobs")
        came = {}
        for _ in range(20):
            with puller.receive(timeout=5.0) as message:
                came[message.data] = (message.attempt, message.redelivered)
        pusher.flush(until="processed")
        assert came == {0: (2, True)} | dict.fromkeys(range(1, 20), (1, True))
        assert peer.ledger().balanced
