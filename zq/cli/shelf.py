"""The commands of `zq spool`: what is in a spool, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import click

import zq
from zq.cli import parameters
from zq.cli.bar import bar
from zq.cli.notes import ERROR, OK, counted, note
from zq.cli.output import Output
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

directory = click.option("--dir", "place", type=click.Path(path_type=Path), required=True, help="Of the spool.")


def ranges(found: tuple[tuple[int, int], ...]) -> str:
    """Numbers of messages: `17, 20-31`."""
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def as_record(message: zq.SpooledMessage) -> dict[str, Any]:
    """A message as a JSON object."""
    return record(message) | {"data": message.data, "headers": dict(message.headers)}


@click.command("ls")
@directory
@parameters.as_json
def list_streams(place: Path, as_json: bool) -> int:
    """List the queues and topics of a spool: messages that wait, their bytes, how long the oldest has been there, how
    far the slowest cursor is behind, and numbers of messages that are damaged."""
    rows = zq.SpoolDirectory(place).streams()
    if as_json:
        emit(b"".join(line(to_json(record(row))) for row in rows))
    elif rows:
        print_table(STREAMS, rows)
        for row in rows:
            for problem in row.problems:
                note(problem)
    else:
        note(f"{place} has no queue and no topic")
    return OK


@click.command()
@click.argument("name")
@click.option("-n", "--count", type=click.IntRange(min=1), default=SHOWN, show_default=True, help="Messages at most.")
@click.option("--from", "first", type=click.IntRange(min=1), default=1, metavar="N", help="Begin with message N.")
@directory
@parameters.as_json
def show(name: str, count: int, first: int, place: Path, as_json: bool) -> int:
    """Show the oldest messages of NAME, a queue or topic, without taking them."""
    damage = Damage(name)
    found = list(islice(zq.SpoolDirectory(place).export(name, first=first, on_damage=damage.add), count))
    if as_json:
        emit(b"".join(line(to_json(as_record(message))) for message in found))
    elif found:
        emit(b"".join(line(text) for message in found for text in told(message)))
    else:
        note(f"{name} is empty")
    return damage.code


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
    data = readable(message.data) if message.complete else f"{message.size:,} bytes, too large to show"
    return [f"{message.number:,}  {readable(message.id)}  {readable(', '.join(about))}", f"    {data}"]


@click.command()
@click.argument("name")
@click.option("--settled", is_flag=True, help="Also what nobody is to have any more and is still on the disk.")
@directory
def export(name: str, settled: bool, place: Path) -> int:
    """Write the messages of NAME, a queue or topic, one JSON object a line, without taking them."""
    spool = zq.SpoolDirectory(place)
    total = next((row.depth for row in spool.streams() if row.name == name), 0)
    damage = Damage(name)
    with bar(f"export {name}") as progress:
        messages = spool.export(name, settled=settled, on_damage=damage.add)
        count = write_all(messages, lambda done: progress(done, total))
    note(f"{counted(count)} exported")
    return damage.code


def write_all(messages: Iterator[zq.SpooledMessage], progress: Callable[[int], None]) -> int:
    """Prints them as NDJSON, and returns how many that were."""
    output, count = Output(), 0
    while batch := list(islice(messages, BATCH)):
        output.write([line(to_json(as_record(message))) for message in batch])
        count += len(batch)
        progress(count)
    return count


@click.command()
@click.argument("queue")
@directory
@parameters.as_json
def purge(queue: str, place: Path, as_json: bool) -> int:
    """Remove all that waits in QUEUE, for good. What is in flight at a puller is not removed: then nothing is."""
    count = zq.SpoolDirectory(place).purge(queue)
    if as_json:
        emit(line(to_json({"count": count})))
    else:
        note(f"{counted(count)} purged")
    return OK


@click.command()
@directory
@parameters.as_json
def verify(place: Path, as_json: bool) -> int:
    """Read everything, and tell what is damaged: file, bytes, and numbers of the messages that are lost by it. Ends
    with 1 if anything is."""
    with bar("verify") as progress:
        report = zq.SpoolDirectory(place).verify(progress)
    if as_json:
        emit(line(to_json(record(report))))
    else:
        emit(b"".join(line(readable(problem.text)) for problem in report.problems))
        what = counted(len(report.problems), "problem") if report.problems else "no damage"
        note(f"{counted(report.streams, 'stream')}, {report.bytes:,} bytes: {what}")
    return ERROR if report.problems else OK


@click.command()
@click.option("--forget", nargs=2, metavar="STREAM CURSOR", help="Forget this cursor.")
@directory
@parameters.as_json
def cursors(forget: tuple[str, str] | None, place: Path, as_json: bool) -> int:
    """List the named positions in topics: next message, how far behind it is, and what was trimmed before it came."""
    spool = zq.SpoolDirectory(place)
    if forget is not None:
        spool.forget(*forget)
        note(f"{forget[1]} is forgotten")
        return OK
    rows = spool.cursors()
    if as_json:
        emit(b"".join(line(to_json(record(row))) for row in rows))
    elif rows:
        print_table(CURSORS, rows)
    else:
        note(f"{place} has no cursors")
    return OK


COMMANDS = (list_streams, show, export, purge, verify, cursors)
