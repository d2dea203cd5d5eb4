"""Who listens on a TCP port, without introducing oneself: the first 64 bytes of ZMTP (RFC 23) say how it is locked.

Whoever listens says its mechanism, NULL or CURVE, once it knows our version; then we leave. To a peer with a key this
is one failed handshake, which it counts.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Literal

GREETING = 64  # bytes
_OPENING = b"\xff" + bytes(8) + b"\x7f" + b"\x03"  # signature and major version; the rest is not needed for an answer
_MECHANISM = slice(12, 32)

Reached = Literal["open", "refused", "silent", "unreachable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What came of it. `mechanism` is empty unless ZMTP is spoken there."""

    reached: Reached
    mechanism: str = ""
    why: str = ""


def greet(address: str, port: int, timeout: float) -> Greeting:
    """Connects to an address (no name) and reads the greeting, `timeout` seconds each. Never raises."""
    try:
        connection = socket.create_connection((address, port), timeout)
    except TimeoutError:
        return Greeting(reached="silent", why="no answer")
    except ConnectionRefusedError:
        return Greeting(reached="refused", why="connection refused")
    except OSError as error:
        return Greeting(reached="unreachable", why=error.strerror or errno.errorcode.get(error.errno or 0, str(error)))
    said = b""
    with connection:
        try:
            connection.sendall(_OPENING)
            while len(said) < GREETING and (piece := connection.recv(GREETING - len(said))):
                said += piece
        except OSError:
            pass  # it hung up, or says nothing: not ZMTP
    if said[:1] != b"\xff" or len(said) < _MECHANISM.stop:
        return Greeting(reached="open")
    return Greeting(reached="open", mechanism=said[_MECHANISM].rstrip(b"\0").decode("ascii", "replace"))
