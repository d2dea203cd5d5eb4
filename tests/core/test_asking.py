"""Ledgers come in pages that a mailbox can carry, all of one snapshot, whatever happens to the frames."""

from __future__ import annotations

from typing import Any

import pytest

from zq.core import ledger as ledgers
from zq.core.asking import AGAIN, ASKERS, KEPT_FOR, Questions
from zq.core.standing import ROWS_MOST
from zq.core.timers import Timers
from zq.info import Departed, Gap, HeldQueue, Ledger, PublishedTopic, PulledQueue, Span, SubscribedTopic
from zq.testing import Network, Weather
from zq.wire.data import Malformed
from zq.wire.frames import Ask, Entry, LedgerReply
from zq.wire.limits import MAILBOX_FRAME

ME, OTHER = b"m" * 16, b"o" * 16
LONGEST = 255  # bytes of a name


def large(rows: int, *, taken: int = 1 << 40) -> Ledger:
    """With the longest names, and as many places as there can be."""
    names = [f"{number:0{LONGEST}}" for number in range(rows)]
    spans = tuple(Span(origin=ME, first=1 << 60, last=1 << 61, state="handed out", peer=OTHER) for _ in range(16))
    return Ledger(
        peer=OTHER,
        name="other",
        held=tuple(
            HeldQueue(
                queue=name,
                taken=taken,
                waiting=1,
                in_flight=2,
                acked=3,
                dropped={"why" * 300: 1},
                spans=spans,
                lost=spans,
            )
            for name in names
        ),
        pulled=tuple(
            PulledQueue(
                queue=name,
                received=1,
                queued=1,
                handed_out=0,
                acked=0,
                nacked=0,
                rejected=0,
                returned=0,
                spans=spans,
            )
            for name in names
        ),
        published=tuple(PublishedTopic(topic=name, published=3, in_ring=2, left_ring=1) for name in names),
        subscribed=tuple(
            SubscribedTopic(
                topic=name,
                publisher=ME,
                expected=1,
                delivered=1,
                queued=0,
                repairing=0,
                dropped=0,
                gap=0,
                gaps=tuple(Gap(publisher=ME, topic=name, first=1, last=None) for _ in range(16)),
            )
            for name in names
        ),
        refused_frames=7,
        departed=(Departed(peer=ME, name="gone", ago=1.5, goodbye=True, held={"jobs": 1}, published={"news": 2}),),
    )


class Wire:
    """An asker and an answerer, and what is between them."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.snapshots = 0
        self.timers = Timers()
        self.frames: list[Any] = []
        self.asker = Questions(
            self.timers, lambda _, body: self.frames.append(body), lambda _: Ledger(peer=ME, name="me")
        )
        self.answerer = Questions(self.timers, lambda _, body: self.frames.append(body), self._take)

    def _take(self, now: float) -> Ledger:
        self.snapshots += 1
        return self.ledger

    def pass_on(self, now: float = 0.0, sender: bytes = OTHER) -> None:
        """The next frame arrives."""
        body = self.frames.pop(0)
        if isinstance(body, Ask):
            self.answerer.on_ask(ME, body, now)
        else:
            self.asker.on_reply(sender, body)

    def due(self, now: float) -> None:
        for due in self.timers.due(now):
            due(now)


def test_a_thousand_queues_come_whole_in_pages_that_a_mailbox_takes() -> None:
    ledger = large(1_000)
    wire = Wire(ledger)
    request = wire.asker.ask([OTHER], 0.0)
    largest = pages = 0
    while wire.frames:
        if isinstance(wire.frames[0], LedgerReply):
            pages += 1
            largest = max(largest, len(wire.frames[0].encode(ME, OTHER)))
        wire.pass_on()
    assert wire.asker.replies(request) == {OTHER: ledger}
    assert wire.snapshots == 1
    assert pages > 10
    assert largest < MAILBOX_FRAME / 4
    wire.asker.forget(request)
    wire.due(KEPT_FOR + 1)
    assert wire.timers.next() is None


def test_the_entry_of_a_peer_with_a_thousand_queues_fits_into_a_mailbox() -> None:
    names = [f"{number:064}" for number in range(1_000)]
    lags = [[1, name, OTHER, OTHER, 1 << 40, 3] for name in names[:ROWS_MOST]]
    drops = [[1, name, "why" * 50, 1 << 40] for name in names[:ROWS_MOST]]
    entry = Entry(
        1,
        bytes(8),
        [[name, 1.0, 1] for name in names],
        [[name, 1 << 40] for name in names],
        [[name, 1 << 40, 1.0] for name in names],
        [[name, OTHER] for name in names],
        replies=[[name, OTHER] for name in names],
        binds=[[name, OTHER, [name]] for name in names],
        unbinds=names,
        lags=lags,
        drops=drops,
    )
    frame = entry.encode(ME, OTHER)
    assert len(frame) < MAILBOX_FRAME * 3 / 4
    assert Entry.decode(frame[33:]) == entry


def test_a_small_ledger_is_one_page_and_nothing_is_kept() -> None:
    wire = Wire(large(1))
    request = wire.asker.ask([OTHER], 0.0)
    wire.pass_on()
    wire.pass_on()
    assert wire.asker.replies(request) == {OTHER: wire.ledger}
    assert wire.timers.next() is None


def test_what_is_lost_is_asked_for_again_and_pages_are_of_one_snapshot() -> None:
    wire = Wire(large(300))
    request = wire.asker.ask([OTHER], 0.0)
    wire.pass_on()
    wire.pass_on()
    wire.frames.clear()  # the question for page 1 is lost
    wire.due(AGAIN)
    assert wire.frames == [Ask(request, 1)]
    wire.pass_on(AGAIN)
    late = wire.frames.pop()  # page 1 is late
    wire.answerer.on_gone(ME)  # and the answerer has forgotten the rest
    wire.ledger = large(300, taken=5)
    wire.due(2 * AGAIN)
    wire.pass_on(2 * AGAIN)
    assert wire.frames[0].page == 0, "a new snapshot begins at its first page"
    wire.pass_on()
    wire.frames.append(late)
    while wire.frames:
        wire.pass_on()
    assert wire.asker.replies(request) == {OTHER: wire.ledger}


def test_repeated_and_strange_answers_change_nothing() -> None:
    wire = Wire(large(1))
    request = wire.asker.ask([OTHER], 0.0)
    wire.pass_on()
    answer = wire.frames[0]
    wire.asker.on_reply(ME, answer)  # whom nobody asked
    wire.asker.on_reply(OTHER, LedgerReply(request + 1, answer.ledger, 0, 1, 1))
    wire.asker.on_reply(OTHER, LedgerReply(request, answer.ledger, 3, 9, 1))
    assert wire.asker.replies(request) == {}
    with pytest.raises(Malformed):
        wire.asker.on_reply(OTHER, LedgerReply(request, {**answer.ledger, "peer": ME}, 0, 1, 1))
    wire.asker.on_reply(OTHER, LedgerReply(request, answer.ledger, 0, 1 << 40, 1))  # as long as that no ledger is
    assert wire.asker.replies(request) == {}
    wire.pass_on()
    wire.asker.on_reply(OTHER, answer)
    assert wire.asker.replies(request) == {OTHER: wire.ledger}


def test_pages_are_kept_for_some_askers_only() -> None:
    wire = Wire(large(300))
    askers = [bytes([number]) * 16 for number in range(ASKERS + 4)]
    for asker in askers:
        wire.answerer.on_ask(asker, Ask(1, 0), 0.0)
    assert len(wire.answerer._kept) == ASKERS
    wire.due(KEPT_FOR + 1)
    assert wire.answerer._kept == {}


def test_a_ledger_survives_its_journey() -> None:
    ledger = large(2)
    assert ledgers.from_wire(ledgers.to_wire(ledger)) == ledger
    for wrong in ({"spans": [{"origin": 1}]}, {"spans": 3}, {"lost": [[]]}, {"dropped": {"a": "b"}}):
        page = ledgers.to_wire(ledger)[0]
        page["held"][0].update(wrong)
        with pytest.raises(Malformed):
            ledgers.from_wire([page])


def test_a_ledger_comes_through_a_network_that_loses_a_fifth() -> None:
    with Network(
        seed=4, weather=Weather(latency=0.02, mailbox_loss=0.2, mailbox_repeat=0.2, mailbox_late=0.2)
    ) as network:
        asker, busy = network.peer("asker"), network.peer("busy")
        for number in range(600):
            busy.pusher(f"{number:0200}").send(number)
        asker.wait_for_peers(1)
        ledger = asker.ledger(realm=True, timeout=60)
        assert ledger.unknown == ()
        assert sum(row.taken for row in ledger.others[0].held) == 600
        assert len(ledger.queues) == 600
