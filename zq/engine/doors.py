"""Where a peer listens, by mode, and what it tells others of that.

Nothing configured: ipc sockets in the host directory, which only this user can enter. A key, or `insecure`: TCP on the
chosen interfaces, one port each for mailbox, feed and work, the same on every address.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

try:
    from _blake2 import blake2b  # hashlib's own, without OpenSSL, which it loads for the others: 3 ms
except ImportError:
    from hashlib import blake2b

from zq.discovery.interfaces import endpoint, interface_addresses
from zq.discovery.place import SocketKind, socket_path
from zq.engine.listeners import Listeners
from zq.errors import Refused
from zq.options import Settings
from zq.record import dataclass

if TYPE_CHECKING:  # a program without a key does not pay for OpenSSL
    from zq.security.lock import Lock

PORT_TRIES = 200  # ports of the range that are tried
TAG_BYTES = 8  # of a hash; enough to tell realms apart, and it says nothing about their names


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What was bound: rows of mailbox, feed and work endpoints, and the mailbox port where there is one."""

    rows: list[list[str]]
    addresses: tuple[str, ...] = ()
    port: int | None = None


def realm_tag(settings: Settings) -> bytes:
    """Peers with another tag are strangers: another realm, or another mode.

    With a key it is told only to those who have shown the key; records that everybody can read carry `Lock.tag`.
    """
    mode = "insecure" if settings.insecure else "key" if settings.key_file is not None else "local"
    return blake2b(f"{mode}\0{settings.realm}".encode(), digest_size=TAG_BYTES).digest()


def realm_lock(settings: Settings) -> Lock | None:
    """What the realm key in the settings makes; None without one. Raises what `read_keys` raises."""
    if settings.key_file is None:
        return None
    from zq.security.keys import read_keys, today
    from zq.security.lock import Lock

    return Lock(read_keys(settings.key_file), settings.realm, today())


def open_doors(listeners: Listeners, settings: Settings, id: bytes, directory: Path) -> Doors:
    """Binds the three sockets. Raises Refused for an interface that is not there or a port that is taken."""
    return _open_tcp(listeners, settings) if settings.networked else _open_ipc(listeners, id, directory)


def _open_ipc(listeners: Listeners, id: bytes, directory: Path) -> Doors:
    kinds: tuple[SocketKind, ...] = ("m", "f", "w")
    row = [f"ipc://{socket_path(directory, id, kind)}" for kind in kinds]
    for socket, address in zip(listeners, row, strict=True):
        listeners.bind(socket, address)
    return Doors(rows=[row])


def _open_tcp(listeners: Listeners, settings: Settings) -> Doors:
    addresses = interface_addresses(settings.interfaces)
    low, high = settings.ports
    ports: list[int] = []
    for socket in listeners:
        if not ports and settings.port is not None:
            ports.append(_bind(listeners, socket, addresses, [settings.port], "port"))
        else:
            tries = random.sample(range(low, high + 1), min(PORT_TRIES, high - low + 1))
            ports.append(_bind(listeners, socket, addresses, tries, "ports"))
    rows = [[endpoint(address, port) for port in ports] for address in addresses]
    return Doors(rows=rows, addresses=tuple(addresses), port=ports[0])


def _bind(
    listeners: Listeners, socket: zmq.Socket[bytes], addresses: Sequence[str], ports: Sequence[int], option: str
) -> int:
    """The first of `ports` that is free on every address."""
    for port in ports:
        bound: list[str] = []
        try:
            for address in addresses:
                listeners.bind(socket, endpoint(address, port))
                bound.append(endpoint(address, port))
        except zmq.ZMQError as error:
            for name in bound:
                listeners.unbind(socket, name)
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise Refused(f"cannot listen on {addresses}: {error}") from error
            continue
        return port
    where = f"port {ports[0]} is" if len(ports) == 1 else f"{len(ports)} ports tried are"
    raise Refused(f"{where} in use on {', '.join(addresses)}; choose another {option}")
