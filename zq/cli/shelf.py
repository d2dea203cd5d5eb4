"""The commands of `zq spool`: what is in a spool, and what can be done with it.

Long, since it is a command after the other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click

import zq
from zq.cli import connection, parameters
from zq.cli.bar import bar
from zq.cli.notes import ERROR, OK, UNFINISHED, counted, note
from zq.cli.output import Output
from zq.cli.publish import report_gap
from zq.cli.render import line, readable, timestamp, to_json
from zq.cli.table import Column, emit, print_table, record, seconds

SHOWN = 10  # messages that `show` prints unless it is told how many
BATCH = 500  # lines written at once

STREAMS = (
    Column("kind", lambda row: row.kind),
    Column("name", lambda row: row.name),
    Column("depth", lambda row: f"{row.depth:,}", right=True),
    Column("bytes", lambda row: f"{row.bytes:,}", right=True),
    Column("oldest", lambda row: "" if row.oldest is None else seconds(row.oldest), right=True),
    Column("lag", lambda row: f"{row.lag:,}", right=True),
    Column("cursors", lambda row: row.cursors, right=True),
    Column("damaged", lambda row: ranges(row.damaged) or "-"),
)
CURSORS = (
    Column("stream", lambda row: row.stream),
    Column("cursor", lambda row: row.cursor),
    Column("position", lambda row: f"{row.position:,}", right=True),
    Column("lag", lambda row: f"{row.lag:,}", right=True),
    Column("missed", lambda row: f"{row.missed:,}", right=True),
)

HOLDER = Column("kept by", lambda row: row.holder)


def asked(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--dir`, `--timeout` and the options of a peer; the command gets `spools`, where to look."""

    @click.option("--dir", "place", type=click.Path(path_type=Path), help="Of a spool, running or not.")
    @click.option(
        "--timeout",
        type=parameters.SECONDS,
        default=5.0,
        show_default=True,
        metavar="S",
        help="Without --dir: wait S seconds for the answers of those that run.",
    )
    @connection.setting_options
    @functools.wraps(command)
    def with_spools(*, place: Path | None, timeout: float, settings: dict[str, Any], **rest: Any) -> Any:
        if place is not None:
            return command(spools=Directory(place), **rest)
        with zq.Peer(**settings) as peer:
            connection.settle(peer)
            return command(spools=Realm(peer, timeout), **rest)

    return with_spools


class Directory:
    """A directory, whoever has it open."""

    code = OK

    def __init__(self, place: Path) -> None:
        self._spool = zq.SpoolDirectory(place)
        self.label = str(place)

    def streams(self) -> Sequence[zq.SpooledStream]:
        return self._spool.streams()

    def cursors(self) -> Sequence[zq.SpoolCursor]:
        return self._spool.cursors()

    def export(
        self, name: str, first: int, most: int | None, settled: bool, damage: Damage
    ) -> Iterator[zq.SpooledMessage]:
        found = self._spool.export(name, first=first, settled=settled, on_damage=damage.add, on_gap=report_gap)
        return islice(found, most)

    def verify(self, progress: Callable[[int, int], None]) -> tuple[Sequence[zq.SpoolProblem], int]:
        report = self._spool.verify(progress)
        return report.problems, report.bytes

    def purge(self, queue: str) -> int:
        return self._spool.purge(queue)

    def forget(self, stream: str, cursor: str) -> None:
        self._spool.forget(stream, cursor)


class Realm:
    """The spools that run in a realm."""

    def __init__(self, peer: zq.Peer, timeout: float) -> None:
        self._peer = peer
        self._timeout = timeout
        self.label = f"realm {peer.realm}"
        self.code = OK

    def _checked(self, answer: zq.SpoolAnswer) -> zq.SpoolAnswer:
        for problem in answer.problems:
            self.code = ERROR
            note(readable(problem))
        for name in answer.unknown:
            self.code = self.code or UNFINISHED
            note(f"{readable(name)} did not answer; what it keeps is unknown")
        return answer

    def streams(self) -> Sequence[zq.SpooledStream]:
        return self._checked(self._peer.spooled_streams(timeout=self._timeout)).rows

    def cursors(self) -> Sequence[zq.SpoolCursor]:
        return self._checked(self._peer.spooled_cursors(timeout=self._timeout)).rows

    def export(
        self, name: str, first: int, most: int | None, settled: bool, damage: Damage
    ) -> Iterator[zq.SpooledMessage]:
        holders = [row.holder_id for row in self.streams() if name in (row.name, f"{row.kind}:{row.name}")]
        if not holders and not self.code:
            raise zq.Refused(f"no spool of {self.label} has a queue or topic {name!r}; zq spool ls lists what there is")
        return islice(
            chain.from_iterable(self._pages(holder, name, first, settled, damage) for holder in holders), most
        )

    def _pages(
        self, holder: bytes, name: str, first: int, settled: bool, damage: Damage
    ) -> Iterator[zq.SpooledMessage]:
        while first:
            answer = self._checked(
                self._peer.spooled_messages(name, holder=holder, first=first, settled=settled, timeout=self._timeout)
            )
            yield from answer.rows
            for lost in answer.damaged:
                damage.add(*lost)
            for gap in answer.gaps:
                report_gap(gap)
            first = answer.next if answer.next > first else 0

    def verify(self, progress: Callable[[int, int], None]) -> tuple[Sequence[zq.SpoolProblem], int]:
        answer = self._checked(self._peer.verify_spools(progress, timeout=None))
        return answer.rows, answer.count

    def purge(self, queue: str) -> int:
        return self._checked(self._peer.purge_spools(queue, timeout=self._timeout)).count

    def forget(self, stream: str, cursor: str) -> None:
        self._checked(self._peer.forget_cursor(stream, cursor, timeout=self._timeout))


def columns(columns: Sequence[Column], spools: Directory | Realm) -> Sequence[Column]:
    return columns if isinstance(spools, Directory) else (*columns, HOLDER)


def ranges(found: tuple[tuple[int, int], ...]) -> str:
    """Numbers of messages: `17, 20-31`."""
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def as_record(message: zq.SpooledMessage) -> dict[str, Any]:
    """A message as a JSON object."""
    return record(message) | {"data": message.data, "headers": dict(message.headers)}


@click.command("ls")
@asked
@parameters.as_json
def list_streams(spools: Directory | Realm, as_json: bool) -> int:
    """List the queues and topics of a spool: messages that wait, their bytes, how long the oldest has been there, how
    far the slowest cursor is behind, and numbers of messages that are damaged."""
    rows = spools.streams()
    if as_json:
        emit(b"".join(line(to_json(record(row))) for row in rows))
    elif rows:
        print_table(columns(STREAMS, spools), rows)
        for row in rows:
            for problem in row.problems:
                note(problem)
    else:
        note(f"no queue and no topic is spooled in {spools.label}")
    return spools.code


@click.command()
@click.argument("stream", metavar="NAME")
@click.option("-n", "--count", type=click.IntRange(min=1), default=SHOWN, show_default=True, help="Messages at most.")
@click.option("--from", "first", type=click.IntRange(min=1), default=1, metavar="N", help="Begin with message N.")
@asked
@parameters.as_json
def show(stream: str, count: int, first: int, spools: Directory | Realm, as_json: bool) -> int:
    """Show the oldest messages of NAME, a queue or topic, without taking them."""
    damage = Damage(stream)
    found = list(spools.export(stream, first, count, False, damage))
    newest = max((row.last for row in spools.streams() if stream in (row.name, f"{row.kind}:{row.name}")), default=0)
    if first > max(newest, 1):
        raise zq.Refused(f"{stream} has no message {first:,}; the newest is {newest:,}")
    if as_json:
        emit(b"".join(line(to_json(as_record(message))) for message in found))
    elif found:
        emit(b"".join(line(text) for message in found for text in told(message)))
    else:
        note(f"{stream} is empty")
    return damage.code or spools.code


class Damage:
    """Messages that should be there and are not: each range is named on standard error, and the command ends with 1."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.code = OK

    def add(self, first: int, last: int) -> None:
        self.code = ERROR
        which = f"message {first:,} is" if first == last else f"messages {first:,} to {last:,} are"
        note(f"{self._name}: {which} damaged and lost; see zq spool verify")


def told(message: zq.SpooledMessage) -> list[str]:
    """One message for people."""
    about = [f"sent {timestamp(message.sent_at)}", f"attempt {message.attempt}"]
    about += [f"topic {message.topic}"] if message.topic is not None and message.topic != message.stream else []
    about += [f"key {message.key}"] if message.key is not None else []
    about += [f"lane {message.lane}"] if message.lane != "normal" else []
    about += [f"headers {readable(dict(message.headers))}"] if message.headers else []
    data = readable(message.data) if message.complete else f"{message.size:,} bytes that do not decode"
    return [f"{message.number:,}  {readable(message.id)}  {readable(', '.join(about))}", f"    {data}"]


@click.command()
@click.argument("stream", metavar="NAME")
@click.option("--settled", is_flag=True, help="Also what nobody is to have any more and is still on the disk.")
@asked
@click.option("--json", is_flag=True, expose_value=False, help="As it is in any case.")
def export(stream: str, settled: bool, spools: Directory | Realm) -> int:
    """Write the messages of NAME, a queue or topic, one JSON object a line, without taking them. What of a topic never
    came to the spool is told on standard error, as a subscriber is told."""
    total = sum(row.depth for row in spools.streams() if row.name == stream)
    damage = Damage(stream)
    with bar(f"export {stream}") as progress:
        messages = spools.export(stream, 1, None, settled, damage)
        count, incomplete = write_all(messages, lambda done: progress(done, total))
    note(f"{counted(count)} exported")
    if incomplete:
        note(f"{counted(incomplete)} without data: they do not decode")
    return ERROR if incomplete else damage.code or spools.code


def write_all(messages: Iterator[zq.SpooledMessage], progress: Callable[[int], None]) -> tuple[int, int]:
    """Prints them as NDJSON, and returns how many that were, and how many of them without data."""
    output, count, incomplete = Output(), 0, 0
    while batch := list(islice(messages, BATCH)):
        output.write([line(to_json(as_record(message))) for message in batch])
        count += len(batch)
        incomplete += sum(not message.complete for message in batch)
        progress(count)
    return count, incomplete


@click.command()
@click.argument("queue")
@asked
@parameters.as_json
def purge(queue: str, spools: Directory | Realm, as_json: bool) -> int:
    """Remove all that waits in QUEUE, for good. What is in flight at a puller is not removed: then nothing is."""
    count = spools.purge(queue)
    if as_json:
        emit(line(to_json({"count": count})))
    elif count or not spools.code:
        note(f"{counted(count)} purged")
    return spools.code


@click.command()
@asked
@parameters.as_json
def verify(spools: Directory | Realm, as_json: bool) -> int:
    """Read everything, and tell what is damaged: file, bytes, and numbers of the messages that are lost by it. Ends
    with 1 if anything is."""
    with bar("verify") as progress:
        problems, size = spools.verify(progress)
    if as_json:
        emit(b"".join(line(to_json(record(problem))) for problem in problems))
    else:
        emit(b"".join(line(readable(told_of(problem))) for problem in problems))
        note(f"{size:,} bytes read: {counted(len(problems), 'problem') if problems else 'no damage'}")
    return ERROR if problems else spools.code


def told_of(problem: zq.SpoolProblem) -> str:
    return f"{problem.holder}: {problem.text}" if problem.holder else problem.text


@click.command()
@click.option("--forget", nargs=2, metavar="STREAM CURSOR", help="Forget this cursor.")
@asked
@parameters.as_json
def cursors(forget: tuple[str, str] | None, spools: Directory | Realm, as_json: bool) -> int:
    """List the named positions in topics: next message, how far behind it is, and what was trimmed before it came."""
    if forget is not None:
        spools.forget(*forget)
        if not spools.code:
            note(f"{forget[1]} is forgotten")
        return spools.code
    rows = spools.cursors()
    if as_json:
        emit(b"".join(line(to_json(record(row))) for row in rows))
    elif rows:
        print_table(columns(CURSORS, spools), rows)
    else:
        note(f"there are no cursors in {spools.label}")
    return spools.code


COMMANDS = (list_streams, show, export, purge, verify, cursors)
