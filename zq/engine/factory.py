"""The only maker of sockets that reach others: a realm's key is on each from the first moment, and so are its limits.

A mailbox's connection is watched by heartbeats, feed and work by TCP's keepalive. What a network needs, a Unix socket
has no use for: each option takes microseconds, and hundreds of peers are dialled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq

from zq.core.endpoints import TCP, is_local
from zq.core.port import Kind
from zq.wire.limits import MAILBOX_FRAME, PAYLOAD

if TYPE_CHECKING:  # loaded with the first key
    from zq.security.lock import Lock

Socket = zmq.Socket[bytes]

HEARTBEAT = 1_000  # ms between pings on mailboxes
HEARTBEAT_TIMEOUT = 1_900  # ms without an answer until the connection is cut: suspect within 3 s of silence
# On this machine only so many mailboxes are asked like others. Each costs 60 us of processor a second: with 200 peers
# they alone took more than two processors. What dies here the kernel tells us; who is stopped may be noticed later. All
# together there are as many pairs as the square of their number, so that is by how much later each is asked.
FEW = 32
HEARTBEAT_MOST = 10_000  # ms between pings up to which
HANDSHAKE = 3_000  # ms a connection may take to become one; libzmq's 30 s let strangers hold descriptors
HANDSHAKE_HERE = 30_000  # ms; where only this user can come from. When 200 peers start at once, it may take seconds
RECONNECT, RECONNECT_MOST = 20, 200  # ms between attempts to connect, doubled up to; one that leads nowhere takes 1 s
CONNECT_TIMEOUT = 1_000  # ms; a SYN that is not answered is sent anew, rather than after TCP's longer and longer waits
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 1, 1, 3  # s, s, probes: feed and work have no heartbeat
RETRANSMIT = 3_000  # ms that written data may stay unacknowledged (TCP_MAXRT)
CONTROL_FRAME = 1 << 10  # bytes; where no messages come in, only subscriptions, pings and the handshake do
SEAL = 33  # bytes that CURVE adds to a frame, and that libzmq counts: name, nonce, flags and authenticator; RFC 26
HIGH_WATER_MARK = 10_000  # frames; bounds a stalled pipe, back-pressure is credit and windows
BACKLOG = 512  # connections waiting to be accepted, on this machine or from everybody
BACKLOG_LOCKED = 128  # where strangers may come: what waits there comes in although the valve is closed by then
MAX_SOCKETS = 16_384  # three and two monitors a remote peer

_LISTENERS = {Kind.MAILBOX: zmq.PULL, Kind.WORK: zmq.PULL, Kind.FEED: zmq.XPUB}
_CALLERS = {Kind.MAILBOX: zmq.PUSH, Kind.WORK: zmq.PUSH, Kind.FEED: zmq.SUB}
_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)


def interval_among(crowd: int) -> int:
    """Milliseconds between pings to one of so many peers on this machine."""
    return HEARTBEAT if crowd < FEW else min(HEARTBEAT * crowd**2 // FEW**2, HEARTBEAT_MOST)


class Factory:
    """Of one peer, whose context it owns. Belongs to the engine's thread."""

    def __init__(self, lock: Lock | None) -> None:
        self.context: zmq.Context[Socket] = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
        self.lock = lock
        self._monitors = 0

    def listener(self, kind: Kind) -> Socket:
        """One that is to be bound. With a lock, nobody without the key is connected to it."""
        socket = self._socket(_LISTENERS[kind])
        _prepare_for_networks(socket)
        socket.set(zmq.BACKLOG, BACKLOG if self.lock is None else BACKLOG_LOCKED)
        if kind is Kind.FEED:
            socket.set(zmq.XPUB_VERBOSER, 1)  # all that is subscribed and taken back, so that it can be counted
            socket.set(zmq.MAXMSGSIZE, CONTROL_FRAME)
        elif kind is Kind.MAILBOX:
            socket.set(zmq.MAXMSGSIZE, MAILBOX_FRAME + (0 if self.lock is None else SEAL))
        else:
            socket.set(zmq.MAXMSGSIZE, PAYLOAD + MAILBOX_FRAME)
        if self.lock is not None:
            self.lock.shut(socket)
        return socket

    def caller(self, kind: Kind, endpoint: str, crowd: int, *, watched: bool) -> tuple[Socket, Socket | None]:
        """One that is to be connected there, without a key yet, and its monitor if it is `watched`.

        `crowd`: how many peers there are, as far as somebody knows. Raises zmq.ZMQError, and leaves nothing behind, if
        they cannot be had.
        """
        socket = self._socket(_CALLERS[kind])
        monitor = None
        try:
            socket.set(zmq.RECONNECT_IVL, RECONNECT)
            socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MOST)
            if endpoint.startswith(TCP):
                _prepare_for_networks(socket)
            else:
                socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_HERE)
            socket.set(zmq.MAXMSGSIZE, PAYLOAD + MAILBOX_FRAME if kind is Kind.FEED else CONTROL_FRAME)
            if kind is Kind.MAILBOX:
                interval = interval_among(crowd) if is_local(endpoint) else HEARTBEAT
                socket.set(zmq.HEARTBEAT_IVL, interval)
                socket.set(zmq.HEARTBEAT_TIMEOUT, max(interval, HEARTBEAT_TIMEOUT))
            if watched:
                monitor = self._monitor(socket)
        except zmq.ZMQError:
            socket.close(0)
            if monitor is not None:
                monitor.close(0)
            raise
        return socket, monitor

    def _monitor(self, socket: Socket) -> Socket:
        self._monitors += 1
        address = f"inproc://monitor-{self._monitors}"
        socket.monitor(address, _EVENTS)
        monitor = self.context.socket(zmq.PAIR)
        monitor.set(zmq.LINGER, 0)
        monitor.connect(address)
        return monitor

    def _socket(self, kind: int) -> Socket:
        socket = self.context.socket(kind)
        socket.set(zmq.LINGER, 0)
        for option in (zmq.SNDHWM, zmq.RCVHWM):
            socket.set(option, HIGH_WATER_MARK)
        return socket


def _prepare_for_networks(socket: Socket) -> None:
    socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE)
    socket.set(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT)
    socket.set(zmq.TCP_KEEPALIVE, 1)
    socket.set(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE)
    socket.set(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL)
    socket.set(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT)
    socket.set(zmq.TCP_MAXRT, RETRANSMIT)
    socket.set(zmq.IPV6, 1)
