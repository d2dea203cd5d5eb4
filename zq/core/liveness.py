"""The states of another peer, and what moves it from one to the next.

    FOUND --proven--> UP --lost--> SUSPECT --proven--> UP
                       |             |
                       +--goodbye----+--silent or refused--> GONE
                       +--barred-----+

*Proven* means that our hello on a connection came back as its welcome, so that both directions carry frames and the
right process answers. *Lost* is a broken mailbox connection, by reset or by heartbeats that stay away. A peer that is
GONE may be found again; then it starts over with a session of its own. *Barred* is who does not keep to its limits.
"""

from __future__ import annotations

from enum import Enum

SUSPECT_FOR = 2.0  # s of suspicion until a peer is gone; heartbeats take up to 3 s to notice: 5 s in all
REFUSALS = 2  # refused re-dials of every address after which a suspect is gone at once


class Life(Enum):
    FOUND = "found"
    UP = "up"
    SUSPECT = "suspect"
    GONE = "gone"


class Sign(Enum):
    PROVEN = "proven"
    LOST = "lost"
    SILENT = "silent"
    REFUSED = "refused"
    GOODBYE = "goodbye"
    BARRED = "barred"


NEXT = {
    (Life.FOUND, Sign.PROVEN): Life.UP,
    (Life.FOUND, Sign.GOODBYE): Life.GONE,
    (Life.UP, Sign.PROVEN): Life.UP,
    (Life.UP, Sign.LOST): Life.SUSPECT,
    (Life.UP, Sign.GOODBYE): Life.GONE,
    (Life.UP, Sign.BARRED): Life.GONE,
    (Life.SUSPECT, Sign.PROVEN): Life.UP,
    (Life.SUSPECT, Sign.SILENT): Life.GONE,
    (Life.SUSPECT, Sign.REFUSED): Life.GONE,
    (Life.SUSPECT, Sign.GOODBYE): Life.GONE,
    (Life.SUSPECT, Sign.BARRED): Life.GONE,
}


class Liveness:
    """The state of one peer; an illegal step raises and changes nothing."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state = Life.FOUND

    def step(self, sign: Sign) -> Life:
        following = NEXT.get((self.state, sign))
        if following is None:
            raise ValueError(f"a peer that is {self.state.value} cannot be {sign.value}")
        self.state = following
        return following
