"""Work timeouts: what is held for too long goes back, what lies behind a program that hangs too, and nothing else."""

from __future__ import annotations

import pytest

from zq.core.inbox import Handing, Inbox
from zq.core.puller import Puller
from zq.core.pulling import Pulling
from zq.core.receiving import Settled
from zq.core.timers import Timers
from zq.wire.batch import Batch, BatchHeader, Run
from zq.wire.body import Body
from zq.wire.frames import NACKED, RETURNED, Probe, State

PEER, LINK = b"p" * 16, b"l" * 16
TIMEOUT = 4.0


class Worker:
    """A puller with a work timeout whose pusher has sent it messages; its program takes them one by one."""

    def __init__(self, work_timeout: float | None = TIMEOUT, prefetch: int = 8) -> None:
        self.timers, self.states, self.log = Timers(), list[State](), list[str]()
        self.pulling = Pulling(self.timers, self._send, lambda peer: 0, self.log.append)
        self.inbox = Inbox(self._woken)
        self.woken = 0
        self.now = 0.0
        self.puller: Puller = self.pulling.open(
            b"q" * 16, "jobs", self.inbox, prefetch=prefetch, prefetch_bytes=10_000, work_timeout=work_timeout
        )
        self._sent = 0
        self._probe()

    def _send(self, peer: bytes, body: Body) -> None:
        assert isinstance(body, State)
        self.states.append(body)

    def _woken(self) -> None:
        self.woken += 1

    def _probe(self) -> None:
        probe = Probe(LINK, 0, 0, "jobs", self.puller.id, 1, self._sent, 0, 5_000, 1, 5)
        self.pulling.on_probe(PEER, probe, self.now)
        self.pulling.report(self.now)

    @property
    def link(self) -> object:
        return self.puller.links[LINK]

    def arrive(self, count: int) -> None:
        header = BatchHeader(b"", PEER, LINK, 0, 1, 0, self._sent + 1, count, 1, 0, 100)
        batch = Batch(
            sender=PEER, first=self._sent + 1, count=count, runs=[Run(PEER, 1, count, 0.0)], body=bytes(count)
        )
        self._sent += count
        assert self.pulling.on_batch(header, batch, self.now)

    def take(self) -> Settled:
        """One message into the program's hands, as something that can be settled with."""
        if not self.inbox.handing.ready:
            self.inbox.taken.append(self.inbox.arrived.popleft())
            batch = self.inbox.taken[-1]
            assert isinstance(batch, Batch)
            self.inbox.handing = Handing(batch, range(batch.skip, batch.stop))
        place = self.inbox.handing.ready.popleft()
        batch = self.inbox.handing.batch
        assert isinstance(batch, Batch)
        return Settled(batch.first + place, NACKED, 0.0, "late", batch, place)

    def ack(self, item: Settled) -> None:
        item.batch.link.acks.append(item.number)
        self.pulling.on_taken(self.puller, self.now)

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (when := self.timers.next()) is not None and when <= end:
            self.now = when
            for due in self.timers.due(when):
                due(when)
            self.pulling.report(self.now)
        self.now = end

    def told(self) -> tuple[dict[int, int], set[int]]:
        """Numbers refused with their outcome, and numbers given back, by the newest state."""
        self.pulling.report(self.now)
        state = self.states[-1]
        given_back = {
            number for low, high, outcome in state.settled if outcome == RETURNED for number in range(low, high + 1)
        }
        return {number: outcome for number, outcome, *_ in state.refused}, given_back


def test_what_is_held_for_too_long_goes_back_as_a_failure() -> None:
    worker = Worker()
    worker.arrive(1)
    worker.take()
    worker.wait(TIMEOUT - 0.1)
    assert worker.told() == ({}, set())
    worker.wait(TIMEOUT / 4 + 0.1)
    assert worker.told() == ({1: NACKED}, set())
    assert "work_timeout of 4 s" in worker.states[-1].refused[0][3]
    row = worker.puller.row()
    assert (row.nacked, row.handed_out, row.balanced) == (1, 0, True)


def test_a_late_word_changes_nothing_and_is_logged() -> None:
    worker = Worker()
    worker.arrive(1)
    item = worker.take()
    worker.wait(2 * TIMEOUT)
    worker.log.clear()
    worker.ack(item)
    assert worker.told() == ({1: NACKED}, set())
    assert worker.puller.row().acked == 0
    assert worker.log == ["1 of jobs settled too late: somebody else has them"]


def test_each_message_has_its_own_time() -> None:
    worker = Worker()
    worker.arrive(3)
    for _ in range(3):
        item = worker.take()
        worker.wait(0.75 * TIMEOUT)
        worker.ack(item)
    worker.wait(3 * TIMEOUT)
    assert worker.told() == ({}, set())
    assert worker.log == []


def test_what_lies_behind_a_program_that_hangs_goes_back_without_an_attempt() -> None:
    worker = Worker()
    worker.arrive(3)
    worker.take()
    worker.wait(1.25 * TIMEOUT)
    assert worker.told() == ({1: NACKED}, {2, 3})
    assert worker.puller.row().balanced
    assert worker.puller.hung


def test_a_program_that_hangs_gets_nothing_more_until_it_asks() -> None:
    worker = Worker(prefetch=4)
    worker.arrive(4)
    worker.take()
    worker.wait(1.25 * TIMEOUT)
    limit = worker.states[-1].limit
    worker._probe()
    assert worker.states[-1].limit == limit
    assert worker.inbox.stalled
    assert worker.woken > 1, "who waits there says so"
    worker.inbox.stalled = False
    worker.pulling.on_taken(worker.puller, worker.now)
    worker.pulling.report(0.0)
    assert worker.states[-1].limit == limit + 4


def test_what_comes_for_a_program_that_hangs_goes_back_as_well() -> None:
    worker = Worker(prefetch=4)
    worker.arrive(1)
    worker.take()
    worker.wait(1.25 * TIMEOUT)
    worker.arrive(2)  # under way before anybody knew
    worker.wait(1.5 * TIMEOUT)
    assert worker.told()[1] == {2, 3}


def test_without_a_work_timeout_a_job_may_take_as_long_as_it_likes() -> None:
    worker = Worker(None)
    worker.arrive(2)
    worker.take()
    worker.wait(100_000.0)
    assert worker.told() == ({}, set())


def test_nothing_is_looked_at_when_everything_is_settled() -> None:
    worker = Worker()
    worker.arrive(1)
    worker.ack(worker.take())
    worker.wait(2 * TIMEOUT)
    assert worker.timers.next() is None


@pytest.mark.parametrize("count", [1, 300])
def test_no_more_batches_are_remembered_than_are_unsettled(count: int) -> None:
    worker = Worker(prefetch=5_000)
    for _ in range(count):
        worker.arrive(1)
        worker.ack(worker.take())
    assert worker.puller.overdue is not None
    assert sum(len(loans.batches) for loans in worker.puller.overdue._loans.values()) <= 64
