"""Processes that find each other by nothing but mDNS, on loopback; what it says makes a peer dial, and no more."""

from __future__ import annotations

import asyncio
import secrets

from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

import zq
from tests.processes.conftest import Options, Start
from tests.processes.resets import port_of
from tests.processes.watching import Watcher

SERVICE = "_zq._tcp.local."


def announced(*rungs: str) -> Options:
    """TCP on loopback, a realm of its own, found by `rungs`."""
    return {
        "realm": f"test-{secrets.token_hex(4)}",
        "insecure": True,
        "interfaces": ["127.0.0.1"],
        "discovery": list(rungs),
    }


def test_two_processes_find_each_other_by_mdns_alone(start: Start) -> None:
    options = announced("mdns")
    stranger = start("listed", announced("mdns"))
    stranger.hear()
    first = start("listed", options)
    first_id, _ = first.hear()
    with zq.Peer(**options) as peer:
        watcher = Watcher(peer)
        joined = watcher.wait_for("joined", first_id)
        assert joined.peer.found_by[0] in ("mdns", "hello")  # hello: the other was first to hear of us
        first.tell()
        theirs = first.hear()
        assert list(theirs) == [peer.id.hex()]
        state, *found_by = theirs[peer.id.hex()]
        assert state == "up"
        ours = [sight.peer.found_by for sight in watcher.sights if sight.peer.id.hex() == first_id]
        assert "mdns" in (*found_by, *ours[-1])
        assert "host" not in (*found_by, *ours[-1])
        assert [other.id.hex() for other in peer.peers()] == [first_id]  # not the stranger
    stranger.tell()
    assert stranger.hear() == {}


def test_both_rungs_are_shown(start: Start) -> None:
    options = announced("host", "mdns")
    other = start("listed", options)
    id, _ = other.hear()
    with zq.Peer(**options) as peer:
        rungs: set[str] = set()
        for event in peer.watch(timeout=25.0):  # an announcement is repeated every 10 s
            assert event.peer.id.hex() == id
            rungs.update(event.peer.found_by)
            if {"host", "mdns"} <= rungs:
                break
        (info,) = peer.peers()
        assert {"host", "mdns"} <= set(info.found_by) <= {"host", "mdns", "hello"}
        assert len(info.found_by) == len(set(info.found_by))


def test_the_record_of_a_killed_peer_does_not_bring_it_back(start: Start) -> None:
    options = announced("mdns")
    victim = start("listed", options)
    id, places = victim.hear()
    with zq.Peer(**options) as peer:
        watcher = Watcher(peer)
        watcher.wait_for("joined", id)
        (info,) = peer.peers()
        port = port_of(places[0])
        assert info.address == places[0]
        victim.kill()
        watcher.wait_for("left", id)
        # Somebody else listens on its port now, and its record is announced again, as by a host that has it cached.
        engine = peer._engine
        assert engine is not None
        asyncio.run(announce_until_dialled(id, port, engine.node.card.tag.hex()))
        peer.settle()
        assert peer.peers() == []
        third = start("listed", options)
        third_id, _ = third.hear()
        watcher.wait_for("joined", third_id)
        third.tell()
        assert list(third.hear()) == [peer.id.hex()]
        assert [kind for kind in watcher.of(id) if kind != "changed"] in (
            ["joined", "suspect", "left"],
            ["joined", "left"],
        )


async def announce_until_dialled(id: str, port: int, tag: str) -> None:
    """Says what the peer with this id would say until somebody believes it, as far as it goes: dials the port."""
    dialled = asyncio.Event()

    async def on_dial(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()
        dialled.set()

    listener = await asyncio.start_server(on_dial, "127.0.0.1", port)
    responder = AsyncZeroconf(interfaces=["127.0.0.1"])
    try:
        await responder.zeroconf.async_wait_for_start()
        info = ServiceInfo(
            SERVICE,
            f"{id}.{SERVICE}",
            port=port,
            properties={"v": "1", "id": id, "tag": tag, "port": str(port)},
            server=f"{id}.local.",
            parsed_addresses=["127.0.0.1"],
        )
        async with asyncio.timeout(15.0):
            while not dialled.is_set():
                responder.zeroconf.async_send(responder.zeroconf.generate_service_broadcast(info, None))
                try:
                    await asyncio.wait_for(dialled.wait(), 1.1)  # sooner, mDNS takes it for a duplicate
                except TimeoutError:
                    continue
    finally:
        await responder.async_close()
        listener.close()
        await listener.wait_closed()
