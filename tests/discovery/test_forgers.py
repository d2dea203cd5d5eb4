"""What somebody forges over mDNS, as much as he likes, costs its reader little."""

from __future__ import annotations

import asyncio
import secrets
import time

from zeroconf.asyncio import AsyncZeroconf

from tests.lan.flooder import packet
from zq.discovery.hearsay import AGAIN, LOOKED, RECORDS, Hearsay
from zq.discovery.mdns import Mdns
from zq.discovery.sighting import SERVICE, Sighting

SOURCE = ("127.0.0.3", 5353)
PACKETS = 202  # the last but one is no goodbye
DEADLINE = 10.0  # s for what takes 0.1


async def heard_from(
    victim: str, packets: int, *, twice: bool = False, believe: bool = True
) -> tuple[list[Sighting], list[int]]:
    """What somebody has made of so many forged packets, and how many records of the victim he remembers. `twice`: when
    he has looked at it so often."""
    found: list[Sighting] = []
    again = asyncio.Event()

    def note(sighting: Sighting) -> bool:
        found.append(sighting)
        if len(of(victim, found)) > 1:
            again.set()
        return believe

    reader = Mdns(id=secrets.token_bytes(16), tag="tag", port=20_000, version=1, addresses=["192.0.2.1"], found=note)
    async with AsyncZeroconf(interfaces=["127.0.0.1"]) as responder:
        zeroconf = responder.zeroconf
        await zeroconf.async_wait_for_start()
        zeroconf.async_add_listener(reader._listener(zeroconf), None)
        for number in range(packets):
            zeroconf.engine.protocols[0].datagram_received(packet(number, "tag", victim), SOURCE)
        if twice:
            await asyncio.wait_for(again.wait(), DEADLINE)
        names = (f"{victim}.{SERVICE}", f"{victim}.local.", SERVICE)
        return found, [len(zeroconf.cache.async_entries_with_name(name)) for name in names]


def of(victim: str, found: list[Sighting]) -> list[Sighting]:
    return [each for each in found if each.id.hex() == victim]


def test_of_records_that_contradict_each_other_only_the_newest_are_kept() -> None:
    _, remembered = asyncio.run(heard_from(secrets.token_hex(16), 1_000))
    *of_the_victim, of_the_service = remembered
    assert all(0 < count <= RECORDS for count in of_the_victim)
    assert of_the_service >= 500  # each of the others is another


def test_what_is_not_believed_is_forgotten_at_once() -> None:
    found, remembered = asyncio.run(heard_from(secrets.token_hex(16), 1_000, believe=False))
    assert len(found) > 500
    *of_the_victim, of_the_service = remembered
    assert all(count <= RECORDS for count in of_the_victim)
    assert of_the_service <= 1  # of the victim, who was put off


def test_a_name_that_is_spoken_of_again_and_again_is_looked_at_once_and_then_once_more() -> None:
    victim, began = secrets.token_hex(16), time.monotonic()
    found, _ = asyncio.run(heard_from(victim, PACKETS, twice=True))
    its = of(victim, found)
    assert len(its) <= 2 + (time.monotonic() - began) / AGAIN
    assert its[-1].endpoints[-1] != its[0].endpoints[0]  # what came meanwhile is not missed
    assert len(found) - len(its) == PACKETS // 2  # each of the others is another


def test_only_so_many_names_are_remembered() -> None:
    hearsay = Hearsay()
    for number in range(2 * LOOKED):
        hearsay.note("x", f"{number}")
        assert hearsay.names(0.0) == ({f"{number}"}, False)
    assert len(hearsay._looked) == LOOKED


def test_who_was_put_off_is_looked_at_once() -> None:
    hearsay = Hearsay()
    hearsay.note("x", "one")
    assert hearsay.names(0.0) == ({"one"}, False)
    for come_back in (True, False):
        hearsay.note("x", "one")
        assert hearsay.names(AGAIN / 2) == (set(), come_back)
    assert hearsay.put_off(AGAIN) == {"one"}
    assert hearsay.put_off(2 * AGAIN) == set()
    hearsay.note("x", "one")
    assert hearsay.names(2 * AGAIN) == ({"one"}, False)
