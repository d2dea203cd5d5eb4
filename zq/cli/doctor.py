"""`zq doctor`: why peers do not see each other, and the one setting that fixes it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

import click

import zq.doctor
from zq.cli import connection, parameters
from zq.cli.notes import ERROR, OK, counted, note
from zq.cli.render import line, to_json
from zq.cli.table import emit, record
from zq.doctor import DURATION, Finding

MARKS = {"ok": "ok", "note": "note", "warning": "warning", "problem": "PROBLEM"}


@click.command()
@parameters.as_json
@click.option("--peer", metavar="HOST[:PORT]", help="Another host: can a peer there and one here meet?")
@click.option("--listen", "listening", is_flag=True, help="Be a peer for the doctor of another host, until Ctrl-C.")
@click.option(
    "--timeout",
    type=parameters.SECONDS,
    default=DURATION,
    show_default=True,
    metavar="S",
    help="Take some S seconds at most.",
)
@connection.setting_options
def doctor(as_json: bool, peer: str | None, listening: bool, timeout: float, settings: dict[str, Any]) -> int:
    """Find out why peers do not see each other.

    Looks at the settings, this machine, and the networks that the settings open; with --peer also at another host, on
    which a peer runs. Ends with 1 if there is a problem.
    """
    if listening:
        if peer is not None:
            raise click.UsageError("--listen and --peer exclude each other")
        try:
            zq.doctor.listen(settings, until=threading.Event().wait, began=lambda name: note(f"{name} listens"))
        except KeyboardInterrupt:
            pass  # the way to end it
        return OK
    findings = zq.doctor.examine(settings, peer=peer, timeout=timeout)
    if as_json:
        emit(b"".join(line(to_json(record(finding))) for finding in findings))
    else:
        show(findings)
    problems = sum(finding.level == "problem" for finding in findings)
    if problems:
        note(counted(problems, "problem"))
    return ERROR if problems else OK


def show(findings: Sequence[Finding]) -> None:
    """Under the name of each check its findings; below each what to do about it, if there is anything."""
    order = list(dict.fromkeys(finding.check for finding in findings))
    for check, group in itertools.groupby(
        sorted(findings, key=lambda finding: order.index(finding.check)), key=lambda finding: finding.check
    ):
        emit(line(check))
        for finding in group:
            emit(line(f"  {MARKS[finding.level]:<8} {finding.subject}: {finding.what}"))
            if finding.fix:
                emit(line(f"           fix: {finding.fix}"))
