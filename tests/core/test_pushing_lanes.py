"""The pushing side with lanes, keys and times: each lane has a link of its own, and what it costs with many pullers."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.core.test_plans import planned
from tests.core.test_pushing import QUEUE, Pullers, fire
from zq.core.link import SendingLink
from zq.wire.frames import ACKED, End, Probe, State
from zq.wire.plan import HIGH, LOW, NORMAL


class Lanes(Pullers):
    """Pullers that say something about one lane."""

    def link(self, peer: bytes, lane: int) -> SendingLink:
        return next(link for link in self.pushing.links(QUEUE) if (link.peer, link.lane) == (peer, lane))

    def tell(self, peer: bytes, lane: int, now: float = 0.0, **fields: Any) -> None:
        self.state(peer, now, link=self.link(peer, lane).id, lane=lane, **fields)

    def sent(self) -> list[tuple[int, int, bytes]]:
        """Lane, first number and body of all batches since last looked."""
        seen = [(header.lane, header.first, bytes(batch.body)) for _, header, batch in self.batches]
        self.batches.clear()
        return seen


@pytest.fixture
def pullers() -> Lanes:
    return Lanes()


def test_a_lane_gets_a_link_to_every_puller_when_it_is_first_used(pullers: Lanes) -> None:
    first = pullers.arrive("a")
    pullers.send(b"1")
    assert [link.lane for link in pullers.pushing.links(QUEUE)] == [NORMAL]
    pullers.send(planned(b"2", lane=HIGH))
    second = pullers.arrive("b")
    links = {(link.peer, link.lane) for link in pullers.pushing.links(QUEUE)}
    assert links == {(peer, lane) for peer in (first, second) for lane in (NORMAL, HIGH)}
    probes = [(probe.lane, probe.wanted) for peer, probe in pullers.probes if isinstance(probe, Probe)]
    assert (HIGH, 1) in probes
    assert len(pullers.pushing.pullers(QUEUE)) == 2, "a puller is a puller, whatever its lanes"


def test_each_lane_has_its_own_numbers_and_credit(pullers: Lanes) -> None:
    peer = pullers.arrive("a")
    pullers.send(b"1", planned(b"2", lane=HIGH), planned(b"3", lane=LOW), b"4")
    pullers.tell(peer, HIGH, limit=5)
    assert pullers.sent() == [(HIGH, 1, b"2\xc0\xc0")]
    pullers.tell(peer, NORMAL, limit=5)
    assert [sent[:2] for sent in pullers.sent()] == [(NORMAL, 1)]
    pullers.tell(peer, HIGH, limit=5, expected=2, settled=[[1, 1, ACKED]])
    row = pullers.outbox.row()
    assert (row.acked, row.in_flight, row.waiting) == (1, 2, 1)


def test_each_lane_asks_for_its_own_credit_and_gives_back_what_it_does_not_need(pullers: Lanes) -> None:
    peer = pullers.arrive("a")
    pullers.send(b"1", b"2", planned(b"3", lane=LOW), planned(b"later", lane=LOW, delay=9.0))
    wanted = {body.lane: body.wanted for _, body in pullers.probes if isinstance(body, Probe)}
    assert wanted[LOW] == 1
    pullers.tell(peer, NORMAL, limit=2)
    pullers.probes.clear()
    pullers.tell(peer, LOW, limit=5, keep=0)
    [returned] = [body.returned for _, body in pullers.probes if isinstance(body, Probe) and body.lane == LOW]
    assert returned == 4


def test_while_several_lanes_have_credit_they_send_in_turns(pullers: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.core.dispatch.TURN", 1)
    peer = pullers.arrive("a")
    pullers.send(*[b"n"] * 20, *[planned(b"h", lane=HIGH)] * 20, *[planned(b"l", lane=LOW)] * 20)
    pullers.pushing.may_send = False
    for lane in (NORMAL, HIGH, LOW):
        pullers.tell(peer, lane, limit=20)
    pullers.pushing.may_send = True
    pullers.pushing.dispatch(pullers.outbox, 0.0)
    lanes = [lane for _, header, _ in pullers.batches for lane in [header.lane] * header.length]
    assert lanes[:26] == ([HIGH] * 8 + [NORMAL] * 4 + [LOW]) * 2
    assert len(lanes) == 60


def test_a_message_that_goes_alone_is_alone_on_all_lanes(pullers: Lanes) -> None:
    first, second = pullers.arrive("a"), pullers.arrive("b")
    pullers.state(first, limit=1)
    pullers.send(b"poison")
    pullers.state(first, limit=1, expected=2, handed=1, heard=1)
    pullers.send(planned(b"h", lane=HIGH))
    pullers.tell(second, HIGH, limit=10)
    assert len(pullers.sent()) == 2
    pullers.pushing.on_gone(first, 1.0, crashed=True)
    pullers.tell(second, NORMAL, limit=10)
    assert pullers.sent() == [], "something is under way beside it"
    pullers.tell(second, HIGH, limit=10, expected=2, settled=[[1, 1, ACKED]], heard=1)
    assert pullers.sent() == [(NORMAL, 1, b"poison")]
    pullers.send(planned(b"h", lane=HIGH))
    assert pullers.sent() == [], "nor does anything follow it"
    pullers.tell(second, NORMAL, limit=10, expected=2, settled=[[1, 1, ACKED]], heard=1)
    assert [lane for lane, _, _ in pullers.sent()] == [HIGH]


def test_a_closed_queue_ends_the_links_of_all_lanes(pullers: Lanes) -> None:
    pullers.arrive("a")
    pullers.send(b"1", planned(b"2", lane=HIGH), planned(b"3", ttl=1.0, delay=0.5))
    links = {link.id for link in pullers.pushing.links(QUEUE)}
    pullers.probes.clear()
    pullers.pushing.close(pullers.outbox)
    assert {body.link for _, body in pullers.probes if isinstance(body, End)} == links
    assert pullers.timers.next() is None


def test_what_expires_leaves_at_its_time_although_there_is_no_puller(pullers: Lanes) -> None:
    pullers.send(planned(b"1", ttl=1.0), planned(b"2", ttl=3.0))
    assert pullers.timers.next() == 1.0
    fire(pullers.timers, 1.0)
    assert (pullers.outbox.expired, pullers.timers.next()) == (1, 3.0)
    assert pullers.outbox in pullers.pushing.released, "callers have room again"


def test_nothing_is_sent_whose_time_is_over_by_now(pullers: Lanes) -> None:
    peer = pullers.arrive("a")
    pullers.send(planned(b"1", ttl=1.0), b"2")
    pullers.state(peer, 1.0, limit=10)
    assert pullers.sent() == [(NORMAL, 1, b"2")]


def test_small_messages_pass_to_whom_a_large_one_was_too_large_for(pullers: Lanes) -> None:
    small, large = pullers.arrive("a"), pullers.arrive("b")
    pullers.state(small, limit=10, limit_bytes=10)
    pullers.state(large, limit=1)
    pullers.send(b"small")
    pullers.sent()
    pullers.send(b"x" * 100, b"y")
    assert [body for _, _, body in pullers.sent()] == [b"x" * 100, b"y"]


# --- cost


def cost(count: int, burst: int) -> float:
    """Seconds of processor time that a message costs the pusher with so many pullers, each acking what it gets."""
    pullers = Lanes()
    outbox = pullers.outbox
    outbox.window = 1 << 20
    outbox.reopen()
    peers = [pullers.arrive(f"{number:04}") for number in range(count)]
    links = {peer: pullers.link(peer, NORMAL).id for peer in peers}

    def state(peer: bytes, last: int) -> None:
        settled = [[1, last, ACKED]] if last else []
        limit = last + 128  # messages; twice what a puller begins with
        news = State(links[peer], NORMAL, last + 1, settled, [], limit, 1 << 40, 128, last, False, last)
        pullers.pushing.on_state(peer, news, 0.0)

    def push(messages: int) -> float:
        started = time.process_time()
        for _ in range(messages // burst):
            outbox.outgoing.items.extend([b"x" * 100] * burst)
            pullers.pushing.take(outbox, 0.0, 0.0)
            for peer, header, _ in pullers.batches:
                state(peer, header.first + header.length - 1)
            pullers.batches.clear()
            pullers.probes.clear()
        assert outbox.acked == outbox.taken
        return (time.process_time() - started) / messages

    for peer in links:
        state(peer, 0)
    push(100 * burst)  # until it is known how fast the pullers are
    return min(push(40 * burst + 1_000) for _ in range(5))


@pytest.mark.parametrize("burst", [1, 512], ids=["one by one", "at full speed"])
def test_two_hundred_pullers_cost_a_message_less_than_twice_what_two_do(burst: int) -> None:
    few, many = cost(2, burst), cost(200, burst)
    assert many < 2 * few, f"{many * 1e6:.2f} us with 200 pullers, {few * 1e6:.2f} us with 2"


def test_jobs_that_end_one_by_one_are_spread_over_all_who_wait(pullers: Lanes) -> None:
    peers = [pullers.arrive(name) for name in "abcd"]
    for peer in peers:
        pullers.tell(peer, NORMAL, limit=64)
    pullers.send(*[b"x"] * 4)
    for peer in peers:
        pullers.tell(peer, NORMAL, limit=64, expected=2, settled=[[1, 1, ACKED]], heard=1)
    pullers.batches.clear()
    pullers.send(*[b"y"] * 4)
    assert sorted(peer for peer, _, _ in pullers.batches) == peers


def test_who_settles_many_at_once_gets_as_many_at_once(pullers: Lanes) -> None:
    peers = [pullers.arrive(name) for name in "abcd"]
    for peer in peers:
        pullers.tell(peer, NORMAL, limit=64)
    pullers.send(*[b"x"] * 16)
    for peer in peers:
        pullers.tell(peer, NORMAL, limit=64, expected=5, settled=[[1, 4, ACKED]], heard=4)
    pullers.batches.clear()
    pullers.send(*[b"y"] * 16)
    assert [header.length for _, header, _ in pullers.batches] == [8, 8]
