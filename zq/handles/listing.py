"""The topics and queues of the realm as they stand: this peer as it is, the others as they have told last."""

from __future__ import annotations

from collections.abc import Sequence

from zq.core.cursors import PASSING
from zq.core.roster import Remote
from zq.core.standing import PACES, QUEUE, TOPIC, Lag, from_entry, merged
from zq.engine.engine import Engine
from zq.info import Consumer, QueueInfo, TopicInfo
from zq.wire.names import Filter


class Standings:
    """How all peers of the realm keep up: this one as it is, the others as they have told last. Engine's thread."""

    def __init__(self, engine: Engine) -> None:
        node = engine.node
        others = [from_entry(remote.entry) for remote in node.meeting.roster.up() if remote.entry]
        everyone = [node.announcement.standing(), *others]
        self._engine = engine
        self._lags: dict[tuple[int, str], list[Lag]] = {}
        self._drops: dict[tuple[int, str], dict[str, int]] = {}
        for each in everyone:
            for lag in each.lags:
                self._lags.setdefault((lag.kind, lag.name), []).append(lag)
            for drop in each.drops:
                reasons = self._drops.setdefault((drop.kind, drop.name), {})
                reasons[drop.reason] = reasons.get(drop.reason, 0) + drop.messages

    def consumers(self, kind: int, name: str) -> tuple[Consumer, ...]:
        return tuple(
            Consumer(peer=lag.peer, name=self._name(lag.peer), lag=lag.messages, pace=PACES[lag.pace])
            for lag in merged(self._lags.get((kind, name), ()))
        )

    def _name(self, peer: bytes) -> str:
        """Somebody may be connected to others and not to us."""
        known = peer == self._engine.id or peer in self._engine.node.meeting.roster
        return self._engine.name_of(peer) if known else peer.hex()[:8]

    def dropped(self, kind: int, name: str) -> dict[str, int]:
        return self._drops.get((kind, name), {})


def _cursors_of(engine: Engine, topic: str) -> list[Consumer]:
    """Those of spools that keep the topic, if they lag, those that lag most first."""
    node = engine.node
    rows = [(engine.id, node.streams.rows())]
    rows += [(remote.id, remote.entry.streams) for remote in node.meeting.roster.up() if remote.entry]
    found = [
        Consumer(peer=peer, name=f"{cursor}@{text}", lag=lag, pace="up")
        for peer, streams in rows
        for text, _, _, cursors in streams
        if Filter(str(text)).matches(topic)
        for cursor, lag, _ in cursors  # type: ignore[attr-defined]
        if lag and not cursor.startswith(PASSING)
    ]
    return sorted(found, key=lambda consumer: (-consumer.lag, consumer.name))


def list_topics(engine: Engine) -> list[TopicInfo]:
    """Engine's thread."""
    node = engine.node
    remotes: Sequence[Remote] = node.meeting.roster.up()
    published: dict[str, list[int]] = {}
    for topic in node.open_topics:
        published.setdefault(topic.name, []).append(topic.head)
    for remote in remotes:
        for name, head in remote.entry.topics if remote.entry else ():
            published.setdefault(name, []).append(head)
    filters = [{Filter(row[0]) for row in remote.entry.filters} for remote in remotes if remote.entry]
    filters.append({filter for subscription in node.receptions for filter in subscription.filters})
    bound: dict[str, set[Filter]] = {}
    for rows in [node.pulling.binds(), *(remote.entry.binds for remote in remotes if remote.entry)]:
        for queue, _, texts in rows:
            bound.setdefault(str(queue), set()).update(map(Filter, texts))
    filters.extend(bound.values())
    standings = Standings(engine)
    infos: list[TopicInfo] = []
    for name, heads in sorted(published.items()):
        consumers = (*standings.consumers(TOPIC, name), *_cursors_of(engine, name))
        infos.append(
            TopicInfo(
                name=name,
                publishers=len(heads),
                subscribers=sum(any(filter.matches(name) for filter in those) for those in filters),
                published=sum(heads),
                lag=max((consumer.lag for consumer in consumers), default=0),
                slow=tuple(sorted({consumer.name for consumer in consumers if consumer.pace != "up"})),
                consumers=consumers,
                dropped=standings.dropped(TOPIC, name),
            )
        )
    return infos


def list_queues(engine: Engine) -> list[QueueInfo]:
    """Engine's thread."""
    node = engine.node
    pushes: dict[str, list[tuple[int, float]]] = {}
    pulls: dict[str, int] = {}
    entries = [(remote.entry.pushes, node.now - remote.entry_at) for remote in node.meeting.roster.up() if remote.entry]
    for rows, since in [(node.announcement.held(node.now), 0.0), *entries]:
        for queue, held, age in rows:
            pushes.setdefault(str(queue), []).append((held, age + since))  # if it moves, there is a newer entry
    for rows in [node.pulling.rows(), *(remote.entry.pulls for remote in node.meeting.roster.up() if remote.entry)]:
        for queue, _ in rows:
            pulls[str(queue)] = pulls.get(str(queue), 0) + 1
    standings = Standings(engine)
    infos: list[QueueInfo] = []
    for name in sorted({*pushes, *pulls}):
        held = pushes.get(name, [])
        consumers = standings.consumers(QUEUE, name)
        infos.append(
            QueueInfo(
                name=name,
                pushers=len(held),
                pullers=pulls.get(name, 0),
                depth=sum(count for count, _ in held),
                lag=max((age for count, age in held if count), default=0.0),
                slow=tuple(sorted({consumer.name for consumer in consumers if consumer.pace != "up"})),
                consumers=consumers,
                dropped=standings.dropped(QUEUE, name),
            )
        )
    return infos
