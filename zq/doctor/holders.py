"""Which process holds a UDP or TCP port, as Linux tells it in /proc; of other users' processes it tells root alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Protocol = Literal["udp", "tcp"]
LISTEN = "0A"  # a TCP socket's state, in /proc/net/tcp


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process, or an unknown one of a user."""

    pid: int | None
    command: str
    uid: int

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid})" if self.pid is not None else f"a process of user {self.uid}"


def holders(port: int, protocol: Protocol, root: Path = Path("/")) -> list[Holder]:
    """Everybody who has that port open, this process left out; empty as well where the system does not say."""
    owners: dict[str, int] = {}
    for table in (protocol, f"{protocol}6"):
        try:
            lines = (root / "proc" / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and (protocol == "udp" or fields[3] == LISTEN):
                owners[fields[9]] = int(fields[7])
    if not owners:
        return []
    found: dict[int | None, Holder] = {}
    named: set[str] = set()
    for process in (root / "proc").glob("[0-9]*"):
        theirs = inodes(process) & owners.keys()
        if theirs:
            named |= theirs
            pid = int(process.name)
            found[pid] = Holder(pid=pid, command=command(process), uid=owners[next(iter(theirs))])
    found.pop(os.getpid(), None)
    unknown = {Holder(pid=None, command="", uid=owners[inode]) for inode in owners.keys() - named}
    return [*found.values(), *unknown]


def inodes(process: Path) -> set[str]:
    """Of the sockets that a process has open."""
    found: set[str] = set()
    try:
        for descriptor in (process / "fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue  # closed since the listing
            if target.startswith("socket:["):
                found.add(target[len("socket:[") : -1])
    except OSError:
        pass  # another user's process, or it has ended
    return found


def command(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip() or "?"
    except OSError:
        return "?"
