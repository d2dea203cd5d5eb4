"""The lock of a realm: what is set on every socket, so that nobody without the key gets a byte in or out.

CURVE (RFC 26) encrypts and authenticates each connection. A realm key gives two pairs, one that peers listen with and
one that they connect with, the same for every peer of the realm. Who connects must know the public half of the first,
which is never on the wire and in no record, so a stranger fails at the first message; and `Zap` lets in nobody but
those who have proven the second. Both directions: who listens without the key cannot answer whoever connects.

`ZAP_ENFORCE_DOMAIN` makes libzmq refuse everybody when nobody answers for the domain, instead of letting them in.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import date

import zmq
from zmq.utils import z85

from zq.errors import Refused
from zq.security.keys import Keys, RealmKey

DOMAIN = b"zq"  # for which `Zap` answers
TAG_BYTES = 8  # of a hash: tells realms apart in records that everybody can read
PROOF_BYTES = 16  # of an HMAC-SHA256 in such a record; RFC 2104 asks for half of the hash

Socket = zmq.Socket[bytes]
Key = Callable[[Socket], None]  # what makes a connecting socket fit a lock


class Pair:
    """A CURVE25519 key pair. No dataclass: those show their fields."""

    __slots__ = ("public", "secret")

    def __init__(self, public: bytes, secret: bytes) -> None:
        self.public = public
        self.secret = secret

    @classmethod
    def of(cls, secret: bytes) -> Pair:
        return cls(z85.decode(zmq.curve_public(z85.encode(secret))), secret)


class Cut:
    """What one realm key comes to in the realm of that name."""

    __slots__ = ("_proof", "client", "server", "tag")

    def __init__(self, key: RealmKey, realm: str) -> None:
        self.server = Pair.of(key.derive("listen", realm))
        self.client = Pair.of(key.derive("connect", realm))
        self.tag = key.derive("tag", realm, TAG_BYTES).hex()
        self._proof = key.derive("record", realm)

    def proof(self, text: str) -> str:
        return hmac.digest(self._proof, text.encode(), "sha256")[:PROOF_BYTES].hex()


class Lock:
    """The lock of one peer, for the engine's thread. Raises Refused where libzmq was built without CURVE."""

    def __init__(self, keys: Keys, realm: str, today: date) -> None:
        if not zmq.has("curve"):
            raise Refused("this libzmq was built without CURVE; install pyzmq from its wheels to use a key")
        self._cuts = tuple(Cut(key, realm) for key in keys.keys)
        self.own = keys.binding(today)  # the index of the one that we listen with
        self._own = self._cuts[self.own]
        self.tag = self._own.tag  # of the key that we listen with
        self.keys = len(self._cuts)  # to dial with: two while one is being replaced

    def shut(self, socket: Socket) -> None:
        """Before it is bound: only who has the key can connect to it."""
        socket.set(zmq.CURVE_SERVER, 1)
        socket.set(zmq.CURVE_SECRETKEY, self._own.server.secret)
        socket.set(zmq.ZAP_DOMAIN, DOMAIN)
        socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def fit(self, socket: Socket, index: int = 0) -> None:
        """Before it is connected: it fits the lock of every peer that listens with that key."""
        cut = self._cuts[index % self.keys]
        fit(socket, cut.server.public, cut.client)

    def fit_stranger(self, socket: Socket) -> None:
        """As somebody who knows whom he connects to, but does not have the key."""
        public, secret = zmq.curve_keypair()
        fit(socket, self._own.server.public, Pair(z85.decode(public), z85.decode(secret)))

    def fit_own(self, socket: Socket) -> None:
        """It fits this very lock."""
        fit(socket, self._own.server.public, self._own.client)

    def admits(self, public: bytes) -> bool:
        """Whether a connection that has proven this key is of the realm; in constant time."""
        return any(hmac.compare_digest(public, cut.client.public) for cut in self._cuts)

    def knows(self, tag: str) -> bool:
        """Whether a tag is that of one of our keys."""
        return any(tag == cut.tag for cut in self._cuts)

    def proof(self, text: str) -> str:
        """Shows that whoever wrote `text` has the key."""
        return self._own.proof(text)

    def proves(self, tag: str, text: str, proof: str) -> bool:
        """Whether somebody with the key of that tag wrote `text`."""
        return any(cut.tag == tag and hmac.compare_digest(cut.proof(text), proof) for cut in self._cuts)


def fit(socket: Socket, server: bytes, client: Pair) -> None:
    socket.set(zmq.CURVE_SERVERKEY, server)
    socket.set(zmq.CURVE_PUBLICKEY, client.public)
    socket.set(zmq.CURVE_SECRETKEY, client.secret)
