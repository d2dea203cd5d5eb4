"""Queues bound to topics, at the publisher: where a binding begins, how long it lasts, and what it holds back."""

from __future__ import annotations

from typing import Any

import pytest

from zq.core import bound
from zq.core.binding import ASK_AFTER, ASKS, BINDINGS_MOST, UNBIND_AFTER, Bindings
from zq.core.inbox import Handing, Inbox
from zq.core.inquiry import Answers
from zq.core.outbox import MAX_ATTEMPTS
from zq.core.pushing import Pushing
from zq.core.timers import Timers
from zq.core.topics import Origin, Topic, Topics
from zq.info import Gap, HeldQueue
from zq.testing import SimulatedNetwork
from zq.wire import frames
from zq.wire.batch import REDELIVERED, Batch, BatchHeader, Parts, decode_batch
from zq.wire.frames import Entry, Probe, Since, State
from zq.wire.names import Filter

ME, SERVICE, OTHER = b"m" * 16, b"s" * 16, b"o" * 16
QUEUE = "mailer"
FILTERS = ["orders/**"]


class Publisher:
    """A publisher and what leaves it. Its pullers grant `credit` and say what the test wants."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.questions: list[tuple[bytes, Any]] = []
        self.probes: list[tuple[bytes, Any]] = []
        self.batches: list[tuple[BatchHeader, Any]] = []
        self.troubles: list[str] = []
        self.now = 100.0
        self._drawn = 0
        origin = Origin(ME)
        self.topics = Topics(origin, self.timers, lambda parts: None, lambda parts: None)
        self.pushing = Pushing(
            origin,
            self.timers,
            self._draw,
            lambda peer, body: self.probes.append((peer, body)),
            self._send_work,
            lambda peer: 1,
            lambda peer: 0,
        )
        self.pushing.may_send = True
        self.bindings = Bindings(
            self.timers,
            lambda peer, body: self.questions.append((peer, body)),
            self.topics,
            self.pushing,
            lambda: None,
            self.troubles.append,
        )

    def _draw(self, count: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(count, "big")

    def _send_work(self, peer: bytes, parts: Parts) -> bool:
        self.batches.append(decode_batch(parts))
        return True

    def topic(self, name: str = "orders/new") -> Topic:
        topic = self.topics.open(name, retain=False, patience=1.0)
        self.bindings.on_topic(topic)
        return topic

    def publish(self, topic: Topic, *numbers: int) -> None:
        """Small numbers, each a message of one byte."""
        topic.outgoing.items.extend(bytes([number]) for number in numbers)
        self.turn(topic)

    def turn(self, *topics: Topic) -> None:
        for topic in topics:
            self.topics.take(topic, self.now, 0.0)
        for due in self.timers.due(self.now):
            due(self.now)
        while self.topics.released:
            self.topics.take(self.topics.released.pop(), self.now, 0.0)
        while self.pushing.released:
            self.pushing.take(self.pushing.released.pop(), self.now, 0.0)

    def entry(
        self, *pullers: bytes, peer: bytes = SERVICE, texts: list[str] = FILTERS, unbinds: list[str] | None = None
    ) -> None:
        """`peer` has these pullers, and no others."""
        pulls: list[list[Any]] = [[QUEUE, puller.ljust(16)] for puller in pullers]
        entry = Entry(1, bytes(8), [], [], [], pulls, [], [[*row, texts] for row in pulls], unbinds or [])
        self.pushing.on_entry(peer, entry, self.now)
        self.bindings.on_entry(peer, entry, self.now)
        self.turn()

    def gone(self, peer: bytes = SERVICE) -> None:
        self.pushing.on_gone(peer, self.now, crashed=True)
        self.bindings.on_gone(peer, self.now)
        self.turn()

    def since(self, puller: bytes, clock: float, peer: bytes = SERVICE) -> None:
        self.bindings.on_since(peer, Since(QUEUE, puller.ljust(16), clock), self.now)
        self.turn()

    def asked(self) -> list[tuple[bytes, float]]:
        """Pullers that were asked since last looked, and the clock they were told."""
        asked, self.questions = self.questions, []
        return [(body.puller.rstrip(), body.clock) for _, body in asked]

    def grant(self, limit: int = 1_000, settled: int = 0, peer: bytes = SERVICE) -> None:
        """Every puller of `peer` has room, and has done the first `settled`."""
        for link in self.pushing.pullers(QUEUE):
            if link.peer == peer:
                done = [[1, settled, frames.ACKED]] if settled else []
                state = State(link.id, 0, settled + 1, done, [], limit, 1 << 20, limit, settled, False, settled)
                self.pushing.on_state(peer, state, self.now)
        self.topics.unblock()
        self.turn()

    def received(self) -> list[int]:
        """What was sent to pullers since last looked."""
        batches, self.batches = self.batches, []
        return [number for _, batch in batches for number in bytes(batch.body)]

    def row(self) -> HeldQueue:
        (row,) = self.bindings.past.with_present(self.pushing.ledger())
        assert row.balanced
        return row


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


def test_what_was_published_after_the_puller_came_into_being_is_for_its_queue(publisher: Publisher) -> None:
    topic = publisher.topic()
    for number in (1, 2, 3, 4):
        publisher.publish(topic, number)
        publisher.now += 1.0
    publisher.entry(b"a")
    assert publisher.asked() == [(b"a", 104.0)]
    publisher.publish(topic, 5)
    publisher.since(b"a", 101.5)
    publisher.publish(topic, 6)
    publisher.grant()
    assert publisher.received() == [3, 4, 5, 6]


def test_messages_keep_topic_number_and_id(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.publish(topic, 1, 2, 3)
    publisher.entry(b"a")
    publisher.since(b"a", 0.0)
    publisher.publish(topic, 4)
    publisher.grant()
    ((_, batch),) = publisher.batches
    assert batch.topic == "orders/new"
    assert [batch.identify(index) for index in range(4)] == [f"{ME.hex()}-{number}" for number in (1, 2, 3, 4)]


def test_messages_of_two_topics_never_share_a_batch_and_keep_their_order(publisher: Publisher) -> None:
    new, old = publisher.topic("orders/new"), publisher.topic("orders/old")
    publisher.publish(new, 1)
    publisher.publish(old, 2)
    publisher.publish(new, 3)
    publisher.entry(b"a")
    publisher.since(b"a", 0.0)
    publisher.publish(old, 4)
    publisher.grant()
    assert [(batch.topic, bytes(batch.body)) for _, batch in publisher.batches] == [
        ("orders/new", b"\1"),
        ("orders/old", b"\2"),
        ("orders/new", b"\3"),
        ("orders/old", b"\4"),
    ]


def test_a_topic_without_messages_is_bound_from_its_first_one_unasked(publisher: Publisher) -> None:
    early = publisher.topic("orders/early")
    publisher.entry(b"a")
    late = publisher.topic("orders/late")
    publisher.publish(early, 1)
    publisher.publish(late, 2)
    publisher.publish(publisher.topic("bills"), 3)
    publisher.grant()
    assert publisher.asked() == []
    assert publisher.received() == [1, 2]


def test_the_question_is_repeated_until_it_is_answered(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.publish(topic, 1)
    publisher.entry(b"a")
    publisher.now += ASK_AFTER
    publisher.turn()
    assert [clock for _, clock in publisher.asked()] == [100.0, 100.0 + ASK_AFTER]
    publisher.since(b"a", 0.0)
    publisher.now += 60.0
    publisher.turn()
    assert publisher.asked() == []


def test_a_second_replica_does_not_start_the_queue_again(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.publish(topic, 1)
    publisher.now += 1.0
    publisher.entry(b"a")
    publisher.entry(b"b", peer=OTHER)
    publisher.publish(topic, 2)
    publisher.since(b"a", 100.5)
    publisher.since(b"b", 100.7, peer=OTHER)
    publisher.publish(topic, 3)
    publisher.grant()
    assert publisher.received() == [2, 3]


def test_of_answers_that_took_long_the_latest_counts(publisher: Publisher) -> None:
    """A puller of 100.5 is asked at 101 with a transit of a second, which makes it one of 99.5; a message is of 100."""
    topic = publisher.topic()
    publisher.publish(topic, 1)
    publisher.now = 101.0
    publisher.entry(b"a")
    publisher.asked()
    publisher.now = 102.0
    publisher.since(b"a", 99.5)
    assert publisher.asked() == [(b"a", 102.0)], "it may be older than the message or younger"
    publisher.now = 102.02
    publisher.since(b"a", 100.49)
    assert topic.bound[0].start == 2
    assert (publisher.asked(), topic.bound[0].pending) == ([], None)


def test_a_puller_whose_answers_always_take_long_is_asked_a_few_times_only(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.publish(topic, 1)
    publisher.entry(b"a")
    for _ in range(ASKS):
        assert topic.bound[0].pending is not None
        publisher.now += 5.0
        publisher.since(b"a", 99.0)
    assert (topic.bound[0].start, topic.bound[0].pending) == (1, None)


def test_a_replica_that_is_older_adds_what_is_missing_as_redelivered(publisher: Publisher) -> None:
    topic = publisher.topic()
    for number in (1, 2, 3):
        publisher.publish(topic, number)
        publisher.now += 1.0
    publisher.entry(b"a")
    publisher.since(b"a", 101.5)
    publisher.grant()
    assert publisher.received() == [3]
    publisher.entry(b"b", peer=OTHER)
    publisher.grant(peer=OTHER)
    publisher.since(b"b", 100.5, peer=OTHER)
    assert [(bytes(batch.body), header.flags & REDELIVERED) for header, batch in publisher.batches] == [
        (b"\2", REDELIVERED)
    ]


def test_a_puller_that_comes_back_adds_nothing(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.publish(topic, 1)
    publisher.now += 1.0
    publisher.entry(b"a")
    publisher.since(b"a", 100.5)
    publisher.gone()
    publisher.publish(topic, 2)
    publisher.asked()
    publisher.entry(b"a")
    assert publisher.asked() == []
    publisher.grant()
    assert publisher.received() == [2]


def test_the_binding_outlives_its_pullers_by_a_minute(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.entry(b"a")
    publisher.publish(topic, 1)
    publisher.gone()
    publisher.now += UNBIND_AFTER - 1.0
    publisher.publish(topic, 2)
    publisher.entry(b"b", peer=OTHER)
    publisher.grant(peer=OTHER)
    assert publisher.received() == [1, 2]
    publisher.now += 10.0
    publisher.turn()
    publisher.publish(topic, 3)
    assert publisher.received() == [3], "it has a puller: its time does not run out"


def test_a_replica_that_ends_leaves_the_binding_to_the_others(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.entry(b"a")
    publisher.entry(b"b", peer=OTHER)
    publisher.gone()
    publisher.now += 2 * UNBIND_AFTER
    publisher.turn()
    publisher.publish(topic, 1)
    publisher.grant(peer=OTHER)
    assert publisher.received() == [1]


def test_after_a_minute_what_waits_is_dropped_and_counted(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.entry(b"a")
    publisher.publish(topic, 1, 2)
    publisher.grant(limit=1)
    publisher.gone()
    publisher.now += UNBIND_AFTER
    publisher.turn()
    publisher.publish(topic, 3)
    row = publisher.row()
    assert (row.taken, row.waiting, row.in_flight, row.dropped) == (2, 0, 0, {"unbound": 2})
    assert row.spans == ()
    assert [(span.origin, span.first, span.last, span.state) for span in row.lost] == [(ME, 1, 2, "unbound")]
    assert publisher.pushing.find(QUEUE) is None
    assert topic.bound == ()


def test_unbind_ends_it_at_once_unless_somebody_else_binds(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.entry(b"a")
    publisher.entry(b"b", peer=OTHER)
    publisher.publish(topic, 1)
    publisher.entry(unbinds=[QUEUE])
    assert publisher.row().waiting == 1
    publisher.entry(unbinds=[QUEUE], peer=OTHER)
    assert publisher.row().dropped == {"unbound": 1}


def test_who_binds_again_goes_on_behind_what_was_bound_before(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.entry(b"a")
    publisher.publish(topic, 1)
    publisher.gone()
    publisher.now += UNBIND_AFTER
    publisher.turn()
    publisher.publish(topic, 2)
    publisher.entry(b"a")  # it has been there all the time, and could not be reached
    publisher.since(b"a", 50.0)
    publisher.grant()
    assert publisher.received() == [2]
    assert publisher.row().taken == 2, "what a closed outbox has counted stays in the ledger"


def test_a_puller_that_dies_unasked_has_begun_when_its_entry_came(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.publish(topic, 1)
    publisher.now += 1.0
    publisher.entry(b"a")
    publisher.publish(topic, 2)
    publisher.gone()
    assert not publisher.bindings.is_pending()
    publisher.publish(topic, 3)
    publisher.now += 1.0
    publisher.entry(b"b")
    publisher.since(b"b", 101.5)
    publisher.grant()
    assert publisher.received() == [2, 3]


def test_what_has_left_the_ring_is_counted_and_said(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher.topics._ring, "_budget", 2)
    topic = publisher.topic()
    for number in (1, 2, 3, 4):
        publisher.publish(topic, number)
    publisher.entry(b"a")
    publisher.since(b"a", 0.0)
    publisher.grant()
    assert publisher.received() == [3, 4]
    assert publisher.row().dropped == {"left the ring": 2}
    assert publisher.row().gaps == (Gap(publisher=ME, topic=topic.name, first=1, last=2),)
    publisher.grant(settled=2)
    outbox = publisher.pushing.find(QUEUE)
    assert outbox is not None
    assert outbox.settled_through(4), "nobody waits for what is lost"
    assert len(publisher.troubles) == 1


def test_filters_are_united_and_one_nobody_names_lasts_a_minute(publisher: Publisher) -> None:
    orders, bills = publisher.topic("orders/new"), publisher.topic("bills")
    publisher.entry(b"a", texts=["orders/**"])
    publisher.entry(b"b", texts=["bills"], peer=OTHER)
    publisher.grant()
    publisher.publish(orders, 1)
    publisher.publish(bills, 2)
    publisher.grant()
    assert publisher.received() == [1, 2]
    publisher.gone()
    publisher.grant(peer=OTHER)
    assert publisher.received() == [1, 2]  # again: nobody had settled them, and the grant of the other is its first
    publisher.publish(orders, 3)
    assert publisher.received() == [3]
    publisher.now += UNBIND_AFTER
    publisher.turn()
    publisher.publish(orders, 4)
    publisher.publish(bills, 5)
    assert publisher.received() == [5]


def test_a_full_window_holds_the_topic_back_for_however_long(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bound, "BOUND_WINDOW", 3)
    topic = publisher.topic()
    publisher.entry(b"a")
    publisher.publish(topic, 1, 2, 3, 4, 5)
    assert topic.head == 3
    publisher.now += 3_600.0
    publisher.turn(topic)
    assert topic.head == 3
    publisher.grant(settled=0)
    assert publisher.received() == [1, 2, 3]
    publisher.grant(settled=2)
    assert topic.head == 5
    assert publisher.received() == [4, 5]


def test_one_message_above_the_window_passes_alone(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "BOUND_BYTES", 10)
    topic = publisher.topic()
    publisher.entry(b"a")
    topic.outgoing.items.extend([bytes(50), b"\1"])
    publisher.turn(topic)
    assert topic.head == 1
    publisher.grant(settled=0)
    publisher.grant(settled=1)
    assert topic.head == 2


def test_what_is_pending_counts_against_the_window(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "BOUND_WINDOW", 2)
    topic = publisher.topic()
    publisher.publish(topic, 1)
    publisher.entry(b"a")
    publisher.publish(topic, 2, 3, 4)
    assert topic.head == 3
    publisher.since(b"a", 200.0)
    publisher.grant()
    assert publisher.received() == [2, 3]


def test_a_program_that_pushes_to_the_queue_shares_its_outbox(publisher: Publisher) -> None:
    topic = publisher.topic()
    outbox = publisher.pushing.open(QUEUE, window=10, window_bytes=1 << 20, max_attempts=9, now=0.0)
    publisher.entry(b"a")
    publisher.publish(topic, 1)
    assert outbox.outgoing.limit == 9
    outbox.outgoing.items.append(b"\2")
    publisher.pushing.take(outbox, 0.0, 0.0)
    publisher.grant()
    assert [(batch.topic, bytes(batch.body)) for _, batch in publisher.batches] == [
        ("orders/new", b"\1"),
        (None, b"\2"),
    ]
    assert publisher.bindings.keep(outbox, publisher.now)
    publisher.publish(topic, 3)
    assert publisher.row().taken == 3
    assert outbox.max_attempts == MAX_ATTEMPTS
    assert publisher.bindings.adopt(QUEUE, window=5, window_bytes=1 << 20, max_attempts=1, now=0.0) is outbox
    assert (outbox.window, outbox.outgoing.limit, outbox.max_attempts) == (5, 2, 1)


def test_pullers_are_told_what_a_program_that_shares_the_outbox_allows(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.entry(b"a")
    publisher.publish(topic, 1)
    assert {body.max_attempts for _, body in publisher.probes} == {MAX_ATTEMPTS}
    publisher.probes.clear()
    assert publisher.bindings.adopt(QUEUE, window=5, window_bytes=1 << 20, max_attempts=2, now=publisher.now)
    assert [body.max_attempts for _, body in publisher.probes] == [2]


def test_pullers_are_told_when_the_program_does_not_push_any_more(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.entry(b"a")
    publisher.publish(topic, 1)
    outbox = publisher.bindings.adopt(QUEUE, window=5, window_bytes=1 << 20, max_attempts=2, now=publisher.now)
    assert outbox is not None
    publisher.probes.clear()
    assert publisher.bindings.keep(outbox, publisher.now)
    assert [body.max_attempts for _, body in publisher.probes] == [MAX_ATTEMPTS]


def test_what_dies_in_a_bound_queue_is_a_dead_letter_of_its_topic_and_may_be_tried_again(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.entry(b"a")
    publisher.publish(topic, 1, 2)
    publisher.grant()
    (link,) = publisher.pushing.pullers(QUEUE)
    refused = [[1, frames.REJECTED, 0.0, "no"]]
    state = State(link.id, 0, 3, [], refused, 1_000, 1 << 20, 1_000, 2, False, 2)
    publisher.pushing.on_state(SERVICE, state, publisher.now)
    (row, letters) = publisher.pushing.ledger()
    assert (dict(row.dropped), letters.queue, letters.waiting) == ({"rejected": 1}, "mailer.dead", 1)
    publisher.batches.clear()
    answers = Answers(publisher.pushing, publisher.bindings.revive)
    assert answers.answer(OTHER, frames.Inquire(1, frames.RETRY, QUEUE, [], "", 0), publisher.now).count == 1
    ((header, again),) = publisher.batches
    assert (again.topic, bytes(again.body), header.attempt) == ("orders/new", b"\1", 1)
    assert again.identify(0) == f"{ME.hex()}-1"


def test_a_dead_letter_of_a_queue_that_is_bound_no_more_may_be_tried_again(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.entry(b"a")
    publisher.publish(topic, 1)
    publisher.grant()
    (link,) = publisher.pushing.pullers(QUEUE)
    refused = [[1, frames.REJECTED, 0.0, "no"]]
    state = State(link.id, 0, 2, [], refused, 1_000, 1 << 20, 1_000, 1, False, 1)
    publisher.pushing.on_state(SERVICE, state, publisher.now)
    publisher.entry(unbinds=[QUEUE])
    assert publisher.pushing.find(QUEUE) is None
    answers = Answers(publisher.pushing, publisher.bindings.revive)
    assert answers.answer(OTHER, frames.Inquire(1, frames.RETRY, QUEUE, [], "", 0), publisher.now).count == 1
    publisher.entry(unbinds=[QUEUE])  # said again
    publisher.now += 2 * UNBIND_AFTER
    publisher.turn()
    outbox = publisher.pushing.find(QUEUE)
    assert outbox is not None
    assert outbox.held == 1, "it waits for a puller, for however long"
    publisher.batches.clear()
    publisher.entry(b"b")
    publisher.grant()
    ((_, again),) = publisher.batches
    assert (again.topic, bytes(again.body)) == ("orders/new", b"\1")


def test_a_queue_that_was_opened_for_a_dead_letter_ends_when_that_is_done(publisher: Publisher) -> None:
    outbox = publisher.bindings.revive(QUEUE, publisher.now)
    assert publisher.bindings.revive(QUEUE, publisher.now) is outbox
    publisher.now += UNBIND_AFTER
    publisher.turn()
    assert publisher.pushing.find(QUEUE) is None


def test_who_pulls_the_dead_letters_of_a_bound_queue_is_told_their_topic(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.entry(b"a")
    publisher.publish(topic, 1)
    publisher.grant()
    (link,) = publisher.pushing.pullers(QUEUE)
    refused = [[1, frames.REJECTED, 0.0, "no"]]
    publisher.pushing.on_state(
        SERVICE, State(link.id, 0, 2, [], refused, 1_000, 1 << 20, 1_000, 1, False, 1), publisher.now
    )
    publisher.batches.clear()
    publisher.pushing.on_entry(OTHER, Entry(1, bytes(8), [], [], [], [["mailer.dead", b"d" * 16]]), publisher.now)
    (link,) = publisher.pushing.pullers("mailer.dead")
    publisher.pushing.on_state(OTHER, State(link.id, 0, 1, [], [], 9, 1 << 20, 9, 0, False, 0), publisher.now)
    assert [batch.topic for _, batch in publisher.batches] == ["orders/new"]


def test_what_an_unbound_queue_was_to_try_again_later_is_dropped_too(publisher: Publisher) -> None:
    topic = publisher.topic()
    outbox = publisher.pushing.open(QUEUE, window=10, window_bytes=1 << 20, now=0.0)
    publisher.entry(b"a")
    publisher.publish(topic, 1, 2)
    publisher.grant()
    (link,) = publisher.pushing.pullers(QUEUE)
    refused = [[1, frames.NACKED, 9.0, "later"]]
    publisher.pushing.on_state(
        SERVICE,
        State(link.id, 0, 3, [[2, 2, frames.ACKED]], refused, 1_000, 1 << 20, 1_000, 2, False, 2),
        publisher.now,
    )
    assert outbox.delayed == 1
    publisher.entry(unbinds=[QUEUE])
    assert (dict(publisher.row().dropped), outbox.delayed, outbox.held) == ({"unbound": 1}, 0, 0)
    publisher.now += 60.0
    publisher.turn()
    assert publisher.row().acked == 1


def test_unbinding_leaves_what_a_program_has_pushed(publisher: Publisher) -> None:
    topic = publisher.topic()
    outbox = publisher.pushing.open(QUEUE, window=10, window_bytes=1 << 20, now=0.0)
    publisher.entry(b"a")
    publisher.publish(topic, 1)
    outbox.outgoing.items.append(b"\2")
    publisher.pushing.take(outbox, 0.0, 0.0)
    woken: list[int] = []
    outbox.outgoing.wake = lambda: woken.append(outbox.outgoing.limit)
    publisher.entry(unbinds=[QUEUE])
    row = publisher.row()
    assert (row.waiting, row.dropped) == (1, {"unbound": 1})
    assert woken == [9], "there is room again, and whoever waits for it is told"
    assert not publisher.bindings.keep(outbox, publisher.now)


def test_more_queues_than_anybody_needs_are_refused_once(publisher: Publisher) -> None:
    binds = [[f"q{number}", number.to_bytes(16, "big"), ["**"]] for number in range(BINDINGS_MOST + 2)]
    publisher.bindings.on_entry(SERVICE, Entry(1, bytes(8), [], [], [], [], [], binds, []), 0.0)
    topic = publisher.topic()
    assert len(topic.bound) == BINDINGS_MOST
    assert len(publisher.troubles) == 1


def test_another_peer_cannot_take_the_place_of_a_puller(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.publish(topic, 1)
    publisher.entry(b"a")
    publisher.entry(b"a", peer=OTHER)
    publisher.bindings.on_since(b"x" * 16, Since(QUEUE, b"a".ljust(16), 0.0), 0.0)
    assert topic.bound[0].pending is not None
    publisher.gone(OTHER)
    publisher.gone()
    assert len(topic.bound) == 1


def test_nobody_binds_a_queue_of_dead_messages(publisher: Publisher) -> None:
    topic = publisher.topic()
    publisher.bindings.on_entry(
        SERVICE, Entry(1, bytes(8), [], [], [], [], [], [["jobs.dead", b"a" * 16, ["**"]]], []), 0.0
    )
    assert topic.bound == ()


def test_a_publisher_without_bindings_opens_nothing(publisher: Publisher) -> None:
    publisher.entry(b"a")
    publisher.publish(publisher.topic("bills"), 1)
    assert list(publisher.pushing) == []
    assert not any(isinstance(body, Probe) for _, body in publisher.probes)


def test_receipts_let_a_topic_that_was_held_back_go_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bound, "BOUND_WINDOW", 1)
    network = SimulatedNetwork(seed=1)
    shop, mailer = network.peer("shop"), network.peer("mailer")
    network.introduce()
    network.run(2.0, until=lambda: shop.node.has_up(1))
    inbox = Inbox(lambda: None)
    puller = mailer.node.pull(
        QUEUE, inbox, prefetch=None, prefetch_bytes=1 << 20, topics=[Filter("orders/**")], now=mailer.clock()
    )
    mailer.touch()
    topic = shop.node.publish_topic("orders/new", retain=False, patience=1.0)
    network.run(1.0, until=lambda: bool(topic.bound))
    topic.outgoing.items.extend([b"\1"] * 20)
    shop.touch(topic)
    for _ in range(20):
        assert network.run(0.1, until=lambda: bool(inbox.arrived)), "a window is one message, and it is acknowledged"
        inbox.taken.append(inbox.arrived.popleft())
        batch = inbox.taken[-1]
        assert isinstance(batch, Batch)
        inbox.handing = Handing(batch, ())
        batch.link.acks.append(batch.first)
        mailer.touch(puller)
