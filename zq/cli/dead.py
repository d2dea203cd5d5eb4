"""`zq dead`: messages that nobody could process, at the peers that keep them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

import zq
from zq.cli import connection, parameters
from zq.cli.notes import ERROR, OK, UNFINISHED, counted, note
from zq.cli.render import line, readable, timestamp, to_json
from zq.cli.table import Column, emit, print_table, record

LETTERS = (
    Column("queue", lambda letter: letter.queue),
    Column("id", lambda letter: letter.id),
    Column("died", lambda letter: _moment(letter.died_at)),
    Column("attempts", lambda letter: len(letter.history), right=True),
    Column("reason", lambda letter: letter.reason),
    Column("bytes", lambda letter: f"{letter.size:,}", right=True),
    Column("kept by", lambda letter: letter.holder),
)

waiting = click.option(
    "--timeout",
    type=parameters.SECONDS,
    default=5.0,
    show_default=True,
    metavar="S",
    help="Wait S seconds for answers.",
)
chosen = click.option("--id", "ids", multiple=True, metavar="ID", help="Only this message; may be given again.")


@click.group()
def dead() -> None:
    """Look at the dead letters of queues, push them again, or forget them.

    A message is dead when a puller has rejected it, or when as many deliveries have failed as its pusher allows. The
    peer that pushed it keeps it, the newest 1,000 of each queue, as long as it runs; the spool that it went through
    keeps it on its disk. `zq pull QUEUE.dead` takes them.
    """


@dead.command("ls")
@click.argument("queue", required=False)
@parameters.as_json
@waiting
@connection.options
def list_letters(queue: str | None, as_json: bool, timeout: float, peer: zq.Peer) -> int:
    """List the dead letters of QUEUE, or of every queue."""
    with peer:
        connection.settle(peer)
        answer = peer.dead_letters(queue, timeout=timeout)
    if as_json:
        emit(b"".join(line(to_json(record(letter) | {"data": letter.data})) for letter in answer.letters))
    elif answer.letters:
        print_table(LETTERS, answer.letters)
    else:
        note(f"no dead letters{f' of {queue}' if queue else ''} in realm {peer.realm}")
    return _code(answer)


@dead.command()
@click.argument("queue")
@chosen
@parameters.as_json
@waiting
@connection.options
def show(queue: str, ids: tuple[str, ...], as_json: bool, timeout: float, peer: zq.Peer) -> int:
    """Show the dead letters of QUEUE with what became of each attempt, and their data."""
    with peer:
        connection.settle(peer)
        answer = peer.dead_letters(queue, ids=ids, timeout=timeout)
    if as_json:
        emit(b"".join(line(to_json(record(letter) | {"data": letter.data})) for letter in answer.letters))
    else:
        emit(b"".join(line(text) for letter in answer.letters for text in told(letter)))
    if missing := sorted(set(ids) - {letter.id for letter in answer.letters}):
        note(f"not among them: {', '.join(missing)}")
        return ERROR
    return _code(answer)


def told(letter: zq.DeadLetter) -> list[str]:
    """One letter for people."""
    lines = [
        f"{readable(letter.id)} of {readable(letter.queue)}, kept by {readable(letter.holder)}",
        f"  sent   {timestamp(letter.sent_at)}",
        f"  died   {_moment(letter.died_at)}: {readable(letter.reason)}",
    ]
    for failed in letter.history:
        why = f": {readable(failed.reason)}" if failed.reason else ""
        where = f"{readable(failed.puller)} ({failed.puller_id.hex()[:8]})"
        lines.append(f"  {failed.attempt:>5}. {timestamp(failed.at)} {failed.outcome} at {where}{why}")
    if letter.headers:
        lines.append(f"  headers {readable(dict(letter.headers))}")
    lines.append(
        f"  data   {readable(letter.data) if letter.complete else f'{letter.size:,} bytes, too large to show'}"
    )
    return lines


@dead.command()
@click.argument("queue")
@chosen
@parameters.as_json
@waiting
@connection.options
def retry(queue: str, ids: tuple[str, ...], as_json: bool, timeout: float, peer: zq.Peer) -> int:
    """Push the dead letters of QUEUE again, each with its old id and as its first attempt.

    The peers that keep them do that; this command does not wait for what becomes of them.
    """
    return _act("pushed again", peer, lambda: peer.retry_dead_letters(queue, ids=ids, timeout=timeout), as_json)


@dead.command()
@click.argument("queue")
@chosen
@parameters.as_json
@waiting
@connection.options
def purge(queue: str, ids: tuple[str, ...], as_json: bool, timeout: float, peer: zq.Peer) -> int:
    """Forget the dead letters of QUEUE."""
    return _act("purged", peer, lambda: peer.purge_dead_letters(queue, ids=ids, timeout=timeout), as_json)


def _act(what: str, peer: zq.Peer, act: Callable[[], zq.DeadLetters], as_json: bool) -> int:
    with peer:
        connection.settle(peer)
        answer = act()
    if as_json:
        emit(line(to_json({"count": answer.count, "unknown": answer.unknown, "problems": answer.problems})))
    else:
        note(f"{counted(answer.count)} {what}")
    return _code(answer)


def _code(answer: zq.DeadLetters) -> int:
    for problem in answer.problems:
        note(readable(problem))
    for name in answer.unknown:
        note(f"{readable(name)} did not answer; what it keeps is unknown")
    return ERROR if answer.problems else UNFINISHED if answer.unknown else OK


def _moment(moment: Any) -> str:
    return "" if moment is None else timestamp(moment)
