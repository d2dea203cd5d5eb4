"""A host without the key that speaks for others over mDNS: false addresses that replace the true ones, goodbyes."""

from __future__ import annotations

import asyncio

from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from tests.processes.roles import role, say
from zq.discovery.mdns import SERVICE

EVERY = 0.2  # s between forged packets


@role
def forger(address: str, ids: list[str], seconds: float) -> None:
    """Says `ready`, forges for so long, then says how often each of the ports was called at our address."""
    asyncio.run(_forge(address, ids, seconds))


async def _forge(address: str, ids: list[str], seconds: float) -> None:
    calls = dict.fromkeys(ids, 0)
    async with AsyncZeroconf(interfaces=[address]) as responder:
        await responder.zeroconf.async_wait_for_start()
        records = [await _record(responder, id, address) for id in ids]
        for id, record in zip(ids, records, strict=True):
            await _count_calls(calls, id, address, record.port or 0)
        say({"what": "ready"})
        sent = 0
        async with asyncio.timeout(seconds + 5.0):
            while sent < seconds / EVERY:
                lifetime = 0 if sent % 4 == 3 else None  # every record says "forget what you had"; 0 is a goodbye
                for record in records:
                    responder.zeroconf.async_send(responder.zeroconf.generate_service_broadcast(record, lifetime))
                sent += 1
                await asyncio.sleep(EVERY)
        say({"what": "calls", "calls": calls})


async def _record(responder: AsyncZeroconf, id: str, address: str) -> ServiceInfo:
    """What it has said itself, the proof included, but with our address."""
    name = f"{id}.{SERVICE}"
    true = AsyncServiceInfo(SERVICE, name)
    async with asyncio.timeout(15.0):
        while not await true.async_request(responder.zeroconf, 500):
            pass
    return ServiceInfo(
        SERVICE, name, port=true.port, properties=true.properties, server=f"{id}.local.", parsed_addresses=[address]
    )


async def _count_calls(calls: dict[str, int], id: str, address: str, port: int) -> None:
    async def on_call(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls[id] += 1
        writer.close()

    await asyncio.start_server(on_call, address, port)
