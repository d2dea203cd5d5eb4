"""The command `zq` itself: which commands there are, and what an error becomes.

A command's module is imported when that command runs, and only then: `zq pub` in a shell loop must not pay for the
tables of `zq peers`.
"""

from __future__ import annotations

import importlib
import signal
from typing import Any

import click

import zq
from zq.cli.notes import ERROR, OK, UNFINISHED, USAGE, note
from zq.logs import prefix

COMMANDS = {  # name -> module in zq.cli and one line of help, so that `zq --help` imports no command
    "pub": ("publish", "Publish arguments, or lines of standard input, to a topic."),
    "sub": ("publish", "Print the messages of topics."),
    "push": ("work", "Push arguments, or lines of standard input, to a queue."),
    "pull": ("work", "Take messages from a queue, print and acknowledge them."),
    "request": ("request", "Ask a service, and print its reply."),
    "reply": ("request", "Reply to requests with what a command prints."),
    "peers": ("realm", "List the peers of the realm."),
    "topics": ("realm", "List the topics of the realm."),
    "queues": ("realm", "List the queues of the realm."),
    "spool": ("spool", "Keep queues on disk, so that nobody has to be there at the same time."),
    "dead": ("dead", "Look at messages that nobody could process, push them again, or forget them."),
    "ledger": ("ledger", "Show the counters that account for every message."),
    "doctor": ("doctor", "Find out why peers do not see each other."),
    "key": ("key", "Make a realm key, or show its fingerprint."),
    "config": ("config", "Show every setting and where its value comes from."),
}


class Application(click.Group):
    """The group of all commands: loads them lazily and turns every `zq.Error` into a line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"zq.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command. What it returns is the exit code."""
        # A service manager's SIGTERM and a user's Ctrl-C mean the same: end, and say what is undelivered.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        prefix("zq: ")
        try:
            code = super().invoke(ctx)
        except (zq.Timeout, zq.Undelivered) as error:
            code = UNFINISHED
            note(str(error))
        except zq.Refused as error:
            code = USAGE
            note(str(error))
        except BrokenPipeError:
            code = OK  # whoever reads the output has seen enough
        except (zq.Error, OSError) as error:
            code = ERROR
            note(str(error))
        except KeyboardInterrupt as interrupt:
            undelivered = getattr(interrupt, "__notes__", [])
            code = UNFINISHED if undelivered else ERROR
            note("; ".join(["interrupted", *undelivered]))
        ctx.exit(code or OK)


def show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version  # slow to import, and only this flag needs it

        click.echo(f"zq {version('zq-toolkit')}")
        ctx.exit()


@click.group(cls=Application, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show the version and end.",
)
def application() -> None:
    """Messages between processes that find each other, with nothing in the middle.

    Data goes to standard output, everything else to standard error. Exit codes: 0 done, 1 error, 2 wrong usage,
    3 timeout or messages that nobody has confirmed.
    """
