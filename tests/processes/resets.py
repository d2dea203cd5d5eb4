"""Resetting TCP connections between two living processes, as a firewall or a rebooting switch does it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

KINDS = ("mailbox", "feed", "work")

needs_resets = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("ss") is None, reason="needs ss of iproute2"),
]


def port_of(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def reset(*ports: int) -> int:
    """Resets the connections that were accepted on any of `ports`; returns how many there were."""
    ends = " or ".join(f"sport = :{port}" for port in ports)
    closed = subprocess.run(
        ["ss", "--kill", "--tcp", "--numeric", "--no-header", "state", "established", f"( {ends} )"],
        capture_output=True,
        text=True,
        check=True,
    )
    return len(closed.stdout.splitlines())
