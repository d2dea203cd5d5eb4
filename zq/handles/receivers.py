"""The subscribers, pullers and repliers of a peer: each is one of its own."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence

from zq.core.cursors import PASSING
from zq.core.inbox import Inbox, Slow, SubscriptionInbox
from zq.core.replier import RequestInbox
from zq.core.subscription import INHERIT_PATIENCE, patience_on_wire
from zq.errors import Refused, Timeout
from zq.handles.incoming import DurableInbox, PullerCore, Receiver, SubscriberCore
from zq.handles.life import Life
from zq.handles.replying import ReplierCore
from zq.handles.since import Since, check_cursor, position_of
from zq.handles.steps import Steps, deadline_after, until
from zq.info import Gap
from zq.message import INHERIT, Inherit
from zq.wire.names import Filter, check_name, check_not_dead, check_queue

POLICIES = ("wait", "drop-oldest", "latest")
READ_BYTES = 64 << 20  # bytes that a durable subscription may have here unsettled; a puller's default


class Receivers(Life):
    """Opens and closes them."""

    def _open_subscriber(
        self,
        handle: SubscriberCore,
        filters: Iterable[str],
        slow: Slow,
        patience: float | Inherit | None,
        on_gap: Callable[[Gap], None] | None,
        durable: str | None,
        since: Since | None,
    ) -> None:
        engine = self._running()
        checked = [Filter(text) for text in filters]
        for filter in checked:
            check_not_dead(filter.text, "filter")
        if not checked:
            raise Refused("a subscriber needs at least one filter; '**' is every topic")
        if slow not in POLICIES:
            raise Refused(f"slow is one of {', '.join(POLICIES)}; not {slow!r}")
        if patience is INHERIT:
            waits = INHERIT_PATIENCE
        elif patience is None or (isinstance(patience, int | float) and patience >= 0):
            waits = patience_on_wire(patience)
        else:
            raise Refused(f"patience is seconds >= 0, None for ever or zq.INHERIT; not {patience!r}")
        handle._on_gap = on_gap
        if durable is not None or since is not None:
            if slow != "wait":
                which = "durable" if durable is not None else "since"
                raise Refused(
                    f"slow={slow!r} is not for a subscription with {which}=: its spool keeps what it has not taken"
                )
            self._read(handle, checked, durable, since)
        else:
            inbox = SubscriptionInbox(slow, handle._waiters.wake)
            handle._inbox = inbox
            node = engine.node
            handle.attach(engine.call(lambda: node.subscribe(checked, inbox, waits, node.now)))
        with self._lock:
            self._receivers.append(handle)

    def _read(
        self, handle: SubscriberCore, filters: Sequence[Filter], durable: str | None, since: Since | None
    ) -> None:
        """From a spool, by a cursor; without `durable` by one that nobody else knows."""
        name = PASSING + os.urandom(8).hex() if durable is None else check_cursor(durable)
        begin = None if since is None else position_of(since)
        inbox = DurableInbox(handle._waiters.wake)
        inbox.note = handle._note
        handle._inbox = inbox
        engine = self._running()
        node, lasting = engine.node, durable is not None
        handle.attach_durable(
            engine.call(
                lambda: node.read(name, filters, begin, inbox, lasting=lasting, prefetch_bytes=READ_BYTES, now=node.now)
            )
        )

    def _open_puller(
        self,
        handle: PullerCore,
        queue: str,
        prefetch: int | None,
        prefetch_bytes: int,
        work_timeout: float | None,
        topics: Iterable[str],
    ) -> None:
        engine = self._running()
        check_name(queue, "queue")
        if isinstance(topics, str):
            raise Refused(f"topics are a sequence of filters, as in topics=[{topics!r}]")
        filters = [Filter(text) for text in topics]
        if filters:
            check_queue(queue)
        for filter in filters:
            check_not_dead(filter.text, "filter")
        for what, value in (("prefetch", prefetch), ("prefetch_bytes", prefetch_bytes)):
            if not (value is None and what == "prefetch") and (not isinstance(value, int) or value < 1):
                raise Refused(f"{what} is a whole number >= 1, not {value!r}")
        if work_timeout is not None and not (isinstance(work_timeout, int | float) and 0 < work_timeout < math.inf):
            raise Refused(f"work_timeout is seconds > 0, or None for as long as it takes; not {work_timeout!r}")
        inbox = Inbox(handle._waiters.wake)
        inbox.note = handle._note
        handle._inbox = inbox
        node = engine.node
        handle.attach(
            engine.call(
                lambda: node.pull(
                    queue,
                    inbox,
                    prefetch=prefetch,
                    prefetch_bytes=prefetch_bytes,
                    work_timeout=work_timeout,
                    topics=filters,
                    now=node.now,
                )
            )
        )
        with self._lock:
            self._receivers.append(handle)

    def _open_replier(self, handle: ReplierCore, service: str) -> None:
        engine = self._running()
        check_name(service, "service")
        inbox = RequestInbox(handle._waiters.wake)
        inbox.note = handle._note
        handle._inbox = inbox
        handle.attach(engine.call(lambda: engine.node.reply_to(service, inbox)))
        with self._lock:
            self._receivers.append(handle)

    def _close_receiver_steps(self, receiver: Receiver, timeout: float | None) -> Steps[None]:
        deadline_after(timeout)
        with self._lock:
            if receiver in self._receivers:
                self._receivers.remove(receiver)
        if isinstance(receiver, PullerCore | SubscriberCore | ReplierCore):
            yield from receiver._close_steps(timeout)

    def _unbind_steps(self, puller: PullerCore, timeout: float | None) -> Steps[None]:
        """Closes it; then everybody is told that the queue need not be bound any more."""
        deadline = deadline_after(timeout)
        if not puller._core.filters:
            raise Refused(f"the puller of {puller.name} binds it to no topics; just close it")
        yield from self._close_receiver_steps(puller, timeout)
        engine = puller._engine
        if engine.closed or engine.forked or engine.failed:
            return
        node = engine.node
        version = engine.call(lambda: node.unbind(puller.name, node.now))
        told = yield from until(engine, lambda: node.announcement.has_entries(version), deadline)
        engine.call(lambda: node.unbound(puller.name))
        if not told:
            raise Timeout(f"not all peers know within {timeout} s that {puller.name} is not bound any more")
