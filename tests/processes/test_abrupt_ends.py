"""Processes that end without closing their peer: others see it at once, take over, and clear up."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from statistics import median

import pytest

import zq
from tests.processes.conftest import Options, Start
from tests.processes.process import Process
from tests.processes.watching import Watcher, wait_until

PARTS = ("publisher", "subscriber", "pusher", "puller")
SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM}
STATUS = {"os._exit": 3, "sys.exit": 3, "an exception": 1, "SIGKILL": -9, "SIGTERM": -15}
SUDDEN = ("os._exit", "SIGKILL", "SIGTERM")  # no line of Python runs any more
AT_ONCE = 0.5  # s until everybody knows that a process is gone; the median of four, as the machine may stall


def end(process: Process, way: str) -> float:
    """Ends it that way; returns when it had ended."""
    if way in SIGNALS:
        process.send_signal(SIGNALS[way])
    else:
        process.tell()
    status = process.wait()
    ended = time.monotonic()
    assert status == STATUS[way], process.errors()
    return ended


@pytest.mark.usefixtures("steadfast")
@pytest.mark.parametrize("way", STATUS)
def test_an_end_without_closing_is_seen_at_once(way: str, start: Start, options: Options, host_directory: Path) -> None:
    gaps: list[zq.Gap] = []
    with zq.Peer(**options) as peer:
        watcher = Watcher(peer)
        news, orders = peer.subscriber("news", on_gap=gaps.append), peer.publisher("orders")
        jobs, chores = peer.puller("jobs", prefetch=10), peer.pusher("chores")
        for number in range(10):
            chores.send(number)
        parties = {part: start("party", options, part, way) for part in PARTS}
        ids = {part: process.hear() for part, process in parties.items()}
        orders.wait_for_subscribers()
        assert [news.receive(timeout=5.0).data for _ in range(10)] == list(range(10))
        taken = [jobs.receive(timeout=5.0) for _ in range(10)]
        wait_until(peer, lambda node: all(link.handed == 10 for link in node.pushing.pullers("chores")))

        took = []
        for part, process in parties.items():
            ended = end(process, way)
            left = watcher.wait_for("left", ids[part])
            took.append(left.at - ended)
            kinds = watcher.of(ids[part])
            assert kinds[0] == "joined"
            assert kinds[-1] == "left"
            assert {"joined", "left"}.isdisjoint(kinds[1:-1])
        assert median(took) < AT_ONCE
        assert peer.peers() == []

        # A publisher that was killed may have sent more; one that could say goodbye has not.
        with pytest.raises(zq.Timeout):
            news.receive(timeout=0)
        vanished = zq.Gap(publisher=bytes.fromhex(ids["publisher"]), topic="news", first=11, last=None)
        assert gaps == ([vanished] if way in SUDDEN else [])
        # Publishing goes on without the subscriber.
        orders.send("anybody?")
        orders.flush(timeout=5.0)
        # What came from the pusher is worth doing although nobody waits for the receipts.
        assert [message.data for message in taken] == list(range(10))
        for message in taken:
            message.ack()
        # The puller's work goes to another, and only a crash costs it an attempt.
        heir = peer.puller("chores")
        inherited = [heir.receive(timeout=5.0) for _ in range(1 if way in SUDDEN else 10)]
        if way in SUDDEN:
            inherited[0].ack()  # what was charged comes alone
            for _ in range(9):
                inherited.append(heir.receive(timeout=5.0))
                inherited[-1].ack()
        else:
            for message in inherited:
                message.ack()
        assert sorted(message.data for message in inherited) == list(range(10))
        assert all(message.redelivered for message in inherited)
        assert {message.attempt for message in inherited} == ({2} if way in SUDDEN else {1})
        chores.flush(until="processed")
        assert peer.ledger().balanced

        # Whoever looks into the directory next clears up; here that is a newcomer, who sees nobody but us.
        with zq.Peer(**options) as newcomer:
            newcomer.settle()
            assert [other.id for other in newcomer.peers()] == [peer.id]
            ours = {peer.id.hex()[:16], newcomer.id.hex()[:16]}
            assert {path.stem for path in host_directory.iterdir()} == ours


def test_a_forgotten_close_says_what_nobody_has_confirmed(start: Start, local: Options) -> None:
    forgetful = start("party", local, "pusher", "sys.exit")
    forgetful.hear()
    forgetful.tell()
    assert forgetful.wait() == 3
    assert "10 messages not confirmed" in forgetful.errors()
