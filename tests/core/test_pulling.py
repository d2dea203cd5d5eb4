"""The receiving end of a link: what one state tells, and that everything settled is told in the end."""

from __future__ import annotations

import pytest

from zq.core import receiving
from zq.core.credit import Prefetch
from zq.core.inbox import Handing, Inbox
from zq.core.puller import Puller
from zq.core.pulling import Pulling
from zq.core.ranges import Ranges
from zq.core.receiving import ReceivingLink, Settled
from zq.core.timers import Timers
from zq.wire.batch import Batch, BatchHeader, Run
from zq.wire.body import Body
from zq.wire.frames import ACKED, NACKED, REJECTED, RETURNED, Binding, Entry, Probe, Since, State
from zq.wire.limits import MAILBOX_FRAME
from zq.wire.names import Filter

PEER = b"p" * 16
BATCH = Batch(sender=PEER, first=1, count=1, runs=[Run(PEER, 1, 1, 0.0)], body=b"x")


def link_with(received: int) -> ReceivingLink:
    puller = Puller(id=bytes(16), queue="jobs", inbox=Inbox(lambda: None), prefetch=Prefetch(9), prefetch_bytes=1)
    return ReceivingLink(id=b"l" * 16, peer=PEER, session=0, puller=puller, expected=received + 1)


def refuse(link: ReceivingLink, number: int, outcome: int, reason: str = "") -> None:
    link.settle(number, number, Ranges())
    link.refused[number] = Settled(number, outcome, 0.0, reason, BATCH, 0)


def told(states: list[State]) -> set[tuple[int, int]]:
    """Numbers with their outcomes."""
    numbers = {(n, outcome) for state in states for low, high, outcome in state.settled for n in range(low, high + 1)}
    return numbers | {(number, outcome) for state in states for number, outcome, _, _ in state.refused}


def test_numbers_are_settled_once_and_only_if_they_were_received() -> None:
    link = link_with(5)
    assert link.settle(2, 3, link.acked) == 2
    assert link.settle(1, 9, link.given_back) == 3
    assert told([link.state(0, closed=False)]) == {(2, ACKED), (3, ACKED), (1, RETURNED), (4, RETURNED), (5, RETURNED)}
    assert link.all_settled


def test_what_the_pusher_knows_is_forgotten() -> None:
    link = link_with(6)
    link.settle(1, 2, link.acked)
    refuse(link, 3, REJECTED)
    link.settle(4, 5, link.given_back)
    link.forget_below(5)
    assert told([link.state(0, closed=False)]) == {(5, RETURNED)}
    assert link.refused == {}
    assert link.settle(1, 5, link.acked) == 0, "they stay settled"


def test_more_than_one_state_holds_is_told_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "SETTLED_ROWS", 3)
    monkeypatch.setattr(receiving, "REFUSED_ROWS", 2)
    link = link_with(60)  # number 1 is a long job: the floor does not move
    for number in range(3, 30, 2):
        link.settle(number, number, link.acked)
    for number in range(40, 50):
        refuse(link, number, NACKED)
    states = [link.state(0, closed=False) for _ in range(8)]
    assert all(len(state.settled) <= 3 and len(state.refused) <= 2 for state in states)
    assert told(states) == {(n, ACKED) for n in range(3, 30, 2)} | {(n, NACKED) for n in range(40, 50)}


def test_a_state_says_closed_only_with_everything_that_was_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "SETTLED_ROWS", 3)
    link = link_with(9)
    for number in range(1, 10, 2):
        link.settle(number, number, link.acked)
    assert not link.state(0, closed=True).closed, "what it does not tell would be done again"
    link.forget_below(6)
    assert link.state(0, closed=True).closed


def test_a_state_fits_into_a_mailbox_frame_whatever_the_reasons() -> None:
    link = link_with(20_000)
    for number in range(1, 2_000):
        refuse(link, number, REJECTED, "\N{SNAKE}" * 1_000)
    for number in range(5_000, 9_000, 2):
        link.settle(number, number, link.acked)
    assert len(link.state(1 << 40, closed=True).encode(PEER, PEER)) <= MAILBOX_FRAME


def test_a_probe_that_its_link_has_overtaken_does_not_bring_it_back() -> None:
    """The pusher has ended the link and said so; then an old probe of it arrives, and the answer to that is lost."""
    timers, sent = Timers(), list[Body]()
    pulling = Pulling(timers, lambda peer, body: sent.append(body), lambda peer: 0)
    puller = pulling.open(b"q" * 16, "jobs", Inbox(lambda: None), prefetch=9, prefetch_bytes=100)
    late = Probe(b"l" * 16, 0, 0, "jobs", puller.id, 1, 1, 0, 0, 0)
    pulling.on_entry(PEER, Entry(1, bytes(8), [], [], [], [], [], []), 0.0)
    pulling.on_probe(PEER, late, 0.0)
    pulling.report(0.0)
    sent.clear()
    for due in timers.due(1.0):
        due(1.0)
    pulling.report(0.0)
    assert [type(body) for body in sent] == [State], "asked again whether that link is over"
    pulling.on_end(PEER, late.link)
    assert not puller.links
    assert timers.next() is None


def test_the_first_link_of_a_queue_may_come_before_the_entry_that_names_it() -> None:
    timers, sent = Timers(), list[Body]()
    pulling = Pulling(timers, lambda peer, body: sent.append(body), lambda peer: 0)
    puller = pulling.open(b"q" * 16, "jobs", Inbox(lambda: None), prefetch=9, prefetch_bytes=100)
    pulling.on_entry(PEER, Entry(1, bytes(8), [], [], [], [], [], []), 0.0)
    pulling.on_probe(PEER, Probe(b"l" * 16, 0, 0, "jobs", puller.id, 1, 0, 0, 1, 1), 0.0)
    pulling.on_entry(PEER, Entry(2, bytes(8), [], [], [["jobs", 1, 0.0]], [], [], []), 0.1)
    for due in timers.due(9.0):
        due(9.0)
    assert list(puller.links) == [b"l" * 16]
    assert timers.next() is None


def test_a_batch_that_was_taken_whole_is_handed_out_although_the_next_one_is_of_another_link() -> None:
    """What was handed out is charged if this process dies; a batch of another pusher behind it changes nothing."""
    table = Pulling(Timers(), lambda peer, state: None, lambda peer: 0)
    inbox = Inbox(lambda: None)
    puller = table.open(bytes(16), "jobs", inbox, prefetch=9, prefetch_bytes=100)
    batches: list[Batch] = []
    for peer in (b"a" * 16, b"b" * 16):
        link = ReceivingLink(id=peer, peer=peer, session=0, puller=puller, expected=4)
        puller.links[peer] = link
        batch = Batch(sender=peer, first=1, count=3, runs=[Run(peer, 1, 3, 0.0)], body=b"xxx")
        batch.link = link
        batches.append(batch)
        inbox.taken.append(batch)
    inbox.handing = Handing(batches[1], [2, 3])  # one of the second batch is out
    table.on_taken(puller, 0.0)
    assert [batch.link.handed for batch in batches] == [3, 1]


def test_a_batch_of_which_some_were_out_at_the_last_look_is_handed_out_whole_once_another_link_has_its_turn() -> None:
    table = Pulling(Timers(), lambda peer, state: None, lambda peer: 0)
    inbox = Inbox(lambda: None)
    puller = table.open(bytes(16), "jobs", inbox, prefetch=9, prefetch_bytes=100)
    batches: list[Batch] = []
    for peer in (b"a" * 16, b"b" * 16):
        link = ReceivingLink(id=peer, peer=peer, session=0, puller=puller, expected=4)
        puller.links[peer] = link
        batch = Batch(sender=peer, first=1, count=3, runs=[Run(peer, 1, 3, 0.0)], body=b"xxx")
        batch.link = link
        batches.append(batch)
    for batch, left, handed in [(batches[0], [2, 3], [1, 0]), (batches[0], [3], [2, 0]), (batches[1], [2, 3], [3, 1])]:
        if batch is not inbox.handing.batch:
            inbox.taken.append(batch)
        inbox.handing = Handing(batch, left)
        table.on_taken(puller, 0.0)
        assert [each.link.handed for each in batches] == handed


def test_who_binds_a_queue_says_since_when_by_the_clock_of_who_asks() -> None:
    sent: list[Body] = []
    pulling = Pulling(Timers(), lambda peer, body: sent.append(body), lambda peer: 0)
    inbox = Inbox(lambda: None)
    puller = pulling.open(
        b"p" * 16, "mailer", inbox, prefetch=None, prefetch_bytes=1, filters=[Filter("orders/**")], now=50.0
    )
    assert pulling.binds() == [["mailer", puller.id, ["orders/**"]]]
    pulling.on_binding(PEER, Binding("mailer", puller.id, 1_000.0), 52.5)
    assert sent == [Since("mailer", puller.id, 997.5)]
    for queue, id in (("other", puller.id), ("mailer", b"x" * 16)):
        pulling.on_binding(PEER, Binding(queue, id, 1_000.0), 52.5)
    pulling.close(puller, 60.0)
    pulling.on_binding(PEER, Binding("mailer", puller.id, 1_000.0), 61.0)
    assert len(sent) == 1
    assert pulling.binds() == []


def test_a_batch_that_overtakes_another_waits_for_it() -> None:
    """After a reset what is sent anew on the new connection may come before what the old one has lost."""
    pulling_, sent = Pulling(Timers(), lambda peer, body: None, lambda peer: 0), list[int]()
    inbox = Inbox(lambda: None)
    puller = pulling_.open(b"q" * 16, "jobs", inbox, prefetch=9, prefetch_bytes=1 << 20)
    pulling_.on_probe(PEER, Probe(b"l" * 16, 0, 0, "jobs", puller.id, 1, 0, 0, 5, 1), 0.0)
    pulling_.report(0.0)
    for first in (3, 2, 5, 1, 4, 1):
        header = BatchHeader(bytes(16), PEER, b"l" * 16, 0, 1, 0, first, 1, 1, 0, 0)
        batch = Batch(sender=PEER, first=first, count=1, runs=[Run(PEER, first, 1, 0.0)], body=b"x")
        assert pulling_.on_batch(header, batch, 0.0)
    while inbox.arrived:
        arrived = inbox.arrived.popleft()
        assert isinstance(arrived, Batch)
        sent.append(arrived.first)
    assert sent == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("attempt", "again"), [(2, True), (3, False)])
def test_what_a_vanished_pusher_left_is_tried_here_as_often_as_it_allowed(attempt: int, again: bool) -> None:
    timers, log = Timers(), list[str]()
    pulling = Pulling(timers, lambda peer, body: None, lambda peer: 0, log.append)
    puller = pulling.open(b"q" * 16, "jobs", Inbox(lambda: None), prefetch=9, prefetch_bytes=100)
    pulling.on_probe(PEER, Probe(b"l" * 16, 0, 0, "jobs", puller.id, 1, 0, 0, 1, 1, 3), 0.0)
    pulling.report(0.0)
    header = BatchHeader(b"", PEER, b"l" * 16, 0, attempt, 0, 1, 1, 1, 0, 0)
    batch = Batch(sender=PEER, first=1, count=1, runs=[Run(PEER, 1, 1, 0.0)], body=b"x", attempt=attempt)
    assert pulling.on_batch(header, batch, 0.0)
    puller.inbox.taken.append(puller.inbox.arrived.popleft())
    puller.inbox.handing = Handing(batch, ())
    pulling.on_gone(PEER)
    batch.link.others.append(Settled(1, NACKED, 0.0, "no", batch, 0))
    pulling.on_taken(puller, 0.0)
    assert [item.attempt for item in puller.inbox.arrived if isinstance(item, Batch)] == ([3] if again else [])
    assert puller.row().balanced
    assert len(log) == (0 if again else 1)
    assert bool(puller.links) == again
