"""`zq spool`: keep queues on disk, and look at what is there."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import click

import zq
from zq.cli import connection
from zq.cli.notes import OK, counted, note
from zq.cli.parameters import to_seconds
from zq.cli.shelf import COMMANDS

EVERY = 5.0  # s between looks whether it is still there; whoever has started it may start it again


class Spools(click.Group):
    """Bare `zq spool` runs a spool; its options are given to that, those of a command behind the command."""

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "--queue QUEUE... --topic FILTER... --dir DIR [OPTIONS]")
        formatter.write_usage(ctx.command_path, f"{'|'.join(self.commands)} [--dir DIR] [OPTIONS]", prefix="       ")


@click.command(cls=Spools, invoke_without_command=True)
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="Where it is kept.")
@click.option("--queue", "queues", metavar="QUEUE", multiple=True, help="May be given several times.")
@click.option("--topic", "topics", metavar="FILTER", multiple=True, help="May be given several times.")
@click.option("--max-age", callback=to_seconds, metavar="TIME", help="Of topics, such as 7d: what is older goes.")
@click.option("--max-bytes", type=click.IntRange(min=1), metavar="N", help="Of each QUEUE, FILTER.")
@click.option("--max-messages", type=click.IntRange(min=1), metavar="N", help="Of each QUEUE, FILTER.")
@click.option("--min-free", type=click.IntRange(min=0), metavar="N", help="Bytes that are left free on the disk.")
@click.option("--max-dead", type=click.IntRange(min=1), metavar="N", help="Of dead letters; older ones are forgotten.")
@connection.setting_options
@click.pass_context
def spool(
    context: click.Context,
    directory: Path | None,
    queues: tuple[str, ...],
    topics: tuple[str, ...],
    max_age: float | None,
    max_bytes: int | None,
    max_messages: int | None,
    min_free: int | None,
    max_dead: int | None,
    settings: dict[str, Any],
) -> int:
    """Keep each QUEUE on disk, and what is published on topics that match a FILTER: what is pushed is confirmed once it
    is synced, and given to those who pull, now or later; what is published is there for `zq sub --durable` and
    `--since`. Runs until it is interrupted; started again with the same directory it goes on.

    While it runs, everything for these queues goes through it. Neither pushers nor pullers need to know, nor do
    publishers. A queue that has reached a limit takes no more; of topics the oldest messages go.

    The commands look at what spools have on disk: with --dir at a directory, whether a process has it open or not;
    without at those that run in the realm, which are asked.
    """
    if context.invoked_subcommand is not None:
        if directory is not None or queues or topics:
            raise click.UsageError(f"options of {context.invoked_subcommand} stand behind it")
        return OK
    if directory is None or not (queues or topics):
        raise click.UsageError("a spool needs --dir, and --queue or --topic")
    least = zq.SpoolOptions().min_free if min_free is None else min_free
    options = zq.SpoolOptions(
        max_bytes=max_bytes, max_messages=max_messages, max_age=max_age, min_free=least, max_dead=max_dead
    )  # fmt: skip
    with (
        zq.Peer(**settings) as peer,
        peer.spool(directory, queues=queues, topics=topics, options=options) as running,
    ):
        held = [f"{row.queue}: {counted(row.depth)}" for row in running.queues()]
        held += [f"{row.filter}: {counted(row.messages)}" for row in running.topics()]
        try:
            note(f"{directory} is open: {'; '.join(held)}")
            while True:
                threading.Event().wait(EVERY)
                running.queues()  # EngineFailed
        except KeyboardInterrupt:
            note("interrupted")
    return OK


for command in COMMANDS:
    spool.add_command(command)
