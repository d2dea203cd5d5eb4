"""A peer without its waiting: its senders and receivers, its spools, and what it knows of its realm."""

from __future__ import annotations

from typing import Any, TypeVar

from zq.core.account import add_up
from zq.core.departures import last_words
from zq.errors import Timeout
from zq.handles.receivers import Receivers
from zq.handles.senders import Senders
from zq.handles.spool import SpoolCore
from zq.handles.steps import Steps, deadline_after, until
from zq.info import Departed, Ledger, PeerInfo, QueueInfo, SpoolAnswer, TopicInfo
from zq.wire.names import check_name

SpoolT = TypeVar("SpoolT", bound=SpoolCore)
LEAVING = 1.0  # s that leaving with an exception under way may take


class PeerCore(Senders, Receivers):
    """What zq.Peer and zq.aio.Peer share. Thread-safe but for opening and closing."""

    # --- spools

    def _inspect_steps(self, action: int, timeout: float | None, **options: Any) -> Steps[SpoolAnswer]:
        from zq.handles.look import inspect_steps  # with all that reads a disk: few programs need it

        return inspect_steps(self._running(), action, timeout, **options)

    def _purge_spools_steps(self, queue: str, timeout: float | None) -> Steps[SpoolAnswer]:
        from zq.handles.look import purge_steps  # the same

        return purge_steps(self._running(), queue, timeout)

    def _forget_cursor_steps(self, stream: str, cursor: str, timeout: float | None) -> Steps[SpoolAnswer]:
        from zq.handles.look import forget_steps  # the same

        return forget_steps(self._running(), stream, cursor, timeout)

    def _keep_spool(self, spool: SpoolT) -> SpoolT:
        with self._lock:
            self._spools.append(spool)
        return spool

    def _close_spool_steps(self, spool: SpoolCore, timeout: float | None) -> Steps[None]:
        deadline_after(timeout)
        with self._lock:
            if spool in self._spools:
                self._spools.remove(spool)
        yield from spool._close_steps(timeout)

    # --- the realm

    def peers(self) -> list[PeerInfo]:
        """The other peers of the realm, as they are now; those of another protocol version as `incompatible`."""
        engine = self._running()

        def look() -> list[PeerInfo]:
            node = engine.node
            return [
                remote.info(node.now)
                for remote in node.meeting.roster
                if remote.joined_at is not None or remote.incompatible
            ]

        return engine.call(look)

    def strangers(self) -> int:
        """How many peers are near that this one cannot meet: of another realm, or with another key. They are known
        by what they tell everybody, which is no name."""
        engine = self._running()
        return engine.call(engine.strangers)

    def _ask_around(self, duration: float) -> None:
        """Blocks, for so many seconds: everybody near is asked who he is, from a port of our own."""
        from zq.discovery.question import ask  # with what packets are made of: few programs need it

        engine = self._running()
        addresses = engine.call(lambda: engine.lookout.announced)
        if addresses:
            sightings = [answer.peer for answer in ask(addresses, duration=duration)]
            engine.call(lambda: engine.lookout.note(sightings))

    def _wait_for_peers_steps(self, count: int, timeout: float | None) -> Steps[None]:
        deadline = deadline_after(timeout)
        engine = self._running()
        if not (yield from until(engine, lambda: engine.node.has_up(count) or count <= 0, deadline)):
            raise Timeout(f"fewer than {count} other peers in realm {self.realm} within {timeout} s")

    def _wait_for_repliers_steps(self, service: str, count: int, timeout: float | None) -> Steps[None]:
        check_name(service, "service")
        deadline = deadline_after(timeout)
        engine = self._running()
        requesting = engine.node.requesting
        if not (yield from until(engine, lambda: len(requesting.repliers(service)) >= count, deadline)):
            raise Timeout(f"fewer than {count} repliers of {service} in realm {self.realm} within {timeout} s")

    def _settle_steps(self, timeout: float | None) -> Steps[None]:
        deadline = deadline_after(timeout)
        engine = self._running()
        if not (yield from until(engine, engine.node.is_settled, deadline)):
            raise Timeout(f"realm {self.realm} has not settled within {timeout} s")

    def topics(self) -> list[TopicInfo]:
        """Every topic that is published in the realm, by this peer too, by name."""
        from zq.handles.listing import list_topics  # few programs need it

        engine = self._running()
        return engine.call(lambda: list_topics(engine))

    def queues(self) -> list[QueueInfo]:
        """Every queue that is pushed to or pulled from in the realm, by this peer too, by name."""
        from zq.handles.listing import list_queues  # few programs need it

        engine = self._running()
        return engine.call(lambda: list_queues(engine))

    def _ledger_steps(self, realm: bool, timeout: float | None) -> Steps[Ledger]:
        deadline = deadline_after(timeout)
        engine = self._running()
        node = engine.node
        if not realm:
            return engine.call(lambda: node.ledger(node.now))

        def ask() -> tuple[int, dict[bytes, Departed]]:
            asked = {remote.id: last_words(remote) for remote in node.meeting.roster if remote.joined_at is not None}
            return node.questions.ask(asked, node.now), asked

        request, asked = engine.call(ask)
        replies = node.questions.replies(request)

        def complete() -> bool:
            return all(id in replies or node.meeting.roster.get(id) is None for id in asked)

        yield from until(engine, complete, deadline)

        def gather() -> Ledger:
            node.questions.forget(request)
            return node.ledger(node.now)

        mine = engine.call(gather)
        others = sorted(replies.values(), key=lambda ledger: (ledger.name, ledger.peer))
        return add_up(mine, others, [words for id, words in asked.items() if id not in replies])
