"""What an mDNS record of zq says: read and checked, without a socket or python-zeroconf.

Anybody on the LAN can write one, so nothing of it is believed: it makes its reader dial, if that much is proven.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from zq.discovery.interfaces import endpoint, is_loopback
from zq.record import dataclass

SERVICE = "_zq._tcp.local."
ENDPOINTS = 16  # of one peer that are worth dialling; a forged record may list hundreds
TAG_BYTES = 200  # of a realm tag; the whole TXT record stays below 400

INSTANCE = re.compile(rf"([0-9a-f]{{32}})\.{re.escape(SERVICE)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """What a record says about a peer; none of it is proven."""

    id: bytes
    tag: str  # of its realm
    version: int  # of the protocol
    endpoints: tuple[str, ...]  # of its mailbox: those that we could reach, at least one
    port: int = 0  # of its mailbox
    proof: str = ""  # that its writer has the realm's key, for whoever has it too

    @property
    def proven_text(self) -> str:
        """What `proof` is about."""
        return proven_text(self.id, self.tag, self.version, self.port)


def proven_text(id: bytes, tag: str, version: int, port: int) -> str:
    """What a record says that must not be forged. Its addresses may change without a new record, and are left out:
    a false one costs a dial."""
    return f"zq mdns v={version} id={id.hex()} tag={tag} port={port}"


def sighting(
    name: str, properties: Mapping[bytes, bytes | None], port: int | None, addresses: Iterable[str], *, loopback: bool
) -> Sighting | None:
    """What a resolved record says. Raises ValueError if it is none of zq's.

    None if no address is left: on `loopback` only loopback addresses can be meant for us, elsewhere they never are.
    (A listener on loopback also hears the LAN when another process of the host has joined the group there.)
    """
    match = INSTANCE.fullmatch(name)
    id, tag, version, said = ((properties.get(key) or b"").decode("ascii") for key in (b"id", b"tag", b"v", b"port"))
    if match is None or id != match[1]:
        raise ValueError("the name and the id differ")
    if not 1 <= len(tag) <= TAG_BYTES or not tag.isprintable():
        raise ValueError("no realm tag")
    if not re.fullmatch(r"[0-9]{1,5}", version) or port is None or port < 1 or said != str(port):
        raise ValueError("no version, or no port")
    proof = (properties.get(b"proof") or b"").decode("ascii")
    if not re.fullmatch(r"[0-9a-f]{0,64}", proof):
        raise ValueError("no proof")
    meant = [endpoint(address, port) for address in addresses if is_loopback(address) == loopback]
    if not meant:
        return None
    return Sighting(
        id=bytes.fromhex(id),
        tag=tag,
        version=int(version),
        endpoints=tuple(meant[:ENDPOINTS]),
        port=port,
        proof=proof,
    )
