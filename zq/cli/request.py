"""`zq request` and `zq reply`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from typing import Any

import click

import zq
from zq.cli import connection, parameters
from zq.cli.lines import BadLine, no_constant, parse, read
from zq.cli.notes import OK, UNFINISHED, Complaints, counted, note
from zq.cli.output import Output
from zq.cli.render import Render, only_data, raw

SHELL = "/bin/sh"
TAIL = 1_000  # characters of a failed command's standard error that the requester gets
LOST = 128  # + the number of a signal: how shells name what killed a command


@click.command()
@click.argument("service")
@click.argument("messages", metavar="[DATA]...", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="Ask every replier; the replies come as they are given.")
@click.option("-n", "--count", type=click.IntRange(min=1), metavar="N", help="With --all: end after N replies.")
@click.option(
    "--timeout",
    type=parameters.SECONDS,
    default=5.0,
    show_default=True,
    metavar="S",
    help="Wait S seconds for a reply.",
)
@parameters.rendering(only_data)
@connection.options
def request(
    service: str,
    messages: tuple[str, ...],
    everybody: bool,
    count: int | None,
    timeout: float,
    render: Render,
    peer: zq.Peer,
) -> int:
    """Ask SERVICE, and print its reply. DATA that begins with { or [ is JSON, any other is text; without DATA the
    request says nothing but that it is there; - asks once for each line of standard input.

    Each request goes to one replier, at most once. Ends with 1 if one failed or nobody replies to SERVICE, with 3 if
    a reply did not come in time.
    """
    if count is not None and not everybody:
        raise click.UsageError("-n belongs to --all: a request has one reply")
    complaints = Complaints()
    output = Output()
    with peer:
        for where, data in questions(messages, complaints):
            try:
                if everybody:
                    shown = show_all(peer, service, data, timeout, count, render, output)
                    if count is not None and shown < count:
                        note(f"{shown:,} of {count:,} replies")
                        return UNFINISHED
                else:
                    output.write([render(peer.request(service, data, timeout=timeout))])
            except (zq.RemoteError, zq.PeerLost) as error:
                complaints.add(f"{where}: {error}" if len(messages) > 1 or messages == ("-",) else str(error))
    return complaints.code


def questions(messages: tuple[str, ...], complaints: Complaints) -> Iterable[tuple[str, Any]]:
    """Where each request stood, and its data."""
    if not messages:
        return [("the request", None)]
    return read(() if messages == ("-",) else messages, complaints.add)


def show_all(
    peer: zq.Peer, service: str, data: Any, timeout: float, count: int | None, render: Render, output: Output
) -> int:
    """Prints the replies of everybody, or the first `count`; returns how many."""
    shown = 0
    for reply in peer.request_all(service, data, timeout=timeout):
        output.write([render(reply)])
        shown += 1
        if shown == count:
            break
    return shown


@click.command()
@click.argument("service")
@click.argument("command")
@click.option("--json", "as_json", is_flag=True, help="What COMMAND prints is JSON.")
@click.option("--raw", "as_is", is_flag=True, help="What COMMAND prints is bytes.")
@parameters.ending
@connection.options
def reply(
    service: str,
    command: str,
    as_json: bool,
    as_is: bool,
    count: int | None,
    timeout: float | None,
    peer: zq.Peer,
) -> int:
    """Reply to requests to SERVICE with what the shell's COMMAND prints, once for each.

    COMMAND gets the data on standard input: text with a line end, bytes as they are, other data as JSON. What it
    prints is the reply, without the last line end: JSON if it begins with { or [, else text, or bytes if it is not
    UTF-8. If it ends with anything but 0, the requester gets an error with the end of its standard error.
    """
    if as_json and as_is:
        raise click.UsageError("--json and --raw exclude each other")
    served = 0
    try:
        with peer, peer.replier(service) as replier:
            while count is None or served < count:
                request = replier.receive(timeout=timeout)
                with request:
                    assert isinstance(request, zq.Request)
                    serve(request, command, as_json=as_json, as_is=as_is)
                served += 1
    except zq.Timeout:
        pass  # nobody asked for so long: that is how a bounded run ends
    except KeyboardInterrupt:
        note(f"interrupted after {counted(served, 'request')}")
    if count is not None and served < count:
        note(f"{counted(served, 'request')} of {count:,}")
        return UNFINISHED
    return OK


def serve(request: zq.Request, command: str, *, as_json: bool, as_is: bool) -> None:
    """Runs `command` for one request, and answers it whatever happens."""
    said = b"" if request.data is None else raw(request)
    done = subprocess.run([SHELL, "-c", command], input=said, capture_output=True, check=False)
    if done.returncode != OK:
        kind = f"exit {done.returncode}" if done.returncode > 0 else f"exit {LOST - done.returncode}"
        text = done.stderr.decode(errors="replace").rstrip()[-TAIL:]
        note(f"{command!r:.60}: {kind}{f', {text[-200:]!r}' if text else ''}")
        request.fail(text, type=kind)
        return
    try:
        request.reply(result(done.stdout, as_json=as_json, as_is=as_is))
    except (BadLine, zq.Refused) as error:
        note(f"what {command!r:.60} printed is no reply: {error}")
        request.fail(str(error), type="BadReply")


def result(printed: bytes, *, as_json: bool, as_is: bool) -> Any:
    """The data that a command's output stands for. Raises BadLine."""
    if as_is:
        return printed
    try:
        text = printed.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        if as_json:
            raise BadLine("not UTF-8, and not JSON") from None
        return printed
    if as_json or "\n" not in text:
        return parse(text, every_line_is_json=as_json)
    try:
        return json.loads(text, parse_constant=no_constant) if text.startswith(("{", "[")) else text
    except (ValueError, RecursionError):
        return text  # several lines that only look like it
