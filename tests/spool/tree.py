"""What a directory holds, down to the last byte."""

from __future__ import annotations

import hashlib
from pathlib import Path


def tree(directory: Path) -> dict[str, str]:
    """Of everything in it what it is, its mode, and the hash of its bytes; the times of change too."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        what = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "directory"
        found[str(path.relative_to(directory))] = f"{status.st_mode:o} {status.st_mtime_ns} {status.st_size} {what}"
    return found
