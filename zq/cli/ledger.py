"""`zq ledger`: the counters of every peer that account for every message."""

from __future__ import annotations

from typing import Any

import click

import zq
from zq.cli import connection, parameters
from zq.cli.notes import ERROR, OK, note
from zq.cli.render import line, to_json
from zq.cli.table import Column, emit, plain, print_table, reasons, record


def number(name: str, title: str | None = None) -> Column:
    return Column(title or name, lambda row: f"{getattr(row, name):,}", right=True)


DROPPED = Column("dropped", lambda row: reasons(row.dropped), right=True)
HELD = (
    Column("queue, pushed", lambda row: row.queue),
    *(number(name) for name in ("taken", "waiting")),
    number("in_flight", "in flight"),
    number("acked"),
    DROPPED,
    number("expired"),
    number("redelivered"),
)
PULLED = (
    Column("queue, pulled", lambda row: row.queue),
    *(number(name) for name in ("received", "queued")),
    number("handed_out", "handed out"),
    *(number(name) for name in ("acked", "nacked", "rejected", "returned")),
)
PUBLISHED = (
    Column("topic, published", lambda row: row.topic),
    number("published"),
    number("in_ring", "in ring"),
    number("left_ring", "left ring"),
)
SUBSCRIBED = (
    Column("topic, subscribed", lambda row: row.topic),
    Column("publisher", lambda row: row.publisher.hex()[:8]),
    *(number(name) for name in ("expected", "delivered", "queued", "repairing", "dropped", "gap")),
)
REQUESTED = (
    Column("service, asked", lambda row: row.service),
    *(
        number(name)
        for name in ("asked", "waiting", "sent", "replied", "failed", "lost", "nobody", "abandoned", "late")
    ),
)
REPLIED = (
    Column("service, replied", lambda row: row.service),
    *(number(name) for name in ("received", "held", "replied", "failed")),
    number("turned_away", "turned away"),
    *(number(name) for name in ("dropped", "late")),
)

QUEUES = (
    Column("queue, whole realm", lambda row: row.queue),
    *(number(name) for name in ("taken", "acked")),
    DROPPED,
    *(number(name) for name in ("expired", "waiting")),
    number("in_flight", "in flight"),
    number("orphaned"),
    Column("held by", lambda row: ", ".join(row.holders)),
)
MISSING = (
    Column("missing", lambda row: " of ".join(filter(None, (row.queue, row.topic)))),
    Column("origin", lambda row: row.origin.hex()[:8]),
    Column("numbers", lambda row: f"from {row.first:,}" if row.last is None else f"{row.first:,} to {row.last:,}"),
    Column("messages", lambda row: "?" if row.count is None else how_many(row), right=True),
    Column("why", lambda row: row.why),
    Column("at", lambda row: row.at),
    Column("last held by", lambda row: row.holder),
)


def how_many(row: zq.Missing) -> str:
    return f"at most {row.count:,}" if row.why == "unknown" else f"{row.count:,}"


@click.command()
@parameters.as_json
@click.option(
    "--timeout",
    type=parameters.SECONDS,
    default=5.0,
    show_default=True,
    metavar="S",
    help="Wait S seconds for answers.",
)
@connection.options
def ledger(as_json: bool, timeout: float, peer: zq.Peer) -> int:
    """Show what became of every message, as each peer of the realm counts it.

    Then the realm as a whole: what is open of each queue, each message once, and what is missing, with its numbers and
    who held it last. A peer that is gone or does not answer is named as unknown, never counted as a loss. Ends with 1
    if a ledger does not balance.
    """
    with peer:
        connection.settle(peer)
        mine = peer.ledger(realm=True, timeout=timeout)
    if as_json:
        emit(b"".join(line(to_json(record(other) | {"balanced": other.balanced})) for other in mine.others))
        if mine.others or mine.missing:
            emit(line(to_json(whole(mine, peer.realm))))
    else:
        for other in mine.others:
            show(other)
        for columns, rows in ((QUEUES, mine.queues), (MISSING, mine.missing)):
            if rows:
                print_table(columns, rows)
        if not mine.others:
            note(f"no other peer in realm {peer.realm}")
    for name in mine.unknown:
        note(f"{name} did not answer; what it holds is unknown")
    wrong = [other.name for other in mine.others if not other.balanced]
    for name in wrong:
        note(f"the ledger of {name} does not balance: this is a bug of zq, please report it with this output")
    return ERROR if wrong else OK


def whole(ledger: zq.Ledger, realm: str) -> dict[str, Any]:
    """The last line of `--json`: the realm. It has no `peer`."""
    fields = ("queues", "missing", "unknown")
    told = {field: plain(getattr(ledger, field)) for field in fields}
    return {"peer": None, "name": realm, **told, "balanced": ledger.balanced}


def show(ledger: zq.Ledger) -> None:
    """One peer's ledger for people, only the parts that it has."""
    parts = (
        (HELD, ledger.held),
        (PULLED, ledger.pulled),
        (PUBLISHED, ledger.published),
        (SUBSCRIBED, ledger.subscribed),
        (REQUESTED, ledger.requested),
        (REPLIED, ledger.replied),
    )
    said = ["balanced" if ledger.balanced else "NOT BALANCED"]
    if ledger.refused_frames:
        said.append(f"{ledger.refused_frames:,} frames refused")
    if ledger.turned_away:
        said.append(f"turned away: {reasons(ledger.turned_away)}")
    emit(line(f"{ledger.name} ({ledger.peer.hex()[:8]}): {', '.join(said)}"))
    for columns, rows in parts:
        if rows:
            print_table(columns, rows)
