"""Requests to processes that are killed, stand still, or lose their connections: each ends, and none is done twice."""

from __future__ import annotations

import itertools
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import zq
from tests.processes.conftest import Options, Start
from tests.processes.journal import read
from tests.processes.resets import KINDS, needs_resets, port_of, reset
from tests.processes.watching import endpoints
from tests.waiting import PATIENCE, eventually

NOTICED = 2.0  # s; a killed process is noticed in milliseconds, on a machine that is not busy
GONE = 8.0  # s; the promise is 5, and the machine may stall for some
STUCK = 7
RESETS, PART = 6, 30  # resets, requests under way at each


def begun(*journals: Path) -> Counter[int]:
    return Counter(row[2] for journal in journals for row in read(journal) if row[1] == "began")


def test_a_killed_replier_is_heard_of_at_once_by_all_whom_it_kept_waiting(
    start: Start, options: Options, tmp_path: Path
) -> None:
    replier = start("answer", options, "sum", str(tmp_path / "journal"), STUCK)
    replier.hear()
    with zq.Peer(**options) as peer, ThreadPoolExecutor(max_workers=8) as threads:
        peer.wait_for_repliers("sum", timeout=PATIENCE)
        calls = [threads.submit(peer.request, "sum", [STUCK + index], timeout=None) for index in range(8)]
        assert replier.hear() == "stuck"
        eventually(lambda: (row := peer.ledger().requested[0]).asked == len(calls) and not row.waiting)
        killed = time.monotonic()
        replier.kill()
        outcomes = Counter(type(call.exception(PATIENCE)) for call in calls)
        assert time.monotonic() - killed < NOTICED
        with pytest.raises(zq.NoPeer):
            peer.request("sum", [0], timeout=PATIENCE)
        assert set(outcomes) <= {type(None), zq.PeerLost}
        assert outcomes[zq.PeerLost] >= 1
        assert max(begun(tmp_path / "journal").values()) == 1


def test_a_replier_that_stands_still_is_lost_in_time_and_another_one_goes_on(
    start: Start, tcp: Options, tmp_path: Path
) -> None:
    journals = [tmp_path / "sleeper", tmp_path / "heir"]
    sleeper, heir = (start("answer", tcp, "sum", str(journal), -1) for journal in journals)
    sleeper.hear()
    heir.hear()
    with zq.Peer(**tcp) as peer:
        peer.wait_for_repliers("sum", 2, timeout=PATIENCE)
        sleeper.send_signal(signal.SIGSTOP)
        try:
            stopped = time.monotonic()
            outcomes = []
            for number in range(2):
                try:
                    outcomes.append(peer.request("sum", [number], timeout=None).data)
                except zq.PeerLost as error:
                    outcomes.append(error)
            assert time.monotonic() - stopped < GONE
            assert [isinstance(outcome, zq.PeerLost) for outcome in outcomes].count(True) == 1
            for number in range(10, 20):
                assert peer.request("sum", [number], timeout=PATIENCE).data == [number]
        finally:
            sleeper.send_signal(signal.SIGCONT)
        peer.wait_for_repliers("sum", 2, timeout=PATIENCE)
        for number in range(20, 30):
            assert peer.request("sum", [number], timeout=PATIENCE).data == [number]
        assert peer.ledger().balanced
    assert max(begun(*journals).values()) == 1


@pytest.mark.root
@pytest.mark.skipif(needs_resets[1].args[0], reason="needs ss of iproute2")
@pytest.mark.parametrize(("kind", "size"), [("mailbox", 10), ("mailbox", 100_000), ("work", 100_000)])
def test_connections_that_are_reset_let_no_request_hang_and_none_run_twice(
    kind: str, size: int, start: Start, tcp: Options, tmp_path: Path
) -> None:
    replier = start("answer", tcp, "sum", str(tmp_path / "journal"), -1)
    _, theirs = replier.hear()
    column = KINDS.index(kind)
    with zq.Peer(**tcp) as peer, ThreadPoolExecutor(max_workers=5) as threads:
        peer.wait_for_repliers("sum", timeout=PATIENCE)
        peer.request("sum", [-2, "x" * size], timeout=PATIENCE)
        ports = [port_of(place[column]) for place in (endpoints(peer), theirs)]
        numbers = itertools.count()

        def ask(_: int) -> str:
            number = next(numbers)
            try:
                reply = peer.request("sum", [number, "x" * size], timeout=None)
            except zq.PeerLost:
                return "lost"
            assert reply.data == [number, "x" * size]
            return "replied"

        outcomes: Counter[str] = Counter()
        resets = 0
        for _ in range(RESETS):
            calls = [threads.submit(ask, index) for index in range(PART)]
            resets += eventually(lambda: reset(*ports))  # the connection may just be being made anew
            outcomes += Counter(call.result(PATIENCE) for call in calls)
        assert resets >= RESETS
        assert outcomes.total() == RESETS * PART
        row = peer.ledger().requested[0]
        assert (row.asked, row.replied, row.lost) == (outcomes.total() + 1, outcomes["replied"] + 1, outcomes["lost"])
    assert max(begun(tmp_path / "journal").values()) == 1
