"""Many peers at little cost: one process that has everything imported, and forks each of them into its namespace.

    python -m tests.lan.roles crowd

It is told, a line each: {"start": [[number, namespace], ...], "options": {...}, "others": [N, ...]} forks peers;
{"kill": number} kills one with -9; nothing ends them all. Each peer says when its life began, when it had the roster
entries of each of the `others` many others, and whom it sees leave after that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import zq
from tests.processes.roles import listen, role, say
from tests.processes.watching import wait_until
from zq.core.node import Node

NEW_NETWORK = 0x40000000  # CLONE_NEWNET; os.setns is there from Python 3.12
MEETING = 600.0  # s for meeting all others: two processors may have much to do


def enter(namespace: str) -> None:
    """This process, of one thread, is on that host from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/run/netns/{namespace}").open("rb") as file:
        if libc.setns(file.fileno(), NEW_NETWORK) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")


@role
def crowd() -> None:
    import asyncio  # noqa: F401 - what each peer's mDNS thread would import otherwise, at the same time

    import zeroconf.asyncio  # noqa: F401

    import zq.discovery.mdns  # noqa: F401

    children: dict[int, int] = {}
    say("ready")
    while (word := listen()) is not None:
        for number, namespace in word.get("start", ()):
            pid = os.fork()
            if pid == 0:
                _live(number, namespace, word["options"], word["others"])
            children[number] = pid
        if "kill" in word:
            pid = children.pop(word["kill"])
            os.kill(pid, signal.SIGKILL)
            say({"what": "killed", "number": word["kill"], "at": time.monotonic()})
            os.waitpid(pid, 0)
    for pid in children.values():
        os.kill(pid, signal.SIGKILL)
    for pid in children.values():
        os.waitpid(pid, 0)


def _live(number: int, namespace: str, options: dict[str, Any], others: list[int]) -> None:
    """Never returns."""
    try:
        began = time.monotonic()
        enter(namespace)
        if "host" not in options["discovery"]:
            os.environ["ZQ_HOST_DIR"] = tempfile.mkdtemp(prefix=f"{namespace}-")
        with contextlib.closing(zq.Peer(str(number), **options)) as peer:
            peer.open(timeout=MEETING)
            say({"what": "open", "number": number, "peer": peer.id.hex(), "began": began, "at": time.monotonic()})
            for count in others:
                wait_until(peer, partial(_has_entries, count), MEETING)
                say({"what": "met", "number": number, "others": count, "at": time.monotonic()})
            for event in peer.watch():
                if event.kind == "left":
                    say({"what": "left", "number": number, "peer": event.peer.id.hex(), "at": time.monotonic()})
    except BaseException as error:
        print(f"peer {number}: {error!r}", file=sys.stderr)
    finally:
        os._exit(1)


def _has_entries(count: int, node: Node) -> bool:
    """Whether it knows of so many what they offer."""
    return sum(remote.entry is not None for remote in node.meeting.roster.up()) >= count
