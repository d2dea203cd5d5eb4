"""Bugs planted into zq, each of which the simulator or a test of the core has to find; see `tests.planting`.

python -m tests.planted.bugs        plants one after another and says what finds it
python -m tests.planted.bugs NAME   plants one and runs what is to find it

The names say what the code then does. Some are bugs that zq has had.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tests.planting import SIMULATION, Garden
from zq.core.inbox import SubscriptionInbox
from zq.core.link import SendingLink
from zq.core.meeting import Meeting
from zq.core.node import Node
from zq.core.outbox import Outbox
from zq.core.pulling import Pulling, ReceivingLink
from zq.core.pushing import Pushing
from zq.core.ranges import Ranges
from zq.core.reception import Receptions
from zq.core.ring import Track
from zq.core.topics import Topics
from zq.wire.frames import ACKED

garden = Garden("tests.planted.bugs")
bug = garden.fault


def replace(owner: type, name: str, build: Callable[[Any], Any]) -> None:
    """`build` gets what is there and returns what is there instead. Raises AttributeError when there is nothing."""
    setattr(owner, name, build(getattr(owner, name)))


def nothing(*_: Any, **__: Any) -> None:
    """What is done instead."""


# --- queues: receipts and redelivery


@bug(SIMULATION)
def receipts_at_arrival_instead_of_after_the_work() -> None:
    def build(state: Any) -> Any:
        def early(link: ReceivingLink, limit_bytes: int, *, closed: bool) -> Any:
            said = state(link, limit_bytes, closed=closed)
            said.__dict__["settled"] = [[1, link.expected - 1, ACKED]] if link.expected > 1 else []
            return said

        return early

    replace(ReceivingLink, "state", build)


@bug(SIMULATION)
def what_a_lost_connection_carried_is_not_sent_again() -> None:
    replace(Pushing, "_resend", lambda resend: nothing)


@bug("tests/core/test_node.py::test_what_was_under_way_when_both_connections_broke_is_sent_again")
def a_work_connection_that_broke_with_the_mailbox_is_not_made_anew() -> None:
    """One that zq has had: the resend waited for a connection that nobody opened."""

    def build(on_up: Any) -> Any:
        def forgetful(node: Node, remote: Any, now: float, *, first: bool) -> None:
            generation, remote.generation = remote.generation, 0 if remote.work is None else remote.generation
            on_up(node, remote, now, first=first)
            remote.generation = max(remote.generation, generation)

        return forgetful

    replace(Node, "on_up", build)


@bug("tests/core/test_pulling.py::test_a_batch_that_overtakes_another_waits_for_it")
def batches_that_overtake_others_are_handed_out_at_once() -> None:
    def build(on_batch: Any) -> Any:
        def hasty(pulling: Pulling, header: Any, batch: Any, now: float) -> Any:
            link = pulling._links.get(header.link)
            if link is not None and link.peer == header.sender and batch.first > link.expected:
                link.expected = batch.first
            return on_batch(pulling, header, batch, now)

        return hasty

    replace(Pulling, "on_batch", build)


@bug(SIMULATION)
def what_was_received_before_is_received_again() -> None:
    def build(accept: Any) -> Any:
        def again(pulling: Pulling, link: ReceivingLink, batch: Any, now: float) -> None:
            if batch.first < link.expected:
                link.expected = batch.first
            accept(pulling, link, batch, now)

        return again

    replace(Pulling, "_accept", build)


@bug("tests/core/test_pushing.py::test_states_are_merged_by_maximum")
def states_are_merged_by_last_instead_of_maximum() -> None:
    def build(merge: Any) -> Any:
        def last(pushing: Pushing, link: SendingLink, state: Any, now: float) -> None:
            link.limit, link.heard, link.expected = state.limit, state.heard, min(link.expected, state.expected)
            link.limit_bytes = state.limit_bytes
            merge(pushing, link, state, now)

        return last

    replace(Pushing, "_merge", build)


@bug(SIMULATION)
def a_repeated_receipt_settles_a_number_again() -> None:
    """One that zq has had: the second receipt went to a neighbour."""
    replace(Ranges, "add", lambda add: lambda ranges, first, last: (add(ranges, first, last), [(first, last)])[1])


@bug(SIMULATION)
def redelivered_messages_claim_to_be_new() -> None:
    def build(retry: Any) -> Any:
        def silent(outbox: Outbox, pieces: Any, **due: Any) -> None:
            retry(outbox, pieces, **due)
            for piece in pieces:
                piece.redelivered = False

        return silent

    replace(Outbox, "retry", build)


@bug(SIMULATION)
def what_a_lost_puller_had_is_forgotten() -> None:
    def build(end: Any) -> Any:
        def forget(pushing: Pushing, link: SendingLink, now: float, *, charge: bool) -> None:
            link.flights.clear()
            link.firsts.clear()
            end(pushing, link, now, charge=charge)

        return forget

    replace(Pushing, "_end", build)


@bug(SIMULATION)
def a_closing_puller_does_not_give_back() -> None:
    def build(close: Any) -> Any:
        def greedy(pulling: Pulling, puller: Any, now: float) -> None:
            close(pulling, puller, now)
            for link in puller.links.values():
                for low, high in link.given_back:
                    link.acked.add(low, high)
                link.given_back = Ranges()

        return greedy

    replace(Pulling, "close", build)


@bug("tests/core/test_node.py::test_a_pusher_that_comes_back_has_given_its_work_to_others")
def a_pusher_that_was_given_up_and_is_back_finds_its_old_links() -> None:
    replace(Pulling, "on_back", lambda on_back: nothing)
    replace(Pulling, "on_session", lambda on_session: nothing)


# --- queues: attempts


@bug("tests/core/test_pushing.py::test_a_crash_charges_what_was_handed_out_and_the_lowest_that_had_arrived")
def an_attempt_is_charged_to_all_that_a_lost_puller_had() -> None:
    def build(end: Any) -> Any:
        def everybody(pushing: Pushing, link: SendingLink, now: float, *, charge: bool) -> None:
            link.handed = link.next - 1
            end(pushing, link, now, charge=charge)

        return everybody

    replace(Pushing, "_end", build)


@bug("tests/core/test_pushing.py::test_a_crash_charges_what_was_handed_out_and_the_lowest_that_had_arrived")
def an_attempt_is_charged_to_nobody() -> None:
    replace(Pushing, "_end", lambda end: lambda pushing, link, *, charge: end(pushing, link, charge=False))


@bug(SIMULATION)
def a_nack_charges_no_attempt() -> None:
    def build(retry: Any) -> Any:
        def uncharged(outbox: Outbox, pieces: Any, **due: Any) -> None:
            for piece in pieces:
                if piece.nacked:
                    piece.attempt = max(piece.attempt - 1, 1)
            retry(outbox, pieces, **due)

        return uncharged

    replace(Outbox, "retry", build)


@bug("tests/core/test_pushing.py::test_a_charged_message_goes_alone_until_it_is_nacked")
def a_message_that_killed_its_worker_takes_others_along() -> None:
    def build(pick: Any) -> Any:
        def together(outbox: Outbox, most: int, most_bytes: int) -> Any:
            for piece in outbox.again:
                piece.alone = False
            return pick(outbox, most, most_bytes)

        return together

    replace(Outbox, "pick", build)


@bug("tests/core/test_pushing.py::test_what_is_nacked_for_ever_holds_nobody_up")
def what_is_nacked_for_ever_goes_first_for_ever() -> None:
    """One that zq has had: fresh messages starved."""

    def build(pick: Any) -> Any:
        def stubborn(outbox: Outbox, most: int, most_bytes: int) -> Any:
            picked = pick(outbox, most, most_bytes)
            outbox.fresh_next = False
            return picked

        return stubborn

    replace(Outbox, "pick", build)


# --- queues: probes, credit, windows


@bug(SIMULATION)
def no_probe_is_repeated() -> None:
    replace(Pushing, "_probe_again", lambda probe_again: nothing)


@bug(SIMULATION)
def credit_given_back_is_leaked() -> None:
    def build(demand: Any) -> Any:
        def leaky(pulling: Pulling, link: ReceivingLink, sent: int, returned: int, wanted: int) -> None:
            demand(pulling, link, sent, min(returned, link.returned), wanted)

        return leaky

    replace(Pulling, "_demand", build)


@bug(SIMULATION)
def more_is_granted_than_the_prefetch() -> None:
    import zq.core.pulling

    share_out = zq.core.pulling.share_out
    zq.core.pulling.share_out = lambda size, links, turn: share_out(size + 1, links, turn)


@bug("tests/core/test_outbox.py::test_the_window_bounds_what_is_held_and_opens_as_it_is_settled")
def a_window_has_no_end() -> None:
    def build(take: Any) -> Any:
        def endless(outbox: Outbox, *arguments: Any) -> Any:
            window, outbox.window = outbox.window, 1 << 40
            try:
                return take(outbox, *arguments)
            finally:
                outbox.window = window

        return endless

    replace(Outbox, "take", build)


# --- topics


@bug(SIMULATION)
def a_subscription_begins_with_what_comes_first_instead_of_its_fence() -> None:
    def build(on_batch: Any) -> Any:
        def unfenced(receptions: Receptions, publisher: bytes, batch: Any, now: float) -> None:
            for subscription in receptions:
                cursor = subscription.cursors.get((publisher, batch.topic))
                if cursor is not None and cursor.next is None and batch.count:
                    cursor.begin(batch.first)
            on_batch(receptions, publisher, batch, now)

        return unfenced

    replace(Receptions, "on_batch", build)


@bug(SIMULATION)
def a_fence_whose_answer_was_lost_is_not_set_again() -> None:
    replace(Receptions, "_fence_again", lambda fence_again: nothing)


@bug("tests/core/test_node.py::test_the_last_message_of_a_burst_that_is_lost_comes_within_a_moment")
def heads_are_not_repeated() -> None:
    replace(Topics, "_repeat_head", lambda repeat_head: nothing)


@bug(SIMULATION)
def a_hole_is_passed_over_in_silence() -> None:
    def build(offer: Any) -> Any:
        def skip(receptions: Receptions, cursor: Any, batch: Any) -> Any:
            if cursor.next is not None and batch.first > cursor.next and not cursor.behind:
                cursor.start += batch.first - cursor.next  # so that the ledger balances all the same
                cursor.next = batch.first
            return offer(receptions, cursor, batch)

        return skip

    replace(Receptions, "_offer", build)


@bug(SIMULATION)
def a_repair_that_was_lost_is_not_asked_for_again() -> None:
    replace(Receptions, "_ask_again", lambda ask_again: nothing)


@bug(SIMULATION)
def gaps_are_counted_and_not_told() -> None:
    replace(Receptions, "_tell", lambda tell: nothing)


@bug("tests/core/test_ring.py::test_the_budget_holds_but_the_newest_of_each_topic_stays")
def the_ring_forgets_one_message_more_than_it_says() -> None:
    track = Track.oldest.fget
    assert track is not None
    Track.oldest = property(lambda self: track(self) + (self.left > 0))  # type: ignore[method-assign,assignment]


@bug(SIMULATION)
def what_a_slow_subscription_drops_is_not_counted() -> None:
    def build(drop: Any) -> Any:
        def uncounted(inbox: SubscriptionInbox, batch: Any) -> None:
            drop(inbox, batch)
            inbox.dropped.clear()

        return uncounted

    replace(SubscriptionInbox, "_drop", build)


@bug("tests/core/test_node.py::test_what_a_publisher_could_not_get_across_before_its_goodbye_is_a_gap")
def a_goodbye_does_not_say_what_is_still_owed() -> None:
    replace(Topics, "owed_heads", lambda owed_heads: lambda topics, peer: [])


@bug("tests/core/test_topics.py::test_what_a_waiting_follower_has_not_taken_stays_in_the_ring")
def a_topic_runs_further_ahead_than_its_ring() -> None:
    """One that zq has had: the burst that filled the window was sent as a whole."""
    replace(Topics, "_room", lambda room: lambda topics, topic, now: len(topic.outgoing.items))


@bug("tests/core/test_node.py::test_a_publisher_leaves_a_slow_subscriber_behind_when_its_patience_ends")
def a_publisher_waits_for_ever() -> None:
    def build(room: Any) -> Any:
        def patient(topics: Topics, topic: Any, now: float) -> Any:
            for follower in topic.followers.values():
                follower.stalled_since = None
            return room(topics, topic, now)

        return patient

    replace(Topics, "_room", build)


# --- peers


@bug(SIMULATION)
def an_entry_is_sent_once_whether_noted_or_not() -> None:
    def build(send_entry: Any) -> Any:
        def once(meeting: Meeting, remote: Any, now: float) -> None:
            if remote.entry_patience == 0.0:
                send_entry(meeting, remote, now)

        return once

    replace(Meeting, "_send_entry", build)


@bug("tests/core/test_node.py::test_an_older_entry_changes_nothing")
def an_entry_that_comes_late_wins() -> None:
    def build(on_entry: Any) -> Any:
        def latest(meeting: Meeting, sender: bytes, entry: Any, now: float) -> None:
            remote = meeting.roster.get(sender)
            if remote is not None and remote.entry is not None and remote.entry.version > entry.version:
                remote.entry.__dict__["version"] = -1
            on_entry(meeting, sender, entry, now)

        return latest

    replace(Meeting, "on_entry", build)


@bug("tests/core/test_lies.py::test_a_lie_costs_only_the_liar[receipts_for_links_of_others]")
def receipts_are_taken_from_anybody() -> None:
    def build(on_state: Any) -> Any:
        def trusting(pushing: Pushing, peer: bytes, state: Any, now: float) -> None:
            link = pushing._links.get(state.link)
            on_state(pushing, peer if link is None else link.peer, state, now)

        return trusting

    replace(Pushing, "on_state", build)


@bug("tests/core/test_lies.py::test_a_lie_costs_only_the_liar[messages_of_somebody_elses_topic]")
def whoever_says_so_is_the_publisher() -> None:
    def build(on_batch: Any) -> Any:
        return lambda receptions, publisher, batch, now: on_batch(receptions, batch.sender, batch, now)

    replace(Receptions, "on_batch", build)


@bug("tests/core/test_node.py::test_a_ledger_that_is_none_is_malformed")
def a_ledger_of_another_peer_is_believed() -> None:
    """One that zq has had: a hostile reply killed the engine."""
    import zq.core.ledger

    zq.core.ledger._of_kind = lambda kind, value: value  # type: ignore[assignment]


if __name__ == "__main__":
    sys.exit(garden.main(sys.argv[1:]))
