"""Standard output for data: whole batches, and an exact count of what has gone out when it ends early."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Iterable
from itertools import accumulate


class Output:
    """Writes batches to a file descriptor; `whole` says how many pieces of the last batch went out completely.

    `sys.stdout` would keep what it could not write and try again at exit, when its messages have been given back.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = standard_output() if descriptor is None else descriptor
        self.whole = 0

    def write(self, pieces: Iterable[bytes]) -> None:
        """Returns when all pieces are with the operating system. Raises OSError; BrokenPipeError when nobody reads."""
        self.whole = 0
        batch = list(pieces)
        ends = list(accumulate(map(len, batch)))
        rest = memoryview(b"".join(batch))
        done = 0
        while self.whole < len(ends):
            if ends[self.whole] <= done:
                self.whole += 1
                continue
            try:
                done += os.write(self._descriptor, rest[done:])
            except BlockingIOError:  # somebody made the terminal or pipe we share non-blocking
                select.select([], [self._descriptor], [])


def standard_output() -> int:
    """Its descriptor. OSError if it is closed: its number may be that of a socket by now."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "standard output is closed")
    return sys.stdout.fileno()
