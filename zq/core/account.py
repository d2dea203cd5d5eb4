"""The ledgers of a realm, added up: by what their numbers mean, not as sums.

A message that its pusher has in flight and a puller has in hand is in two ledgers and one message. What pullers report
is therefore compared with the pushers' ranges of origin numbers: what no answering pusher holds any more, though a
puller has it, is *orphaned*, and will be delivered all the same. Between two snapshots messages move on; a message that
its pusher had settled by the time it answered is left out, so that nothing is counted twice or missed by that.

Who is gone or has not answered is unknown: what it held last is named, as at most so many messages, and is no loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set

from zq.core.binding import LEFT_RING
from zq.core.ranges import Ranges
from zq.core.spans import complement
from zq.info import Departed, HeldQueue, Ledger, Missing, PulledQueue, QueueAccount
from zq.record import dataclass, field, replace


def add_up(mine: Ledger, others: Sequence[Ledger], unanswered: Sequence[Departed]) -> Ledger:
    """`unanswered`: the last words of those who were asked and have not answered, be they here still or not."""
    everyone = [mine, *others]
    names = {ledger.peer: ledger.name for ledger in everyone}
    gone = {peer.peer: peer for peer in unanswered}
    gone |= {departed.peer: departed for departed in _departed(everyone) if departed.peer not in names}
    answered = names.keys()
    names = names | {peer: departed.name for peer, departed in gone.items()}
    return replace(
        mine,
        others=tuple(others),
        unknown=tuple(sorted({peer.name for peer in unanswered})),
        queues=tuple(_account(queue, rows, answered, names) for queue, rows in sorted(_by_queue(everyone).items())),
        missing=(*_dropped(everyone), *_gaps(everyone, names), *_unknown(everyone, gone)),
    )


def _departed(ledgers: Iterable[Ledger]) -> Iterable[Departed]:
    """Each once, as whoever saw it last tells."""
    newest: dict[bytes, Departed] = {}
    for ledger in ledgers:
        for departed in ledger.departed:
            known = newest.get(departed.peer)
            if known is None or departed.ago < known.ago:
                newest[departed.peer] = departed
    return newest.values()


# --- queues


@dataclass(slots=True)
class Rows:
    """What all ledgers say of one queue, with whose they are."""

    held: list[tuple[Ledger, HeldQueue]] = field(default_factory=list)
    pulled: list[tuple[Ledger, PulledQueue]] = field(default_factory=list)


def _by_queue(ledgers: Iterable[Ledger]) -> dict[str, Rows]:
    queues: dict[str, Rows] = {}
    for ledger in ledgers:
        for held in ledger.held:
            queues.setdefault(held.queue, Rows()).held.append((ledger, held))
        for pulled in ledger.pulled:
            queues.setdefault(pulled.queue, Rows()).pulled.append((ledger, pulled))
    return queues


def _account(queue: str, rows: Rows, answered: Set[bytes], names: Mapping[bytes, str]) -> QueueAccount:
    dropped: dict[str, int] = {}
    for _, row in rows.held:
        for why, count in row.dropped.items():
            dropped[why] = dropped.get(why, 0) + count
    orphans = _orphans(rows, answered)
    holders = {ledger.name for ledger, row in rows.held if row.waiting or row.in_flight}
    return QueueAccount(
        queue=queue,
        taken=sum(row.taken for _, row in rows.held),
        acked=sum(row.acked for _, row in rows.held),
        dropped=dropped,
        waiting=sum(row.waiting for _, row in rows.held),
        in_flight=sum(row.in_flight for _, row in rows.held),
        orphaned=sum(ranges.count() for ranges in orphans.values()),
        holders=tuple(sorted(holders | {names[puller] for puller, _ in orphans})),
        expired=sum(row.expired for _, row in rows.held),
    )


def _orphans(rows: Rows, answered: Set[bytes]) -> dict[tuple[bytes, bytes], Ranges]:
    """By puller and origin: what only pullers have."""
    seen: dict[bytes, Ranges] = {}
    orphans: dict[tuple[bytes, bytes], Ranges] = {}
    for ledger, row in rows.pulled:
        for span in row.spans:
            if span.peer in answered:
                continue  # its pusher holds it, or has seen it settled meanwhile
            for first, last in seen.setdefault(span.origin, Ranges()).add(span.first, span.last):
                orphans.setdefault((ledger.peer, span.origin), Ranges()).add(first, last)
    return orphans


# --- what is missing


def _dropped(ledgers: Iterable[Ledger]) -> Iterable[Missing]:
    for ledger in ledgers:
        for row in ledger.held:
            for span in row.lost:
                yield Missing(
                    queue=row.queue,
                    topic=None,
                    origin=span.origin,
                    first=span.first,
                    last=span.last,
                    count=span.count,
                    why=span.state,
                    at=ledger.name,
                    holder=ledger.name,
                )
            for gap in row.gaps:
                yield Missing(
                    queue=row.queue,
                    topic=gap.topic,
                    origin=gap.publisher,
                    first=gap.first,
                    last=gap.last,
                    count=None if gap.last is None else gap.last - gap.first + 1,
                    why=LEFT_RING,
                    at=ledger.name,
                    holder=ledger.name,
                )


def _gaps(ledgers: Iterable[Ledger], names: Mapping[bytes, str]) -> Iterable[Missing]:
    """Each hole once a peer: its subscriptions miss the same."""
    for ledger in ledgers:
        seen: dict[tuple[bytes, str], Ranges] = {}
        vanished: set[tuple[bytes, str]] = set()
        for row in ledger.subscribed:
            for gap in row.gaps:
                key = gap.publisher, gap.topic
                holder = names.get(gap.publisher, gap.publisher.hex()[:8])
                if gap.last is not None:
                    parts: list[tuple[int, int | None]] = [*seen.setdefault(key, Ranges()).add(gap.first, gap.last)]
                else:
                    parts = [] if key in vanished else [(gap.first, None)]
                    vanished.add(key)
                for first, last in parts:
                    yield Missing(
                        queue=None,
                        topic=gap.topic,
                        origin=gap.publisher,
                        first=first,
                        last=last,
                        count=None if last is None else last - first + 1,
                        why="gap" if last is not None else "unknown",
                        at=ledger.name,
                        holder=holder,
                    )


def _unknown(ledgers: Sequence[Ledger], gone: Mapping[bytes, Departed]) -> Iterable[Missing]:
    """What pushers held that are gone or silent, behind the newest of their numbers that a puller has told of."""
    newest: dict[tuple[bytes, str], int] = {}
    have: dict[tuple[bytes, str], Ranges] = {}
    for ledger in ledgers:
        for row in ledger.pulled:
            for span in row.spans:
                key = span.origin, row.queue
                newest[key] = max(newest.get(key, 0), span.last)
                have.setdefault(key, Ranges()).add(span.first, span.last)
    for peer, departed in gone.items():
        for queue, count in departed.held.items():
            key = peer, queue
            known = have.get(key, Ranges())
            lowest = min((low for low, _ in known), default=1)
            between = list(complement(known, lowest, newest.get(key, 0)))
            left = max(count - known.count(), 0)
            if left:
                yield Missing(
                    queue=queue,
                    topic=None,
                    origin=peer,
                    first=between[0][0] if between else newest.get(key, 0) + 1,
                    last=None,
                    count=left,
                    why="unknown",
                    at=departed.name,
                    holder=departed.name,
                )
