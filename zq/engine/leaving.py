"""What becomes of engines whose program does not close them: at exit, and in a forked child.

A process that exits without closing its peer drains for at most a second and says on stderr what nobody has confirmed.

After a fork the child holds descriptors of the parent's connections, which would keep a dead parent looking alive:
they are closed there, and every use raises Forked.
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import warnings
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

from zq.core.topics import Topic
from zq.engine.wake import ThreadToken
from zq.errors import Closed, EngineFailed

if TYPE_CHECKING:
    from zq.engine.engine import Engine

EXIT_DRAIN = 1.0  # s that a process which did not close its peer waits at exit: unexpected, so short

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def watch_over(engine: Engine) -> None:
    _engines.add(engine)


def forget(engine: Engine) -> None:
    """It has been stopped as it should be."""
    _engines.discard(engine)


# --- exit


def _at_exit() -> None:
    for engine in list(_engines):
        if not (engine.closed or engine.forked or engine.failed):
            _drain(engine)


def _drain(engine: Engine) -> None:
    """Confirms what can be in a second, and says what was not."""
    node, name = engine.node, engine.settings.name
    warnings.warn(f"peer {name} was not closed", ResourceWarning, stacklevel=1)
    asked: set[Topic] = set()

    def confirmed() -> bool:
        if any(topic.head or topic.outgoing.items for topic in node.topics) and not node.is_settled():
            return False  # whoever wants it may still be on the way
        for topic in node.topics:
            if topic not in asked and not topic.arrived_everywhere(topic.head):
                asked.add(topic)
                node.topics.announce_head(topic, node.now)
        return unconfirmed(engine) == 0 and not node.bindings.is_pending()

    try:
        condition = engine.when(confirmed)
        token = ThreadToken()
        condition.waiters.add(token)
        if not condition.holds:
            token.wait(EXIT_DRAIN)
        left = 0 if condition.holds else engine.call(lambda: unconfirmed(engine))
        engine.stop(linger=0.1)
    except (Closed, EngineFailed):
        return
    if left:
        print(f"zq: peer {name} was not closed: {left} messages not confirmed", file=sys.stderr)  # noqa: T201


def unconfirmed(engine: Engine) -> int:
    """Messages that nobody has confirmed, those in the piles included."""
    node = engine.node
    count = sum(len(outbox.outgoing.items) + outbox.held for outbox in node.pushing if not outbox.dead)
    for topic in node.topics:
        count += len(topic.outgoing.items)
        arrived = min((follower.arrived for follower in topic.followers.values()), default=topic.head)
        count += topic.head - arrived
    return count


# --- fork


def _after_fork_in_child() -> None:
    for engine in list(_engines):
        engine.abandon()
        ours = {_plain(endpoint) for endpoint in engine.endpoints()}
        for fd, names in _open_sockets():
            if names & ours:
                os.close(fd)


def _plain(endpoint: str) -> str:
    return endpoint.split("://", 1)[-1]


def _open_sockets() -> Iterator[tuple[int, set[str]]]:
    """The sockets among this process's descriptors with the names of both their ends."""
    try:
        fds = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - names are all that is wanted
    except OSError:
        fds = list(range(3, 1024))  # no /proc: those that a program usually has
    for fd in fds:
        try:
            copy = os.dup(fd)
        except OSError:
            continue  # it is closed
        try:
            duplicate = socket.socket(fileno=copy)
        except OSError:
            os.close(copy)
            continue  # no socket
        with duplicate:
            names: set[str] = set()
            for ask in (duplicate.getsockname, duplicate.getpeername):
                try:
                    name = ask()
                except OSError:
                    continue  # not connected
                if isinstance(name, str) and name:
                    names.add(name)
                elif isinstance(name, tuple) and len(name) >= 2:
                    host = str(name[0]).removeprefix("::ffff:")
                    names.add(f"[{host}]:{name[1]}" if ":" in host else f"{host}:{name[1]}")
        if names:
            yield fd, names


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
