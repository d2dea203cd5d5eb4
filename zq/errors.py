"""Every exception zq raises: one root, each says who is at fault and whether to try again."""

from __future__ import annotations

from collections.abc import Sequence

IDS_KEPT = 1_000  # ids an Undelivered carries at most; enough to look at, bounded in memory


class Error(Exception):
    """The root of all zq exceptions."""


class Timeout(Error, TimeoutError):
    """A wait ran out. What was asked for did not happen: a `send` that raises this was not taken; try again.

    `sent` is the number of messages that `send_many` had taken before it ran out.
    """

    def __init__(self, message: str, *, sent: int = 0) -> None:
        super().__init__(message)
        self.sent = sent


class Closed(Error):
    """The peer or handle is closed, here; open a new one."""


class Undelivered(Error):
    """A `flush` or `close` ran out of time with messages that nobody has confirmed.

    `count` is how many, `ids` names the first 1,000 of them, `waiting_for` says what was missing.
    """

    def __init__(self, count: int, ids: Sequence[str] = (), waiting_for: str = "") -> None:
        what = f"{count} message{'s' if count != 1 else ''} not confirmed"
        super().__init__(f"{what}: waiting for {waiting_for}" if waiting_for else what)
        self.count = count
        self.ids = tuple(ids[:IDS_KEPT])
        self.waiting_for = waiting_for


class NoPeer(Error):
    """Nobody in the realm offers what was asked for; start such a peer or wait for it."""


class PeerLost(Error):
    """The peer that had the request is gone; whether it was done is unknown. Ask again if twice is harmless."""


class RemoteError(Error):
    """The other side failed, and says how: `type` is the name of its exception, or what its program calls it;
    `text` its message. `Closed` and `Overloaded` are zq's own: the replier closed, or had too much."""

    def __init__(self, type: str, text: str) -> None:
        super().__init__(f"{type}: {text}" if text else type)
        self.type = type
        self.text = text


class Refused(Error, ValueError):
    """The argument cannot be used: a bad name, bad data, too large, options in conflict. Nothing was changed."""


class Forked(Error):
    """This peer belongs to the process that opened it; open a new one in the child."""


class EngineFailed(Error):
    """The thread that owns the sockets died of a bug; every handle of this peer is dead with it."""


class Incompatible(Error):
    """The other peer speaks no protocol version that this one knows; upgrade one of them."""


class AccessDenied(Error):
    """A file, directory or peer that is not ours, or open to others."""


class SpoolFull(Timeout):
    """A `send` ran out of time because the spool of its queue takes no more. It still delivers: let somebody pull, or
    give it room."""


class SpoolDamaged(Error):
    """Records of the spool do not verify; `zq spool verify` says which."""


class SpoolLocked(Error):
    """Another process owns this spool directory."""
