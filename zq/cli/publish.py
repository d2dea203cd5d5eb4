"""`zq pub` and `zq sub`."""

from __future__ import annotations

from typing import Any

import click

import zq
from zq.cli import connection, parameters
from zq.cli.lines import read
from zq.cli.notes import Complaints, counted, note
from zq.cli.receive import show
from zq.cli.render import Render, topic_and_data


@click.command()
@click.argument("topic")
@click.argument("messages", metavar="[MESSAGE]...", nargs=-1)
@parameters.every_line_is_json
@click.option(
    "--timeout",
    type=parameters.SECONDS,
    default=30.0,
    show_default=True,
    metavar="S",
    help="Wait S seconds at the end.",
)
@connection.options
def pub(topic: str, messages: tuple[str, ...], every_line_is_json: bool, timeout: float, peer: zq.Peer) -> int:
    """Publish each MESSAGE, or each line of standard input, to TOPIC.

    A line that begins with { or [ is JSON, any other is text. Ends when every subscriber has what was published, and
    every queue that is bound to TOPIC has settled it; with no subscriber at all it says so and ends with 0.
    """
    complaints = Complaints()
    with peer, peer.publisher(topic) as publisher:
        connection.settle(peer)
        was_heard = is_heard(peer, topic)  # looked at now: a subscriber may leave when it has what it wants
        try:
            for where, data in read(messages, complaints.add, every_line_is_json=every_line_is_json):
                try:
                    publisher.send(data)
                except zq.Refused as error:
                    complaints.add(f"{where}: {error}")
        except KeyboardInterrupt:
            note("interrupted; what has been read is published")
        publisher.flush(timeout=timeout)
        if not was_heard and not is_heard(peer, topic):
            note(f"nobody subscribes to {topic}")
    return complaints.code


def is_heard(peer: zq.Peer, topic: str) -> bool:
    """Whether anybody subscribes to `topic`."""
    return any(known.subscribers for known in peer.topics() if known.name == topic)


@click.command()
@click.argument("filters", metavar="FILTER...", nargs=-1, required=True)
@parameters.rendering(topic_and_data)
@parameters.ending
@click.option("--durable", metavar="NAME", help="Go on where the cursor NAME stood, which a spool of the topics keeps.")
@click.option(
    "--since",
    callback=parameters.to_position,
    metavar="WHEN",
    help="Begin with what a spool has: beginning, -10 (the last ten), 10m (so long ago), 2026-11-24T10:00, end.",
)
@connection.options
def sub(
    filters: tuple[str, ...],
    render: Render,
    count: int | None,
    timeout: float | None,
    durable: str | None,
    since: Any,
    peer: zq.Peer,
) -> int:
    """Print the messages of every topic that matches a FILTER.

    In a FILTER, * stands for one segment and ** for any number: 'sensors/*/celsius', 'sensors/**'.

    With --durable or --since they come from a spool (zq spool --topic), first those that it has, then live. A message
    is settled when it has been written: what was not comes again to whoever names the same cursor. --since says where
    a cursor begins that is new; one that is known goes on.
    """
    with peer, peer.subscriber(*filters, durable=durable, since=since, on_gap=report_gap) as subscriber:
        return show(subscriber, render, count=count, timeout=timeout)


def report_gap(gap: zq.Gap) -> None:
    """Says which messages this subscription will never see."""
    who = gap.publisher.hex()[:8]
    if gap.last is None:
        note(f"gap in {gap.topic}: publisher {who} vanished; what it sent from number {gap.first} on is unknown")
    else:
        missing = counted(gap.last - gap.first + 1)
        note(f"gap in {gap.topic}: {missing} of publisher {who} lost, {gap.first} to {gap.last}")
