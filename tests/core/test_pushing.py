"""The pushing side: who is charged when a puller is lost, and that one unreachable puller does not stop the others."""

from __future__ import annotations

from typing import Any

import pytest

from zq.core.dead import NEVER
from zq.core.probing import PROBE_AFTER, PROBE_MOST
from zq.core.pushing import Pushing
from zq.core.timers import Timers
from zq.core.topics import Origin
from zq.wire.batch import ATTEMPT_MOST, Batch, BatchHeader, Parts, decode_batch
from zq.wire.frames import ACKED, NACKED, REJECTED, RETURNED, Entry, Probe, State

ME = b"m" * 16
QUEUE = "jobs"


class Pullers:
    """What a pusher sees of its pullers: one a peer, with the states that they send."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.probes: list[tuple[bytes, Any]] = []
        self.batches: list[tuple[bytes, BatchHeader, Batch]] = []
        self.unreachable: set[bytes] = set()
        self.pushing = Pushing(
            Origin(ME),
            self.timers,
            self._draw,
            lambda peer, body: self.probes.append((peer, body)),
            self._send_work,
            lambda peer: 1,
            lambda peer: 0,
        )
        self.pushing.may_send = True
        self._drawn = 0
        self.outbox = self.pushing.open(QUEUE, window=100, window_bytes=1 << 20, now=0.0)

    def _draw(self, count: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(count, "big")

    def _send_work(self, peer: bytes, parts: Parts) -> bool:
        if peer in self.unreachable:
            return False
        header, batch = decode_batch(parts)
        self.batches.append((peer, header, batch))
        return True

    def arrive(self, name: str, queue: str = QUEUE) -> bytes:
        peer = name.encode().ljust(16)
        entry = Entry(1, bytes(8), [], [], [], [[queue, peer]])
        self.pushing.on_entry(peer, entry, 0.0)
        return peer

    def state(self, peer: bytes, now: float = 0.0, queue: str = QUEUE, **fields: Any) -> None:
        """Of what is not given there is nothing new, and credit may be kept."""
        link = next(link for link in self.pushing.pullers(queue) if link.peer == peer)
        values: dict[str, Any] = {
            "link": link.id,
            "lane": 0,
            "expected": 1,
            "settled": [],
            "refused": [],
            "limit": 0,
            "limit_bytes": 1 << 20,
            "keep": 100,
            "handed": 0,
            "closed": False,
            "heard": 0,
        }
        self.pushing.on_state(peer, State(**(values | fields)), now)

    def send(self, *items: bytes) -> None:
        self.outbox.outgoing.items.extend(items)
        self.pushing.take(self.outbox, 0.0, 0.0)

    def sent_to(self, peer: bytes) -> list[tuple[bytes, int]]:
        """Bodies and attempts of all batches since last looked."""
        seen = [(bytes(batch.body), header.attempt) for to, header, batch in self.batches if to == peer]
        self.batches = [batch for batch in self.batches if batch[0] != peer]
        return seen


@pytest.fixture
def pullers() -> Pullers:
    return Pullers()


def test_nothing_is_sent_before_the_realm_is_settled(pullers: Pullers) -> None:
    pullers.pushing.may_send = False
    peer = pullers.arrive("a")
    pullers.state(peer, limit=10)
    pullers.send(b"1")
    assert pullers.sent_to(peer) == []
    pullers.pushing.may_send = True
    pullers.pushing.dispatch(pullers.outbox, 0.0)
    assert pullers.sent_to(peer) == [(b"1", 1)]


def test_a_crash_charges_what_was_handed_out_and_the_lowest_that_had_arrived(pullers: Pullers) -> None:
    first, second = pullers.arrive("a"), pullers.arrive("b")
    pullers.state(first, limit=6)
    pullers.send(b"1", b"2", b"3", b"4", b"5", b"6")
    pullers.state(first, limit=6, expected=6, handed=2, settled=[[1, 1, ACKED]], heard=6)
    pullers.sent_to(first)
    pullers.pushing.on_gone(first, 1.0, crashed=True)
    pullers.state(second, limit=1)
    assert pullers.sent_to(second) == [(b"2", 2)], "handed out, so charged"
    pullers.state(second, limit=100, expected=2, settled=[[1, 1, ACKED]], heard=1)
    assert pullers.sent_to(second) == [(b"3456", 1)], "not handed out: innocent"


def test_a_crash_before_any_hand_out_charges_the_lowest_that_had_arrived(pullers: Pullers) -> None:
    first, second = pullers.arrive("a"), pullers.arrive("b")
    pullers.state(first, limit=3)
    pullers.send(b"1", b"2", b"3")
    pullers.state(first, limit=3, expected=3, heard=3)
    pullers.pushing.on_gone(first, 1.0, crashed=True)
    pullers.state(second, limit=100)
    assert pullers.sent_to(second) == [(b"1", 2)]
    pullers.state(second, limit=100, expected=2, settled=[[1, 1, ACKED]], heard=1)
    assert pullers.sent_to(second) == [(b"23", 1)]


def test_what_never_arrived_is_not_charged(pullers: Pullers) -> None:
    first, second = pullers.arrive("a"), pullers.arrive("b")
    pullers.state(first, limit=3)
    pullers.send(b"1", b"2")
    pullers.pushing.on_gone(first, 1.0, crashed=True)
    pullers.state(second, limit=100)
    assert pullers.sent_to(second) == [(b"12", 1)]


def test_a_goodbye_charges_nothing(pullers: Pullers) -> None:
    first, second = pullers.arrive("a"), pullers.arrive("b")
    pullers.state(first, limit=3)
    pullers.send(b"1", b"2")
    pullers.state(first, limit=3, expected=3, handed=2, heard=2)
    pullers.pushing.on_gone(first, 1.0, crashed=False)
    pullers.state(second, limit=100)
    assert pullers.sent_to(second) == [(b"12", 1)]


def test_a_charged_message_goes_alone_until_it_is_nacked(pullers: Pullers) -> None:
    first, second, third = pullers.arrive("a"), pullers.arrive("b"), pullers.arrive("c")
    pullers.state(first, limit=2)
    pullers.send(b"1", b"2")
    pullers.state(first, limit=2, expected=3, handed=1, heard=2)
    pullers.pushing.on_gone(first, 1.0, crashed=True)
    pullers.state(second, limit=100)
    assert pullers.sent_to(second) == [(b"1", 2)]
    pullers.send(b"3")
    assert pullers.sent_to(second) == [], "nothing beside it"
    pullers.state(third, limit=100)
    assert pullers.sent_to(third) == [(b"2", 1), (b"3", 1)], "others work on"
    pullers.state(second, limit=100, expected=2, refused=[[1, NACKED, 0.0, ""]], heard=1)
    pullers.send(b"4")
    assert {attempt for _, attempt in pullers.sent_to(second) + pullers.sent_to(third)} == {3, 1}
    assert not any(link.reserved for link in pullers.pushing.pullers(QUEUE))


@pytest.mark.parametrize(
    ("outcome", "attempt"), [(NACKED, 2), (RETURNED, 1)], ids=["a nack counts", "what is given back does not"]
)
def test_attempts(pullers: Pullers, outcome: int, attempt: int) -> None:
    peer = pullers.arrive("a")
    pullers.state(peer, limit=1)
    pullers.send(b"1")
    pullers.sent_to(peer)
    rows = {"refused": [[1, NACKED, 0.0, ""]]} if outcome == NACKED else {"settled": [[1, 1, RETURNED]]}
    pullers.state(peer, limit=2, expected=2, heard=1, **rows)
    assert pullers.sent_to(peer) == [(b"1", attempt)]


def test_the_first_outcome_counts(pullers: Pullers) -> None:
    peer = pullers.arrive("a")
    pullers.state(peer, limit=1)
    pullers.send(b"1")
    pullers.state(peer, limit=1, expected=2, settled=[[1, 1, ACKED]], heard=1)
    pullers.state(peer, limit=5, expected=2, refused=[[1, REJECTED, 0.0, ""]], settled=[[1, 1, RETURNED]], heard=1)
    row = pullers.outbox.row()
    assert (row.acked, row.dropped, row.waiting) == (1, {}, 0)


def test_states_are_merged_by_maximum(pullers: Pullers) -> None:
    peer = pullers.arrive("a")
    pullers.state(peer, limit=9, expected=1)
    pullers.send(b"1", b"2")
    pullers.state(peer, limit=9, expected=3, handed=2, heard=2)
    pullers.state(peer, limit=1, expected=1, handed=0, heard=0, limit_bytes=0)
    [link] = pullers.pushing.pullers(QUEUE)
    assert (link.limit, link.expected, link.handed, link.heard, link.limit_bytes) == (9, 3, 2, 2, 1 << 20)


def test_a_state_that_cannot_be_is_not_believed(pullers: Pullers) -> None:
    peer = pullers.arrive("a")
    pullers.state(peer, limit=5)
    pullers.send(b"1")
    pullers.state(peer, limit=5, expected=7, settled=[[1, 6, ACKED]])
    assert pullers.outbox.row().acked == 0


def test_an_unreachable_puller_does_not_stop_the_others(pullers: Pullers) -> None:
    dead, alive = pullers.arrive("a"), pullers.arrive("b")
    pullers.state(dead, limit=100)
    pullers.state(alive, limit=2)
    pullers.unreachable.add(dead)
    pullers.send(b"1", b"2", b"3")
    assert pullers.sent_to(alive) == [(b"12", 1)]
    assert (pullers.outbox.waiting, pullers.outbox.in_flight) == (1, 2)


def test_credit_that_nothing_waits_for_is_given_back_until_the_puller_has_heard(pullers: Pullers) -> None:
    peer = pullers.arrive("a")
    pullers.probes.clear()
    pullers.state(peer, limit=10, keep=3)
    [(_, probe)] = pullers.probes
    assert isinstance(probe, Probe)
    assert (probe.returned, probe.wanted) == (7, 0)
    pullers.probes.clear()
    fire(pullers.timers, PROBE_AFTER)
    assert [body.returned for _, body in pullers.probes] == [7], "it may be lost"
    pullers.state(peer, limit=10, keep=3, heard=7)
    pullers.probes.clear()
    fire(pullers.timers, 100.0)
    assert pullers.probes == []


def test_probes_of_a_long_job_become_rare(pullers: Pullers) -> None:
    peer = pullers.arrive("a")
    pullers.state(peer, limit=1)
    pullers.send(b"1")
    pullers.state(peer, limit=1, expected=2, handed=1, heard=1)
    times: list[float] = []
    for _ in range(12):
        now = pullers.timers.next()
        assert now is not None
        pullers.probes.clear()
        fire(pullers.timers, now)
        times += [now] * len(pullers.probes)
        pullers.state(peer, now, limit=1, expected=2, handed=1, heard=1)
    assert times[-1] - times[-2] == pytest.approx(PROBE_MOST)


def test_a_delayed_nack_waits_without_asking_for_credit(pullers: Pullers) -> None:
    peer = pullers.arrive("a")
    pullers.state(peer, limit=1)
    pullers.send(b"1")
    pullers.sent_to(peer)
    pullers.state(peer, limit=3, expected=2, refused=[[1, NACKED, 5.0, ""]], heard=1, keep=0)
    [link] = pullers.pushing.pullers(QUEUE)
    assert link.free == 0, "others may need it meanwhile"
    pullers.probes.clear()
    fire(pullers.timers, 5.0)
    assert pullers.probes[-1][1].wanted == 1
    pullers.state(peer, 5.0, limit=4, expected=2, heard=3)
    assert pullers.sent_to(peer) == [(b"1", 2)]


def test_a_closed_queue_has_no_timers_and_no_links(pullers: Pullers) -> None:
    peer = pullers.arrive("a")
    pullers.state(peer, limit=1)
    pullers.send(b"1")
    pullers.state(peer, limit=1, expected=2, refused=[[1, NACKED, 5.0, ""]], heard=1)
    pullers.pushing.close(pullers.outbox)
    assert pullers.timers.next() is None
    assert pullers.pushing.pullers(QUEUE) == []


def fire(timers: Timers, now: float) -> None:
    for due in timers.due(now):
        due(now)


def test_what_is_nacked_for_ever_holds_nobody_up(pullers: Pullers) -> None:
    """Credit comes for one message at a time, in the same report as the nack."""
    peer = pullers.arrive("a")
    pullers.state(peer, limit=1)
    pullers.send(b"poison", b"1", b"2")
    sent = pullers.sent_to(peer)
    for number in range(1, 7):
        poison = sent[-1][0] == b"poison"
        refused = [[number, NACKED, 0.0, ""]] if poison else []
        settled = [] if poison else [[number, number, ACKED]]
        pullers.state(peer, limit=number + 1, expected=number + 1, refused=refused, settled=settled, heard=number)
        sent += pullers.sent_to(peer)
    assert [body for body, _ in sent[:6]] == [b"poison", b"poison", b"1", b"poison", b"2", b"poison"]


def test_the_attempt_stops_where_its_field_ends(pullers: Pullers) -> None:
    peer = pullers.arrive("a")
    pullers.outbox.max_attempts = NEVER  # as dead letters have it
    pullers.state(peer, limit=1)
    pullers.send(b"1")
    next(iter(pullers.pushing.in_flight(pullers.outbox))).attempt = ATTEMPT_MOST
    pullers.sent_to(peer)
    pullers.state(peer, limit=2, expected=2, refused=[[1, NACKED, 0.0, ""]], heard=1)
    assert pullers.sent_to(peer) == [(b"1", ATTEMPT_MOST)]
