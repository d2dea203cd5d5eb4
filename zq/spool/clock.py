"""The clocks of the machine: what time it is, and for how long it has been up, by one that nobody sets."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path

from zq.wire.stored import NO_BOOT, Stamp

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # Linux: drawn at each boot


@cache
def boot() -> bytes:
    """Which boot of the machine this is; NO_BOOT where it does not say."""
    try:
        text = BOOT_ID.read_text("ascii")
        return bytes.fromhex(text.strip().replace("-", ""))[: len(NO_BOOT)]
    except (OSError, ValueError):
        return NO_BOOT


def stamp() -> Stamp:
    """Now. Time that the machine is suspended counts."""
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else 0.0
    return Stamp(time.time(), boot() if uptime else NO_BOOT, uptime)
