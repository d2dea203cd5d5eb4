"""Whether queues that are bound to topics have settled what was published. All of it in the engine's thread."""

from __future__ import annotations

from collections.abc import Iterable

from zq.core.bound import Hold
from zq.core.outbox import Outbox
from zq.core.topics import Topic
from zq.engine.engine import Engine
from zq.errors import Undelivered


class BoundReceipt:
    """Whether what was published on a topic when first looked at is settled by every queue that it is bound to."""

    def __init__(self, engine: Engine, topic: Topic) -> None:
        self._engine = engine
        self._topic = topic
        self._targets: dict[Hold, int] = {}

    def complete(self) -> bool:
        if not (self._topic.bound or self._targets):
            return True
        return self._engine.node.bindings.is_confirmed(self._topic, self._targets)

    def undelivered(self) -> Undelivered | None:
        """What the first queue that has not settled everything has left; None if there is none."""
        for binding in self._engine.node.bindings.unconfirmed(self._topic):
            if binding.outbox is not None:
                return undelivered(self._engine, binding.outbox, f", bound to {self._topic.name}")
            return Undelivered(binding.kept, [], f"a puller of {binding.queue} to say when it came into being")
        return None


class Rest:
    """Whether all that this peer held for bound queues when first looked at is settled, whoever publishes still."""

    def __init__(self, engine: Engine, others: Iterable[Topic | Outbox]) -> None:
        """`others` are waited for by somebody else."""
        self._engine = engine
        self._others = set(others)
        self._targets: dict[Outbox, int] = {}

    def complete(self) -> bool:
        node = self._engine.node
        if node.bindings.is_pending():
            return False
        for outbox in node.pushing:
            if not outbox.dead and outbox not in self._others:
                self._targets.setdefault(outbox, outbox.taken)
        return not self._left()

    def undelivered(self) -> list[Undelivered]:
        return [undelivered(self._engine, outbox, ", bound to topics") for outbox in self._left()]

    def _left(self) -> list[Outbox]:
        present = set(self._engine.node.pushing)
        return [box for box, target in self._targets.items() if box in present and not box.settled_through(target)]


def undelivered(engine: Engine, outbox: Outbox, why: str) -> Undelivered:
    pushing = engine.node.pushing
    pullers = len(pushing.pullers(outbox.queue))
    what = f"{pullers} pullers of {outbox.queue}" if pullers else f"a puller of {outbox.queue}"
    return Undelivered(outbox.held, pushing.unsettled_ids(outbox), f"{what}{why}, to settle them")
