"""Bugs planted into zq, each of which the simulator or a test of the core has to find; see `tests.planting`.

python -m tests.planted.bugs        plants one after another and says what finds it
python -m tests.planted.bugs NAME   plants one and runs what is to find it

The names say what the code then does. Some are bugs that zq has had.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tests.planting import REQUESTS, SIMULATION, SPOOLS, Garden
from zq.core.binding import Binding, Bindings, Hold
from zq.core.encounters import Encounters
from zq.core.entries import Entries
from zq.core.fences import Fences
from zq.core.inbox import SubscriptionInbox
from zq.core.intake import Intake
from zq.core.keys import Keys
from zq.core.lanes import Turns
from zq.core.link import SendingLink
from zq.core.origins import Origins
from zq.core.outbox import Outbox
from zq.core.piece import Piece
from zq.core.probing import Probing
from zq.core.pulling import Pulling
from zq.core.pushing import Pushing
from zq.core.ranges import Ranges
from zq.core.receiving import ReceivingLink
from zq.core.receptions import Receptions
from zq.core.repairs import Repairs
from zq.core.replier import Asked
from zq.core.replying import Replying
from zq.core.requesting import Requesting
from zq.core.ring import Track
from zq.core.seen import Seen
from zq.core.spooling import Spooling
from zq.core.subscription import Cursor
from zq.core.topics import Topics
from zq.handles import outbox as outboxes
from zq.wire.frames import ACKED
from zq.wire.plan import HIGH, LOW, NORMAL

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
        def forgetful(encounters: Encounters, remote: Any, now: float, *, first: bool) -> None:
            generation, remote.generation = remote.generation, 0 if remote.work is None else remote.generation
            on_up(encounters, remote, now, first=first)
            remote.generation = max(remote.generation, generation)

        return forgetful

    replace(Encounters, "on_up", build)


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
    replace(Probing, "_again", lambda probe_again: nothing)


@bug(SIMULATION)
def credit_given_back_is_leaked() -> None:
    def build(demand: Any) -> Any:
        def leaky(pulling: Pulling, link: ReceivingLink, sent: int, returned: int, wanted: int) -> None:
            demand(pulling, link, sent, min(returned, link.returned), wanted)

        return leaky

    replace(Pulling, "_demand", build)


@bug(SIMULATION)
def more_is_granted_than_the_prefetch() -> None:
    import zq.core.receipts

    share_out = zq.core.receipts.share_out
    zq.core.receipts.share_out = lambda size, *rest: share_out(size + 1, *rest)


@bug("tests/core/test_receipts.py::test_who_waits_for_credit_gets_little_when_the_others_do_not_use_theirs")
def who_waits_for_a_whole_step_of_credit_waits_for_ever() -> None:
    import zq.core.receipts

    replace(zq.core.receipts.Receipts, "_late", lambda late: staticmethod(nothing))


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


# --- keys, lanes, times


@bug(SIMULATION)
def a_nack_lets_go_of_the_key() -> None:
    """The next message of the key goes although the one before it is to come again."""

    def build(retry: Any) -> Any:
        def careless(outbox: Outbox, pieces: Any, **due: Any) -> None:
            for piece in pieces:
                if piece.chunk.has_key:
                    outbox._pass_on(piece.chunk)
            retry(outbox, pieces, **due)

        return careless

    replace(Outbox, "retry", build)


@bug(SIMULATION)
def keys_are_ignored() -> None:
    replace(Keys, "claim", lambda claim: lambda keys, key, piece: True)
    replace(Keys, "release", lambda release: nothing)


@bug(SIMULATION)
def who_waits_longest_for_a_key_gets_it_last() -> None:
    def build(release: Any) -> Any:
        def reversed_order(keys: Keys, key: str) -> Any:
            line = keys._behind[key]
            return line.pop() if line else release(keys, key)

        return reversed_order

    replace(Keys, "release", build)


@bug("tests/core/test_lanes.py::test_with_a_prefetch_of_one_the_lanes_take_turns")
def the_low_lane_starves() -> None:
    replace(Turns, "next", lambda next: lambda turns, among: min(among, key=(HIGH, NORMAL, LOW).index))


@bug("tests/core/test_lanes.py::test_the_others_have_their_turns_in_the_inbox_too")
def the_high_lane_goes_first_for_ever() -> None:
    import zq.core.lanes

    zq.core.lanes._allowed = lambda item: 1 << 40


@bug("tests/core/test_plans.py::test_time_is_told_as_what_remains")
def a_ttl_begins_again_with_each_delivery() -> None:
    """It is told as it was given, and not what remains of it."""
    replace(Piece, "items", lambda items: lambda piece, now: items(piece, piece.chunk.taken_at))


@bug(SIMULATION)
def what_has_expired_is_not_counted() -> None:
    def build(expire: Any) -> Any:
        def silent(outbox: Outbox, piece: Any) -> None:
            counted = outbox.expired
            expire(outbox, piece)
            outbox.expired = counted

        return silent

    replace(Outbox, "_expire", build)


@bug(SIMULATION)
def a_delay_ends_by_the_wall_clock() -> None:
    def build(wake: Any) -> Any:
        return lambda pushing, outbox, now: wake(pushing, outbox, now + pushing.ahead)

    replace(Pushing, "_wake_delayed", build)


# --- dead letters


@bug(SIMULATION)
def a_dead_letter_is_lost_on_its_way_to_the_others() -> None:
    """It has left its queue, is counted there, and nobody has it."""
    import zq.core.failures

    zq.core.failures.bury = nothing  # type: ignore[assignment]


@bug(SIMULATION)
def a_dead_letter_that_is_tried_again_is_forgotten() -> None:
    import zq.core.dead

    zq.core.dead.revive = nothing  # type: ignore[assignment]


@bug("tests/core/test_binding.py::test_a_dead_letter_of_a_queue_that_is_bound_no_more_may_be_tried_again")
def a_repeated_unbind_drops_what_is_tried_again() -> None:
    def build(on_entry: Any) -> Any:
        def strict(bindings: Bindings, peer: bytes, entry: Any, now: float) -> None:
            on_entry(bindings, peer, entry, now)
            for queue in entry.unbinds:
                binding = bindings._bindings.get(queue)
                if binding is not None and not binding.bonds:
                    bindings.unbind(binding, now)

        return strict

    replace(Bindings, "on_entry", build)


# --- spools and outboxes on disk


@bug(SPOOLS)
def an_outbox_confirms_what_the_disk_has_not_synced() -> None:
    def build(settle: Any) -> Any:
        def early(intake: Intake) -> None:
            settle(intake)
            intake.safe = intake._taken

        return early

    replace(Intake, "_settle", build)


@bug(SPOOLS)
def what_a_disk_had_no_room_for_is_given_up_in_silence() -> None:
    def build(failed: Any) -> Any:
        def forgetful(intake: Intake) -> None:
            failed(intake)
            intake._again.clear()
            intake._settle()

        return forgetful

    replace(Intake, "on_failed", build)


@bug(SPOOLS)
def a_spool_takes_what_it_could_not_store_for_known() -> None:
    replace(Origins, "remove", lambda remove: nothing)


@bug(
    "tests/core/test_spooling.py::test_what_was_stored_when_the_spool_was_killed_is_told_to_be_stored_and_not_stored_again"
)
def a_spool_has_forgotten_what_it_had_when_it_is_opened_again() -> None:
    def build(open: Any) -> Any:
        def forgetful(spooling: Spooling, found: Any, *rest: Any) -> Any:
            object.__setattr__(found, "known", Origins())
            return open(spooling, found, *rest)

        return forgetful

    replace(Spooling, "open", build)


@bug("tests/core/test_origins.py::test_any_history_agrees_with_a_set")
def the_numbers_between_two_that_came_are_known() -> None:
    def build(add: Any) -> Any:
        def greedy(origins: Origins, origin: bytes, first: int, last: int) -> None:
            known = [low for of, low, _ in origins if of == origin]
            add(origins, origin, min([first, *known]), last)

        return greedy

    replace(Origins, "add", build)


@bug("tests/core/test_intake.py::test_a_ticket_is_safe_when_its_message_is_stored_and_never_before[1]")
def what_its_sender_has_withdrawn_is_delivered() -> None:
    def build(stored: Any) -> Any:
        def deaf(intake: Intake) -> list[int]:
            stored(intake)
            return []

        return deaf

    replace(Intake, "on_stored", build)


@bug("tests/contract/test_outbox.py::test_an_outbox_that_was_set_back_says_so_and_uses_no_number_again[blocking]")
def an_outbox_uses_its_numbers_again() -> None:
    outboxes.origin_of = lambda identity, stream, drawn: stream


# --- requests


@bug("tests/core/test_requesting.py::test_a_reply_to_what_was_abandoned_is_counted_and_dropped")
def a_late_reply_is_delivered() -> None:
    """Nobody waits for the call any more, and it has its reply all the same."""

    def build(abandon: Any) -> Any:
        def half(requesting: Requesting, call: Any, now: float) -> Any:
            return call.ended

        return half

    replace(Requesting, "abandon", build)


@bug(REQUESTS)
def a_request_that_comes_twice_is_executed_twice() -> None:
    replace(Seen, "add", lambda add: lambda seen, number, floor: (add(seen, number, floor), True)[1])


@bug("tests/core/test_replying.py::test_what_its_requester_has_given_up_is_over")
def a_request_that_was_given_up_is_begun() -> None:
    """The floor of later ones does not end it, only its own patience."""
    replace(Asked, "is_over", lambda is_over: lambda asked, now: asked.expires <= now)


@bug(REQUESTS)
def a_request_that_was_lost_is_not_missed() -> None:
    replace(Replying, "on_inquiry", lambda on_inquiry: nothing)


@bug(REQUESTS)
def what_a_lost_replier_had_is_waited_for() -> None:
    replace(Requesting, "on_gone", lambda on_gone: nothing)


# --- bound queues


@bug("tests/core/test_binding.py::test_the_binding_outlives_its_pullers_by_a_minute")
def a_binding_ends_with_its_last_puller() -> None:
    def build(lose: Any) -> Any:
        def ending(bindings: Bindings, binding: Binding, bond: Any, now: float) -> None:
            lose(bindings, binding, bond, now)
            if not binding.bonds:
                bindings.unbind(binding, now)

        return ending

    replace(Bindings, "_lose", build)


@bug(SIMULATION)
def a_binding_begins_when_its_entry_comes() -> None:
    """And not when its puller came into being."""

    def build(place: Any) -> Any:
        return lambda bindings, binding, bond, began, now: place(bindings, binding, bond, None, now)

    replace(Bindings, "_place", build)


@bug("tests/core/test_binding.py::test_of_answers_that_took_long_the_latest_counts")
def a_binding_begins_a_whole_transit_too_early() -> None:
    replace(Bindings, "_is_vague", lambda vague: lambda bindings, binding, bond, latest: False)


@bug(SIMULATION)
def a_replica_starts_the_topic_again() -> None:
    def build(first: Any) -> Any:
        def begin_again(bindings: Bindings, hold: Hold, began: float) -> int:
            if hold.pending is None:
                hold.start = hold.topic.head + 1
            return int(first(bindings, hold, began))

        return begin_again

    replace(Bindings, "_first", build)


@bug(SIMULATION)
def what_is_pending_is_dropped_when_the_puller_has_answered() -> None:
    def build(kept: Any) -> Any:
        def drop(bindings: Bindings, hold: Hold) -> Any:
            return kept(bindings, hold)[:0]

        return drop

    replace(Bindings, "_kept", build)


@bug(SIMULATION)
def a_bound_queue_drops_at_a_full_window() -> None:
    def build_room(room: Any) -> Any:
        return lambda hold, first: (1 << 30, 1 << 40)

    def build_take(take: Any) -> Any:
        def lossy(hold: Hold, piece: Any, run: Any, now: float) -> None:
            outbox = hold.binding.outbox
            if outbox is None or outbox.held < outbox.window:
                take(hold, piece, run, now)

        return lossy

    replace(Hold, "room", build_room)
    replace(Hold, "take", build_take)


@bug("tests/core/test_binding.py::test_the_question_is_repeated_until_it_is_answered")
def a_puller_that_binds_is_asked_only_once() -> None:
    def build(ask: Any) -> Any:
        def once(bindings: Bindings, binding: Binding, bond: Any, now: float) -> None:
            ask(bindings, binding, bond, now)
            bindings._timers.cancel((bond, "ask"))

        return once

    replace(Bindings, "_ask", build)


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
    replace(Fences, "_fence_again", lambda fence_again: nothing)


@bug("tests/core/test_node.py::test_the_last_message_of_a_burst_that_is_lost_comes_within_a_moment")
def heads_are_not_repeated() -> None:
    replace(Topics, "_repeat_head", lambda repeat_head: nothing)


@bug(SIMULATION)
def a_hole_is_passed_over_in_silence() -> None:
    def build(offer: Any) -> Any:
        def skip(cursor: Any, batch: Any) -> Any:
            if cursor.next is not None and batch.first > cursor.next and not cursor.behind:
                cursor.start += batch.first - cursor.next  # so that the ledger balances all the same
                cursor.next = batch.first
            return offer(cursor, batch)

        return skip

    replace(Cursor, "offer", build)


@bug(SIMULATION)
def a_repair_that_was_lost_is_not_asked_for_again() -> None:
    replace(Repairs, "_ask_again", lambda ask_again: nothing)


@bug(SIMULATION)
def gaps_are_counted_and_not_told() -> None:
    replace(Cursor, "tell", lambda tell: nothing)


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
        def once(entries: Entries, remote: Any, now: float) -> None:
            if remote.entry_patience == 0.0:
                send_entry(entries, remote, now)

        return once

    replace(Entries, "_send", build)


@bug("tests/core/test_node.py::test_an_older_entry_changes_nothing")
def an_entry_that_comes_late_wins() -> None:
    def build(on_entry: Any) -> Any:
        def latest(entries: Entries, sender: bytes, entry: Any, now: float) -> None:
            remote = entries._roster.get(sender)
            if remote is not None and remote.entry is not None and remote.entry.version > entry.version:
                remote.entry.__dict__["version"] = -1
            on_entry(entries, sender, entry, now)

        return latest

    replace(Entries, "on_entry", build)


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
