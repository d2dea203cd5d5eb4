"""What the command line says beside the data: lines on standard error, and the exit code."""

from __future__ import annotations

import sys

from zq.cli.controls import CONTROLS

OK, ERROR, USAGE, UNFINISHED = range(4)  # exit codes; 3: a timeout, or messages that nobody has confirmed


def note(text: str) -> None:
    """Prints `text` on standard error, behind the program's name: one line, whatever is in it."""
    print(f"zq: {text}".translate(CONTROLS), file=sys.stderr, flush=True)


def counted(number: int, noun: str = "message") -> str:
    """`1 message`, `2 messages`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Complaints:
    """Lines that could not be sent: each is named on standard error, and the command ends with 1."""

    def __init__(self) -> None:
        self.code = OK

    def add(self, text: str) -> None:
        self.code = ERROR
        note(text)
