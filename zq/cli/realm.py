"""`zq peers`, `zq topics` and `zq queues`: the realm as the roster tells it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

import zq
from zq.cli import connection, parameters
from zq.cli.notes import OK, counted, note
from zq.cli.render import line, timestamp, to_json
from zq.cli.table import Column, emit, print_table, reasons, record, seconds

SHOWN = 5  # consumers in a cell for people; --json has all


def offers(peer: zq.PeerInfo) -> str:
    """What a peer takes part in, in one cell."""
    parts = (
        ("pub", peer.publishes),
        ("sub", peer.subscribes),
        ("push", peer.pushes),
        ("pull", peer.pulls),
        ("reply", peer.replies),
    )
    return "; ".join(f"{verb} {', '.join(names)}" for verb, names in parts if names)


def behind(info: zq.TopicInfo | zq.QueueInfo) -> str:
    """Who lags, by how many messages, and what that means for those who send: the worst first."""
    told = [
        f"{consumer.name} {consumer.lag:,}{'' if consumer.pace == 'up' else f' ({consumer.pace})'}"
        for consumer in info.consumers[:SHOWN]
    ]
    more = len(info.consumers) - len(told)
    return ", ".join(told) + (f" and {more:,} more" if more else "")


ASK = 0.5  # s that those who are near have to say that they are of another realm; the question is put twice
PEERS = (
    Column("peer", lambda peer: peer.name),
    Column("host", lambda peer: peer.host),
    Column("pid", lambda peer: peer.pid, right=True),
    Column("state", lambda peer: peer.state),
    Column("found by", lambda peer: ", ".join(peer.found_by)),
    Column("up for", lambda peer: seconds(peer.up_for), right=True),
    Column("found in", lambda peer: seconds(peer.found_in), right=True),
    Column("offers", offers),
    Column("address", lambda peer: peer.address),
)
TOPICS = (
    Column("topic", lambda topic: topic.name),
    Column("publishers", lambda topic: topic.publishers, right=True),
    Column("subscribers", lambda topic: topic.subscribers, right=True),
    Column("published", lambda topic: f"{topic.published:,}", right=True),
    Column("lag", lambda topic: f"{topic.lag:,}", right=True),
    Column("dropped", lambda topic: reasons(topic.dropped), right=True),
    Column("who lags", behind),
)
QUEUES = (
    Column("queue", lambda queue: queue.name),
    Column("pushers", lambda queue: queue.pushers, right=True),
    Column("pullers", lambda queue: queue.pullers, right=True),
    Column("depth", lambda queue: f"{queue.depth:,}", right=True),
    Column("lag", lambda queue: seconds(queue.lag), right=True),
    Column("dropped", lambda queue: reasons(queue.dropped), right=True),
    Column("who has them", behind),
)


@click.command()
@parameters.as_json
@click.option("--watch", is_flag=True, help="Go on and show who joins, changes and leaves.")
@click.option(
    "--timeout", type=parameters.SECONDS, metavar="S", help="With --watch: end after S seconds without a change."
)
@connection.options
def peers(as_json: bool, watch: bool, timeout: float | None, peer: zq.Peer) -> int:
    """List the peers of the realm: who they are, how they were found, what they offer."""
    with peer:
        if not watch:
            connection.settle(peer)
            show_listing(peer.peers(), PEERS, as_json=as_json, nothing=f"no other peer in realm {peer.realm}")
            if count := peer.strangers(ask=ASK):
                why = "that this key does not open" if peer.key_file else "of another realm"
                note(f"{counted(count, 'zq peer')} near {why}")
            return OK
        try:
            for event in peer.watch(timeout=timeout):
                emit(line(to_json(record(event)) if as_json else told(event)))
        except (KeyboardInterrupt, zq.Timeout, BrokenPipeError):
            pass  # three ways to say: enough
    return OK


def told(event: zq.PeerEvent) -> str:
    """One event for people."""
    peer = event.peer
    how = f" found by {', '.join(peer.found_by)} in {seconds(peer.found_in)}" if event.kind == "joined" else ""
    what = f" ({offers(peer)})" if event.kind in ("joined", "changed") and offers(peer) else ""
    return f"{timestamp(event.at)} {event.kind:<7} {peer.name} on {peer.host}{how}{what}"


@click.command()
@parameters.as_json
@connection.options
def topics(as_json: bool, peer: zq.Peer) -> int:
    """List the topics of the realm: publishers, subscribers, messages, what subscribers dropped, and who lags."""
    with peer:
        connection.settle(peer)
        show_listing(peer.topics(), TOPICS, as_json=as_json, nothing=f"no topic in realm {peer.realm}")
    return OK


@click.command()
@parameters.as_json
@connection.options
def queues(as_json: bool, peer: zq.Peer) -> int:
    """List the queues of the realm: pushers, pullers, messages not yet settled, what was dropped, who has how many."""
    with peer:
        connection.settle(peer)
        show_listing(peer.queues(), QUEUES, as_json=as_json, nothing=f"no queue in realm {peer.realm}")
    return OK


def show_listing(rows: Iterable[Any], columns: tuple[Column, ...], *, as_json: bool, nothing: str) -> None:
    rows = list(rows)
    if as_json:
        emit(b"".join(line(to_json(record(row))) for row in rows))
    elif rows:
        print_table(columns, rows)
    else:
        note(nothing)
