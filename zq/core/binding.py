"""Queues that are bound to topics, at the publisher: from then on it is a pusher of them.

A puller that names topics *binds* its queue to them. Every publisher that hears of it holds each message of those
topics for the queue as well, in an outbox of its own, until one of the queue's pullers has settled it. The messages
are those that go to subscribers: they keep origin, number and topic. An outbox is opened, and its links with it, when
the first message for it is published; if the program pushes to that queue itself, the two share one.

States of a binding, at one publisher, by queue:

    none --entry names a puller--> bound --no puller for UNBIND_AFTER, or an unbind--> none
                                    |  ^
                                    +--+ pullers come and go; the binding and where it stands remain

States of one topic in it (a Hold), and what a puller that is new to the binding does:

    none ---the topic is opened later, or has no message yet: from its first one-----------> held from `start`
    none ---it has messages---> pending ---since: when the puller came into being--------> held from `start`
    held from `start` ---since: it came into being before that: what lies between goes out as redelivered---> held

- entry: a puller that is new is asked when it came into being, by this peer's clock, if any topic has messages that
  may be younger (Binding, repeated until its answer, Since). A clock that was stamped before the question left, less
  the puller's age when it arrived: too early by the question's transit, never late. If there are messages between that
  and what the answer's arrival allows for at most, the puller is asked again, and the latest of ASKS answers counts: it
  is too early by the shortest of their transits.
- pending: what is published meanwhile is kept here and counts against the window; what is older is in the ring.
- since: what the ring has of the time before goes to the outbox, then what was kept. What the ring has no more is
  counted as dropped ("left the ring"). A second puller that asks for the same adds nothing: each number enters the
  outbox once. `start` only goes down, so that two replicas that come at once, or in any order, start it once.
- puller gone: the binding stays, so that all replicas of a service may be restarted. One that is lost before it has
  answered was there when its entry came: the hold starts there.
- revived: a dead letter of a queue that is bound no more is to be tried again: a binding to no topics holds it, until
  nothing is left.
- unbound: what waits is dropped and counted ("unbound"). How far each topic was bound is remembered, so that a puller
  that was away for longer, and is the same, goes on behind that.

Held back: a topic is not published on while a queue that it is bound to has a full window, for however long.
A crash of this process loses what it holds, as with any pusher; a crash of the pullers loses nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from zq.core.bound import BOUND_BYTES, BOUND_WINDOW, Binding, Bond, Hold, Portion, in_ring
from zq.core.outbox import MAX_ATTEMPTS, Outbox
from zq.core.past import UNBOUND, Past
from zq.core.pushing import Pushing
from zq.core.timers import Timers
from zq.core.topics import Topic, Topics
from zq.info import Gap
from zq.wire.frames import Binding as Question
from zq.wire.frames import Entry, Since
from zq.wire.names import DEAD, Filter

UNBIND_AFTER = 60.0  # s without a puller until a binding ends: a restart of all replicas takes less
ASK_AFTER, ASK_MOST = 0.2, 2.0  # s until a puller is asked again when it came into being, doubled up to
ASKS = 4  # answers of a puller at most, of which the latest counts; the shortest of so many transits is a usual one
BINDINGS_MOST = 1_000  # queues bound to topics of one publisher; more are refused, as each costs every message
REMEMBERED = 4_096  # pullers of a binding, queues and topics that are unbound; then the oldest are forgotten
REVIVED = "revived"  # names a timer
LEFT_RING = "left the ring"  # why messages are dropped, in the ledger


class Bindings:
    """All queues that are bound to topics of this peer. `changed` is called when what it pushes to has changed."""

    def __init__(
        self,
        timers: Timers,
        send: Callable[[bytes, Question], None],
        topics: Topics,
        pushing: Pushing,
        changed: Callable[[], None],
        trouble: Callable[[str], None],
    ) -> None:
        self._timers = timers
        self._send = send
        self._topics = topics
        self._pushing = pushing
        self._changed = changed
        self._trouble = trouble
        self._bindings: dict[str, Binding] = {}
        self._left: OrderedDict[tuple[str, str], int] = OrderedDict()  # queue, topic: bound up to here
        self.past = Past()
        self._refused = False

    # --- pullers coming and going

    def on_entry(self, peer: bytes, entry: Entry, now: float) -> None:
        """What `peer` (this one included) binds as of now."""
        rows = {(puller, queue): filters for queue, puller, filters in entry.binds if filters}
        for binding in list(self._bindings.values()):
            for bond in [*binding.bonds.values()]:
                if bond.peer == peer and (bond.puller, binding.queue) not in rows:
                    self._lose(binding, bond, now)
        for (puller, queue), filters in rows.items():
            bound = self._bindings.get(queue) or self._new(queue)
            if bound is not None and (peer, puller) not in bound.bonds:
                new = (peer, puller) not in bound.known
                self._gain(bound, Bond(puller, peer, tuple(map(Filter, filters)), new), now)
        for queue in entry.unbinds:
            bound = self._bindings.get(queue)
            if bound is not None and bound.filters and not bound.bonds:
                self.unbind(bound, now)

    def on_gone(self, peer: bytes, now: float) -> None:
        for binding in list(self._bindings.values()):
            for bond in [bond for bond in binding.bonds.values() if bond.peer == peer]:
                self._lose(binding, bond, now)

    def _new(self, queue: str) -> Binding | None:
        if queue.endswith(DEAD):
            return None  # nobody pushes to it
        if len(self._bindings) >= BINDINGS_MOST:
            if not self._refused:
                self._trouble(f"{BINDINGS_MOST} queues are bound to topics of this peer; {queue} and more are not")
            self._refused = True
            return None
        binding = self._bindings[queue] = Binding(queue, self._pushing, self._changed)
        return binding

    def _gain(self, binding: Binding, bond: Bond, now: float) -> None:
        key = bond.peer, bond.puller
        binding.bonds[key], binding.known[key] = bond, None
        if len(binding.known) > REMEMBERED:
            binding.known.popitem(last=False)
        for filter in bond.filters:
            binding.filters[filter] = None
            self._timers.cancel((binding, filter))
        for topic in self._topics:
            if bond.matches(topic.name):
                hold = binding.holds.get(topic.name) or self._hold(binding, topic)
                bond.asked |= hold.pending is not None or (bond.new and hold.start > self._floor(hold))
        if bond.asked:
            self._ask(binding, bond, now)

    def _lose(self, binding: Binding, bond: Bond, now: float) -> None:
        """Its puller has closed, or its peer is gone. One of the same filters may come instead."""
        del binding.bonds[bond.peer, bond.puller]
        if bond.asked:
            self._place(binding, bond, bond.began if bond.answers else None, now)
        wanted = {filter for other in binding.bonds.values() for filter in other.filters}
        for filter in bond.filters:
            if filter not in wanted:
                self._timers.set((binding, filter), now + UNBIND_AFTER, partial(self._expire, binding, filter))

    def _expire(self, binding: Binding, filter: Filter, now: float) -> None:
        """Nobody has wanted it for long."""
        del binding.filters[filter]
        if not binding.filters:
            self.unbind(binding, now)
            return
        for hold in list(binding.holds.values()):
            if not binding.matches(hold.topic.name):
                self._drop(hold, now)

    # --- where a topic starts

    def on_topic(self, topic: Topic) -> None:
        """It was opened; it has no message yet."""
        for binding in self._bindings.values():
            if binding.matches(topic.name):
                self._hold(binding, topic)

    def _hold(self, binding: Binding, topic: Topic) -> Hold:
        """From the next message on; pending if there are some already."""
        hold = Hold(topic, binding, topic.head + 1, [] if topic.head else None)
        binding.holds[topic.name] = hold
        topic.bound = (*topic.bound, hold)
        return hold

    def _floor(self, hold: Hold) -> int:
        """Nothing below this number is for the queue, whenever a puller came into being."""
        return self._left.get((hold.binding.queue, hold.topic.name), 0) + 1

    def _ask(self, binding: Binding, bond: Bond, now: float) -> None:
        bond.patience, bond.asked_at = min(max(bond.patience * 2, ASK_AFTER), ASK_MOST), now
        self._timers.set((bond, "ask"), now + bond.patience, lambda when: self._ask(binding, bond, when))
        self._send(bond.peer, Question(binding.queue, bond.puller, now))

    def on_since(self, peer: bytes, since: Since, now: float) -> None:
        binding = self._bindings.get(since.queue)
        bond = binding.bonds.get((peer, since.puller)) if binding is not None else None
        if binding is None or bond is None or not bond.asked:
            return
        clock = float(since.clock)
        bond.began = max(bond.began, clock)
        bond.answers += 1
        if bond.answers < ASKS and self._is_vague(binding, bond, clock + now - bond.asked_at):
            self._ask(binding, bond, now)
        else:
            self._place(binding, bond, bond.began, now)

    def _is_vague(self, binding: Binding, bond: Bond, latest: float) -> bool:
        """Whether there are messages for which it matters when, up to `latest`, the puller came into being."""
        holds = [hold for hold in binding.holds.values() if bond.matches(hold.topic.name)]
        return any(self._first(hold, bond.began) != self._first(hold, latest) for hold in holds)

    def _place(self, binding: Binding, bond: Bond, began: float | None, now: float) -> None:
        """The puller came into being at `began`; None: nobody will know, but it was there when its entry came."""
        bond.asked = False
        self._timers.cancel((bond, "ask"))
        found: list[tuple[Hold, Portion, bool]] = []
        for hold in binding.holds.values():
            if not bond.matches(hold.topic.name):
                continue
            first = hold.start if began is None else self._first(hold, began)
            again = hold.pending is None
            if first < hold.start:
                oldest = hold.topic.track.oldest
                if first < oldest:
                    self._count_lost(binding, hold, first, min(oldest, hold.start) - 1, now)
                found += [(hold, portion, again) for portion in in_ring(hold.topic, max(first, oldest), hold.start - 1)]
                hold.start = first
            found += [(hold, portion, False) for portion in self._kept(hold)]
        for hold, portion, again in sorted(found, key=lambda item: item[1].run.first):
            binding.feed(hold, portion, now, again=again)

    def _kept(self, hold: Hold) -> list[Portion]:
        """What was pending is so no more."""
        portions, hold.pending = hold.pending or [], None
        hold.binding.kept -= sum(portion.run.length for portion in portions)
        hold.binding.kept_bytes -= sum(portion.size for portion in portions)
        return portions

    def _first(self, hold: Hold, began: float) -> int:
        """The first message for the queue; not beyond where the hold starts anyway."""
        topic = hold.topic
        if topic.first_clock >= began:
            first = 1
        elif topic.last_clock < began:
            first = topic.head + 1
        else:
            first = topic.track.since(began)
        return min(max(first, self._floor(hold)), hold.start)

    def _count_lost(self, binding: Binding, hold: Hold, first: int, last: int, now: float) -> None:
        count = last - first + 1
        gap = Gap(topic=hold.topic.name, publisher=self._topics.publisher, first=first, last=last)
        binding.open(now).lose(gap, count, LEFT_RING)
        self._trouble(f"queue {binding.queue} was bound too late for {count} messages of topic {hold.topic.name}")

    # --- the end

    def unbind(self, binding: Binding, now: float) -> None:
        """Nobody wants it any more: what waits is dropped."""
        for hold in list(binding.holds.values()):
            self._drop(hold, now)
        for filter in binding.filters:
            self._timers.cancel((binding, filter))
        self._timers.cancel((binding, REVIVED))
        self._bindings.pop(binding.queue, None)
        outbox = binding.outbox
        if outbox is not None and binding.shared:
            outbox.give_up_bound(UNBOUND)
            self._pushing.released.add(outbox)
            outbox.outgoing.wake()
        elif outbox is not None:
            row = self._pushing.row(outbox)
            self._pushing.close(outbox)
            self.past.count(row)
            self._changed()

    def _drop(self, hold: Hold, now: float) -> None:
        """The topic is not bound any more; what was is still to be delivered."""
        topic, binding = hold.topic, hold.binding
        for portion in self._kept(hold):
            binding.feed(hold, portion, now)
        del binding.holds[topic.name]
        topic.bound = tuple(other for other in topic.bound if other is not hold)
        key = binding.queue, topic.name
        self._left[key] = topic.head
        self._left.move_to_end(key)
        if len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        self._topics.released.add(topic)

    # --- handles of the same queue

    def adopt(self, queue: str, *, window: int, window_bytes: int, max_attempts: int, now: float) -> Outbox | None:
        """The outbox, for a program that pushes to the queue as well; None if there is none."""
        binding = self._bindings.get(queue)
        if binding is None or binding.outbox is None:
            return None
        binding.shared = True
        binding.outbox.refit(window, window_bytes, max_attempts)
        self._pushing.tell_options(binding.outbox, now)
        return binding.outbox

    def revive(self, queue: str, now: float) -> Outbox:
        """An outbox for dead letters of a queue that was bound and is so no more; it stays until it holds nothing."""
        binding = self._bindings.get(queue)
        if binding is None:
            binding = self._bindings[queue] = Binding(queue, self._pushing, self._changed)
            self._timers.set((binding, REVIVED), now + UNBIND_AFTER, partial(self._end_revived, binding))
        return binding.open(now)

    def _end_revived(self, binding: Binding, now: float) -> None:
        if binding.bonds or binding.filters:
            return  # it is bound again
        if binding.outbox is not None and binding.outbox.held:
            self._timers.set((binding, REVIVED), now + UNBIND_AFTER, partial(self._end_revived, binding))
        else:
            self.unbind(binding, now)

    def keep(self, outbox: Outbox, now: float) -> bool:
        """The program does not push to it any more: whether it stays for a binding."""
        binding = self._bindings.get(outbox.queue)
        if binding is None or binding.outbox is not outbox:
            return False
        binding.shared = False
        outbox.outgoing.limit = -1
        outbox.refit(BOUND_WINDOW, BOUND_BYTES, MAX_ATTEMPTS)
        self._pushing.tell_options(outbox, now)
        return True

    # --- reports

    def is_confirmed(self, topic: Topic, targets: dict[Hold, int]) -> bool:
        """Whether all that the queues were to have of `topic` by the first call with these `targets` is settled."""
        if any(hold.pending is not None for hold in topic.bound):
            return False
        for hold in topic.bound:
            targets.setdefault(hold, hold.last)
        return all(_is_settled(hold, last) for hold, last in targets.items())

    def is_pending(self) -> bool:
        """Whether some puller has to say yet where its queue begins."""
        return any(hold.pending is not None for binding in self._bindings.values() for hold in binding.holds.values())

    def unconfirmed(self, topic: Topic) -> list[Binding]:
        """Queues that have not settled all of `topic`."""
        return [hold.binding for hold in topic.bound if hold.pending is not None or not _is_settled(hold, hold.last)]


def _is_settled(hold: Hold, last: int) -> bool:
    outbox = hold.binding.outbox
    return hold not in hold.topic.bound or outbox is None or outbox.settled_through(last)
