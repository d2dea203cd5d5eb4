"""Room on the disk that is kept for what gives room back: a file of its own, let go of when a disk is full.

What has been settled has to be written down before segments may go; on a disk without a byte left that could not be
done, and nothing would ever leave it. The reserve is let go of then, nothing new is stored until it could be taken
again, and it is taken again as soon as there is room for it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from zq.spool.disk import Disk

RESERVE = "reserve"
SIZE = 256 << 10  # bytes: a journal of 9,000 ranges, a mark, and what is left of a segment


class Reserve:
    """One directory's reserve. Not thread-safe."""

    def __init__(self, disk: Disk, size: int = SIZE, draw: Callable[[int], bytes] = os.urandom) -> None:
        self._disk = disk
        self.size = size  # bytes
        self._draw = draw  # no file system stores these bytes as a hole
        self.held = False

    def take(self) -> bool:
        """Whether it is there, on the medium."""
        if self.held:
            return True
        try:
            file = self._disk.open(RESERVE)
            try:
                if file.size < self.size:  # a crash or a full disk cut it short
                    file.write(self._draw(self.size - file.size))
                    file.sync()
            finally:
                file.close()
            self._disk.sync()
            self.held = True
        except OSError:
            self.let_go()
        return self.held

    def let_go(self) -> None:
        """Its room is for others now."""
        self.held = False
        with contextlib.suppress(OSError):  # then there is none to give
            if RESERVE in self._disk.names():
                self._disk.remove(RESERVE)
                self._disk.sync()
