"""Connections that libzmq has taken, by its descriptors: looked at and told something, though they are not ours.

A descriptor may be closed at any time, and be another's a moment later. So whoever uses one works on a duplicate, and
asks that whose it is.
"""

from __future__ import annotations

import os
import socket

UNKNOWN = "an unknown address"  # the connection was gone before it could be asked


def duplicate(descriptor: int) -> socket.socket | None:
    """None if it is closed, or no socket."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return None
    try:  # were family and type left out, the kernel would be asked for them; this one has room for any address
        return socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, copy)
    except OSError:
        os.close(copy)
        return None


def address_of(connection: socket.socket) -> str:
    """From where it came."""
    try:
        name = connection.getpeername()
    except OSError:
        return UNKNOWN
    return plain(str(name[0])) if isinstance(name, tuple) else UNKNOWN


def plain(address: str) -> str:
    """As everybody here writes it: one of IPv4 is the same on a socket of IPv6, and a link-local one is without its
    interface, which libzmq tells and Python does not."""
    return address.removeprefix("::ffff:").partition("%")[0]


def hold(connection: socket.socket, size: int) -> None:
    """Whoever waits for something to read there hears of it when so many bytes have come (Linux)."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
    except OSError:
        pass  # it is gone


def cut_off(connection: socket.socket) -> None:
    """libzmq finds that it has ended, and closes it."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is gone already
