"""Where what is to be durable lies: on a disk, which temporary directories often are not."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SETTING: Final = "BENCH_DISK"  # a directory on the disk that is to be measured
DISK: Final = Path("/var/tmp")  # kept over a boot, so never in memory


def on_disk() -> Path:
    """The directory below which durable data of benchmarks lie."""
    return Path(os.environ.get(SETTING) or DISK)


@contextlib.contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """An empty directory on the disk, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=prefix, dir=on_disk(), ignore_cleanup_errors=True) as place:
        yield Path(place)
