"""`zq spool`."""

from __future__ import annotations

import threading
from pathlib import Path

import click

import zq
from zq.cli import connection
from zq.cli.notes import OK, counted, note

EVERY = 3_600.0  # s; nothing to do but to be there


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path), required=True, help="Where it is kept.")
@click.option("--queue", "queues", metavar="QUEUE", multiple=True, required=True, help="May be given several times.")
@click.option("--max-bytes", type=click.IntRange(min=1), metavar="N", help="Of each queue; then it takes no more.")
@click.option("--max-messages", type=click.IntRange(min=1), metavar="N", help="Of each queue; then it takes no more.")
@click.option("--min-free", type=click.IntRange(min=0), metavar="N", help="Bytes that are left free on the disk.")
@click.option("--max-dead", type=click.IntRange(min=1), metavar="N", help="Of dead letters; older ones are forgotten.")
@connection.options
def spool(
    directory: Path,
    queues: tuple[str, ...],
    max_bytes: int | None,
    max_messages: int | None,
    min_free: int | None,
    max_dead: int | None,
    peer: zq.Peer,
) -> int:
    """Keep each QUEUE on disk: what is pushed is confirmed once it is synced, and given to those who pull, now or
    later. Runs until it is interrupted; started again with the same directory it goes on.

    While it runs, everything for these queues goes through it. Neither pushers nor pullers need to know.
    """
    least = zq.SpoolOptions().min_free if min_free is None else min_free
    options = zq.SpoolOptions(max_bytes=max_bytes, max_messages=max_messages, min_free=least, max_dead=max_dead)
    with peer, peer.spool(directory, queues=queues, options=options) as running:
        held = "; ".join(f"{row.queue}: {counted(row.depth)}" for row in running.queues())
        note(f"{directory} is open: {held}")
        try:
            while True:
                threading.Event().wait(EVERY)
        except KeyboardInterrupt:
            note("interrupted")
    return OK
