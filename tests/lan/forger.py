"""A host without the key that speaks for others over mDNS: false addresses that replace the true ones, goodbyes."""

from __future__ import annotations

import asyncio

from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from tests.processes.roles import listen, role, say
from zq.discovery.sighting import SERVICE

EVERY = 0.2  # s between forged packets


@role
def forger(address: str, ids: list[str]) -> None:
    """Forges until it is told to stop, then says how often each port was called at our address.

    It says `ready` once it is believed by a listener that trusts what it hears.
    """
    asyncio.run(_forge(address, ids))


async def _forge(address: str, ids: list[str]) -> None:
    calls = dict.fromkeys(ids, 0)
    async with AsyncZeroconf(interfaces=[address]) as responder, AsyncZeroconf(interfaces=[address]) as listener:
        await responder.zeroconf.async_wait_for_start()
        records = [await _record(responder, id, address) for id in ids]
        for id, record in zip(ids, records, strict=True):
            await _count_calls(calls, id, address, record.port or 0)
        AsyncServiceBrowser(listener.zeroconf, SERVICE, handlers=[lambda **_: None])
        stop = asyncio.ensure_future(asyncio.to_thread(listen))
        sent, believed = 0, False
        while not stop.done():
            lifetime = 0 if sent % 4 == 3 else None  # every record says "forget what you had"; 0 is a goodbye
            for record in records:
                responder.zeroconf.async_send(responder.zeroconf.generate_service_broadcast(record, lifetime))
            sent += 1
            await asyncio.sleep(EVERY)
            if not believed and any(_is_believed(listener, record.name, address) for record in records):
                believed = True
                say({"what": "ready"})
        say({"what": "calls", "calls": calls})


def _is_believed(listener: AsyncZeroconf, name: str, address: str) -> bool:
    heard = AsyncServiceInfo(SERVICE, name)
    return heard.load_from_cache(listener.zeroconf) and address in heard.parsed_addresses()


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
