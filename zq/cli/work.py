"""`zq push` and `zq pull`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import zq
from zq.cli import connection, parameters
from zq.cli.lines import read
from zq.cli.notes import Complaints, counted, note
from zq.cli.outbox import Depositing
from zq.cli.receive import show
from zq.cli.render import Render, only_data, readable

SLICE = 1.0  # s without progress until push says what it waits for; a working puller's receipts take milliseconds
LARGEST_PREFETCH = 64  # messages; what the library starts with, so -n asks for less, never for more


@click.command()
@click.argument("queue")
@click.argument("messages", metavar="[MESSAGE]...", nargs=-1)
@parameters.every_line_is_json
@click.option("--key", metavar="TEXT", help="Of messages with this key one at a time, in order.")
@click.option("--lane", type=click.Choice(["high", "normal", "low"]), help="Which goes first: they take turns 8:4:1.")
@click.option("--ttl", type=parameters.SECONDS, metavar="S", help="Drop what nobody has got after S seconds.")
@click.option("--delay", type=parameters.SECONDS, metavar="S", help="Nobody gets it before S seconds have passed.")
@click.option("--timeout", type=parameters.SECONDS, metavar="S", help="Give up when nothing moved for S seconds.")
@click.option(
    "--max-attempts",
    type=click.IntRange(1, 65_535),
    default=5,
    show_default=True,
    metavar="N",
    help="Give up a message of which N deliveries have failed.",
)
@click.option(
    "--outbox",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep messages on disk, in DIR, until somebody has taken them.",
)
@connection.options
def push(
    queue: str,
    messages: tuple[str, ...],
    every_line_is_json: bool,
    key: str | None,
    lane: str | None,
    ttl: float | None,
    delay: float | None,
    timeout: float | None,
    max_attempts: int,
    outbox: Path | None,
    peer: zq.Peer,
) -> int:
    """Push each MESSAGE, or each line of standard input, to QUEUE.

    A line that begins with { or [ is JSON, any other is text. Ends when every message has been acknowledged, or
    stored by a spool of QUEUE: until then nobody but this command holds them. Without a puller or a spool it waits for
    one; with --timeout it ends with 3 and says how many are undelivered. Messages that nobody could process are named
    at the end, and the command ends with 1.

    With --outbox messages are on disk before anything else, and the command ends with 0 when nobody is there to take
    them (any more), or after --timeout. What is left goes on its way with the next command, or program, that has this
    outbox, even one that pushes nothing.
    """
    if ttl is not None and delay is not None and ttl < delay:
        raise zq.Refused(f"--ttl {ttl:g} is over before --delay {delay:g} is: nobody would ever get a message")
    complaints = Complaints()
    options: dict[str, Any] = {"key": key, "lane": lane or "normal", "ttl": ttl, "delay": delay or 0.0}
    lines = read(messages, complaints.add, every_line_is_json=every_line_is_json)
    with peer:
        pusher = peer.pusher(queue, max_attempts=max_attempts, outbox=outbox)
        if outbox is not None:
            deposit_all(Depositing(pusher, outbox, timeout, options), peer, lines, complaints)
        else:
            push_all(Pushing(pusher, queue, timeout, options), lines, complaints)
            if stored := sum(row.stored for row in peer.ledger().held if row.queue == queue):
                note(f"{stored} stored")
        for letter in given_up(peer, queue):
            complaints.add(f"nobody could process {letter.id}, {readable(letter.data):.80}: {readable(letter.reason)}")
    return complaints.code


def push_all(pushing: Pushing, lines: Iterator[tuple[str, Any]], complaints: Complaints) -> None:
    try:
        for where, data in lines:
            try:
                pushing.send(data)
            except zq.Refused as error:
                complaints.add(f"{where}: {error}")
            except zq.Timeout:
                note(f"{where} was not taken, nor is anything after it")
                break
        pushing.finish()
    except KeyboardInterrupt:
        note("interrupted")
        pushing.finish(at_once=True)


def deposit_all(
    depositing: Depositing, peer: zq.Peer, lines: Iterator[tuple[str, Any]], complaints: Complaints
) -> None:
    try:
        depositing.send_all(lines, complaints)
        depositing.finish(peer)
    except KeyboardInterrupt:
        note("interrupted")
        depositing.finish(peer, at_once=True)


def given_up(peer: zq.Peer, queue: str) -> list[zq.DeadLetter]:
    """Those that this command pushed and nobody could process: they are gone with it."""
    if not any(row.queue == queue and sum(row.dropped.values()) for row in peer.ledger().held):
        return []
    letters = peer.dead_letters(queue, timeout=1.0).letters
    return [letter for letter in letters if letter.holder_id == peer.id]


class Pushing:
    """A pusher that waits for ever and says so, or gives up when nothing has moved for `timeout` seconds."""

    def __init__(self, pusher: zq.Pusher, queue: str, timeout: float | None, options: dict[str, Any]) -> None:
        self._pusher = pusher
        self._options = options  # of each message
        self._queue = queue
        self._timeout = timeout
        self._slice = SLICE if timeout is None else min(SLICE, timeout)
        self._said = False

    def send(self, data: Any) -> None:
        """Raises Timeout if the window stayed full for the whole timeout."""
        started = time.monotonic()
        while True:
            try:
                return self._pusher.send(data, timeout=self._slice, **self._options)
            except zq.Timeout:
                if self._is_over(started):
                    raise
                self._say(f"nobody takes from {self._queue}; reading goes on when somebody does")

    def finish(self, *, at_once: bool = False) -> None:
        """Returns when everything is released; raises Undelivered with the number that is not."""
        moved = time.monotonic() + self._options["delay"]  # nothing moves before
        held: int | None = None
        while True:
            try:
                return self._pusher.flush(timeout=0.0 if held is None else self._slice)
            except zq.Undelivered as error:
                now = time.monotonic()
                if held is None or error.count < held:
                    moved = now
                elif self._is_over(moved):
                    raise
                elif now >= moved:
                    self._say(f"{counted(error.count)} for {self._queue}, waiting for somebody to take from it")
                if at_once:
                    raise
                held = error.count

    def _is_over(self, since: float) -> bool:
        return self._timeout is not None and time.monotonic() - since >= self._timeout

    def _say(self, text: str) -> None:
        if not self._said:
            self._said = True
            note(text)


@click.command()
@click.argument("queue")
@click.option(
    "--topic",
    "topics",
    metavar="FILTER",
    multiple=True,
    help="QUEUE has what is published on the topics that match, too. May be given several times.",
)
@parameters.rendering(only_data)
@parameters.ending
@click.option(
    "--work-timeout",
    type=click.FloatRange(min=0.0, min_open=True),
    metavar="S",
    help="Give back what could not be printed for S seconds; an attempt is counted.",
)
@connection.options
def pull(
    queue: str,
    topics: tuple[str, ...],
    render: Render,
    count: int | None,
    timeout: float | None,
    work_timeout: float | None,
    peer: zq.Peer,
) -> int:
    """Take messages from QUEUE, print them, and acknowledge each once it is printed.

    With --topic every message published on a topic that matches FILTER goes to one of those who pull from QUEUE, now
    or within the next minute: whoever takes its place goes on.

    A message that cannot be printed, because the reader of the pipe has left, goes to somebody else. Prefer -n 3 to
    `| head -n 3`: what fits into the pipe counts as printed.
    """
    prefetch = min(count, LARGEST_PREFETCH) if count is not None else None
    with peer, peer.puller(queue, prefetch=prefetch, work_timeout=work_timeout, topics=topics) as puller:
        return show(puller, render, count=count, timeout=timeout)
