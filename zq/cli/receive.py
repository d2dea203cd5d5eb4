"""What `zq sub` and `zq pull` share: receive, write, then settle."""

from __future__ import annotations

import zq
from zq.cli.notes import OK, UNFINISHED, counted, note
from zq.cli.output import Output
from zq.cli.render import Render

BATCH = 512  # messages written and flushed at once; what one frame carries


def show(source: zq.Subscriber | zq.Puller, render: Render, *, count: int | None, timeout: float | None) -> int:
    """Writes messages to standard output until `count` have been written or none came for `timeout` seconds.

    A message is acknowledged when it is with the operating system. One that could not be written, because the reader
    has left or the disk is full, is given back: it goes to somebody else. Returns the exit code.
    """
    output = Output()
    shown = 0
    try:
        while count is None or shown < count:
            most = BATCH if count is None else min(BATCH, count - shown)
            batch = source.receive_many(most, timeout=timeout)
            shown += write(output, batch, render)
    except zq.Timeout:
        pass  # nothing came for so long: that is how a bounded run ends
    except BrokenPipeError:
        return OK  # `| head` has seen enough
    except KeyboardInterrupt:
        note(f"interrupted after {counted(shown)}")
    if count is not None and shown < count:
        note(f"{counted(shown)} of {count:,}")
        return UNFINISHED
    return OK


def write(output: Output, batch: list[zq.Message], render: Render) -> int:
    """Writes a batch and settles every message of it, whatever happens."""
    settled = 0
    try:
        output.write(render(message) for message in batch)
        for message in batch:
            message.ack()
            settled += 1
    except BaseException:
        for message in batch[settled : output.whole]:
            message.ack()
        for message in batch[max(settled, output.whole) :]:
            message.give_back()
        raise
    return len(batch)
