"""The peers of the rate workloads: over TCP on the loopback interface, found through the host directory alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import zq
import zq.aio
from benchmarks.process import Failed

LOOPBACK = ("127.0.0.1",)
# Without mDNS: a process that is loading zeroconf competes for the processor just while the rate is measured.
RUNGS = ("host",)


def blocking(name: str, key_file: str | None = None) -> zq.Peer:
    """Open to everybody on this machine, or with a key to those who have it."""
    key, insecure = (None, True) if key_file is None else (Path(key_file), None)
    return zq.Peer(name, insecure=insecure, key_file=key, interfaces=LOOPBACK, discovery=RUNGS)


def asynchronous(name: str) -> zq.aio.Peer:
    return zq.aio.Peer(name, insecure=True, interfaces=LOOPBACK, discovery=RUNGS)


def require_tcp(others: Iterable[zq.PeerInfo]) -> None:
    """A figure over ipc would not be what the workload says it is: raises `Failed`."""
    for other in others:
        if not other.address.startswith("tcp://"):
            raise Failed(f"{other.name} is reached by {other.address}, not over TCP")
