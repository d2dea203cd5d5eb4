"""The outboxes of a peer: directories of its own with a disk thread each, whose queues are kept as a spool keeps them.

A directory may have the outboxes of several queues. Whoever opens it for one of them lets the others go on their way as
well. It is let go of when the last pusher that has it is closed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from zq.core.dead import dead_queue_of
from zq.core.intake import Intake
from zq.core.outbox import MAX_ATTEMPTS
from zq.core.spooled import Limits, Recovered, Spooled
from zq.core.topics import Origin
from zq.engine.engine import Engine
from zq.errors import Refused
from zq.handles.spool import LEAVING, ToEngine
from zq.handles.steps import Steps, deadline_after, until
from zq.logs import Logger
from zq.options import SpoolOptions
from zq.spool.store import OUTBOX, Identity
from zq.wire.names import DEAD

log = Logger("zq.spool")


def origin_of(identity: Identity, stream: bytes, drawn: bytes) -> bytes:
    """Whose numbers the messages have that an outbox takes until it is closed.

    A hash of uuid and stream 8 | epoch 4 | drawn 4: the epoch is new at every opening, and even where a directory has
    been set back to what it was, unnoticed, no number ever stands for two messages.
    """
    import hashlib  # and OpenSSL with it, which most programs never need

    place = hashlib.blake2b(identity.uuid + stream, digest_size=8).digest()
    return place + (identity.epoch & 0xFFFFFFFF).to_bytes(4, "big") + drawn


class OutboxDirectory:
    """An open one. Thread-safe but for closing."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.directory = directory
        self.users = 0  # queues that have a pusher; counted by the peer, under its lock
        self._engine = engine
        answers = ToEngine(engine)
        from zq.spool.keeper import Keeper  # with its thread and its futures: few programs need it

        self._keeper = answers.disk = Keeper(directory, answers, kind=OUTBOX)
        try:
            names = [stream.name for stream in self._keeper.store.streams() if not stream.name.endswith(DEAD)]
            for name in filter(self._is_elsewhere, names):
                log.warning("what waits for %s in the outbox %s stays there: another is open", name, directory)
            names = [name for name in names if not self._is_elsewhere(name)]
            found = [self._open(name) for name in names]
        except BaseException:
            self._keeper.close()
            raise
        self._keeper.start()
        try:
            self._queues = {name: self._begin(*streams) for name, streams in zip(names, found, strict=True)}
        except BaseException:  # the peer is being closed, most likely
            self._keeper.close(LEAVING)
            raise

    def _open(self, name: str) -> tuple[Recovered, Recovered]:
        return self._keeper.open(name), self._keeper.open(dead_queue_of(name))

    def _is_elsewhere(self, name: str) -> bool:
        """Whether this peer has an outbox of that queue in another directory."""
        spooling = self._engine.node.spooling
        return self._engine.call(lambda: name in [intake.queue for intake in spooling.intakes()])

    def _begin(self, found: Recovered, letters: Recovered) -> Spooled:
        engine, limits = self._engine, Limits(min_free=SpoolOptions().min_free)
        origin = Origin(origin_of(self._keeper.store.identity, found.stream, os.urandom(4)))
        intake = Intake(found.queue, MAX_ATTEMPTS, origin)
        spooling = engine.node.spooling
        return engine.call(lambda: spooling.open_outbox(found, letters, limits, self._keeper, intake, engine.node.now))

    def queue(self, name: str, max_attempts: int) -> Spooled:
        """The outbox of that queue, made if there is none. Refused if this peer has one elsewhere."""
        spooled = self._queues.get(name)
        if spooled is None:
            if self._is_elsewhere(name):
                raise Refused(
                    f"another directory that is open here has an outbox of {name}: push to that, or close it first"
                )
            spooled = self._queues[name] = self._begin(*self._open(name))
        assert spooled.intake is not None
        spooled.intake.max_attempts = max_attempts
        return spooled

    def _close_steps(self, timeout: float | None) -> Steps[None]:
        """Syncs what has come, leaves on the disk what nobody has taken, and lets go of the directory."""
        deadline = deadline_after(timeout)
        engine = self._engine
        try:
            if not (engine.closed or engine.forked or engine.failed):
                yield from self._leave_steps(engine, deadline)
        except Exception:
            raise
        except BaseException:  # cancelled, most likely: a loop must not stand still for a disk
            deadline = time.monotonic()
            raise
        finally:
            left = LEAVING if deadline is None else max(deadline - time.monotonic(), 0.0)
            if not engine.forked and not self._keeper.close(left):
                log.warning("%s is still busy with its disk; it ends when that is done", self.directory)

    def _leave_steps(self, engine: Engine, deadline: float | None) -> Steps[None]:
        spooling, queues = engine.node.spooling, list(self._queues.values())
        engine.call(lambda: list(map(spooling.close, queues)))
        try:
            yield from until(engine, lambda: all(map(spooling.is_stored, queues)), deadline)
            engine.call(lambda: list(map(spooling.stop, queues)))
            yield from until(engine, lambda: all(map(spooling.is_stored, queues)), deadline)
        finally:
            if not (engine.closed or engine.failed):
                engine.call(lambda: list(map(self._forget, queues)))
        self._keeper.finish()
        yield from until(engine, lambda: not self._keeper.is_running, deadline)

    def _forget(self, spooled: Spooled) -> None:
        spooling = self._engine.node.spooling
        left = spooled.left
        if spooled.sent is None:
            spooling.stop(spooled)
        stored = spooling.is_stored(spooled)
        for stream, sent in spooling.forget(spooled):
            if stored:
                self._keeper.end(stream, sent)
        if left:
            what = f"{left} messages of {spooled.name} wait" if left > 1 else f"a message of {spooled.name} waits"
            log.warning("%s in the outbox %s", what, self.directory)

    def __repr__(self) -> str:
        return f"<outboxes of {', '.join(self._queues)} in {self.directory}>"
