"""mDNS records in a realm with a key: what they say, and that a forged one is counted and not dialled."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

import zq
from tests.processes.conftest import Options, Start
from tests.processes.watching import Watcher
from tests.security.rogues import lock_of, lookout_of
from tests.waiting import eventually
from zq.discovery.sighting import SERVICE, Sighting, proven_text
from zq.security.keys import read_keys, today
from zq.security.lock import Lock

TXT_MOST = 400  # bytes; a record of a few hundred fits into one packet with others


def over_mdns(options: Options) -> Options:
    return options | {"discovery": ["mdns"]}


def text_of(info: ServiceInfo) -> dict[str, str]:
    return {key.decode(): (value or b"").decode() for key, value in info.properties.items()}


async def record_of(id: bytes) -> ServiceInfo:
    """As anybody on the network can read it."""
    async with AsyncZeroconf(interfaces=["127.0.0.1"]) as listener:
        browser = AsyncServiceBrowser(listener.zeroconf, SERVICE, handlers=[lambda **_: None])
        info = AsyncServiceInfo(SERVICE, f"{id.hex()}.{SERVICE}")
        async with asyncio.timeout(10.0):
            while not await info.async_request(listener.zeroconf, 500):
                pass
        await browser.async_cancel()
        return info


async def say(id: bytes, text: dict[str, str], port: int, heard: Callable[[], bool]) -> None:
    """Announces a record, again until it has been heard."""
    info = ServiceInfo(
        SERVICE, f"{id.hex()}.{SERVICE}", port=port, properties=text, server=f"{id.hex()}.local.",
        parsed_addresses=["127.0.0.1"],
    )  # fmt: skip
    async with AsyncZeroconf(interfaces=["127.0.0.1"]) as responder:
        await responder.zeroconf.async_wait_for_start()
        async with asyncio.timeout(15.0):
            while not heard():
                responder.zeroconf.async_send(responder.zeroconf.generate_service_broadcast(info, None))
                await asyncio.sleep(1.1)  # sooner, mDNS takes it for a duplicate


async def calls_after(peer: zq.Peer, id: bytes, heard: Callable[[], bool]) -> int:
    """Announces a record without a true proof that leads to a listener; returns how often that was called."""
    calls = 0

    async def on_call(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.close()

    server = await asyncio.start_server(on_call, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = {"v": "1", "id": id.hex(), "tag": lock_of(peer).tag, "port": str(port), "proof": secrets.token_hex(16)}
    await say(id, text, port, lambda: heard() or calls > 0)
    await asyncio.to_thread(peer.settle)
    server.close()
    return calls


def test_a_record_says_no_name_and_is_short(keyed: Options) -> None:
    with zq.Peer("secret-name", **over_mdns(keyed)) as peer:
        peer.publisher("secret-topic")
        text = text_of(asyncio.run(record_of(peer.id)))
        assert set(text) == {"v", "id", "tag", "port", "proof"}
        assert sum(len(key) + len(value) + 2 for key, value in text.items()) < TXT_MOST
        said = " ".join(text.values())
        assert "secret" not in said
        assert keyed["realm"] not in said
        assert lock_of(peer).proves(
            text["tag"], proven_text(peer.id, text["tag"], int(text["v"]), int(text["port"])), text["proof"]
        )


def test_processes_with_one_key_find_each_other_by_mdns_alone(start: Start, keyed: Options, others: Options) -> None:
    stranger = start("listed", over_mdns(others))
    stranger_id, _ = stranger.hear()
    friend = start("listed", over_mdns(keyed))
    friend_id, _ = friend.hear()
    with zq.Peer("here", **over_mdns(keyed)) as peer:
        Watcher(peer).wait_for("joined", friend_id)
        eventually(lambda: bytes.fromhex(stranger_id) in lookout_of(peer)._strangers)
        assert peer.strangers() >= 1
        assert [other.id.hex() for other in peer.peers()] == [friend_id]
        assert lookout_of(peer).forged == 0
    stranger.tell()
    assert stranger.hear() == {}


def test_a_forged_record_is_counted_and_not_dialled(keyed: Options) -> None:
    with zq.Peer("here", **over_mdns(keyed)) as peer:
        id = secrets.token_bytes(16)
        assert asyncio.run(calls_after(peer, id, lambda: lookout_of(peer).forged > 0)) == 0
        assert peer.peers() == []
        assert id not in lookout_of(peer)._strangers  # of others on this machine there may be some


def sighting(lock: Lock, **changes: object) -> Sighting:
    """A record that somebody with the key wrote, with something changed by somebody without."""
    id = bytes(range(16))
    fields = {
        "id": id, "tag": lock.tag, "version": 1, "port": 7000, "endpoints": ("tcp://127.0.0.1:7000",),
        "proof": lock.proof(proven_text(id, lock.tag, 1, 7000)),
    }  # fmt: skip
    return Sighting(**(fields | changes))  # type: ignore[arg-type]


def test_nothing_that_is_proven_can_be_changed(key_file: Path) -> None:
    lock = Lock(read_keys(key_file), "default", today())

    def is_proven(seen: Sighting) -> bool:
        return lock.proves(seen.tag, seen.proven_text, seen.proof)

    assert is_proven(sighting(lock))
    assert not is_proven(sighting(lock, id=bytes(16)))
    assert not is_proven(sighting(lock, port=7001))
    assert not is_proven(sighting(lock, version=2))
    assert not is_proven(sighting(lock, tag="0" * 16))
    assert not is_proven(sighting(lock, proof=""))
    assert not is_proven(sighting(lock, proof="0" * 32))
    other = Lock(read_keys(key_file), "another realm", today())
    assert not is_proven(sighting(lock, proof=other.proof(proven_text(bytes(range(16)), lock.tag, 1, 7000))))
