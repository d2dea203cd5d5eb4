"""Whatever connects to a door without speaking the protocol is cut off, gets nothing, and disturbs nobody."""

from __future__ import annotations

import asyncio
import os
import time
from statistics import median

import pytest

import zq
from tests.processes.conftest import Options
from tests.security.rogues import DEADLINE, Friends, doors_of, listeners_of, percentile
from tests.waiting import eventually
from zq.engine import factory
from zq.security.crowds import CROWD
from zq.security.guard import MOST_FAILURES, Guard

GREETING = 64  # bytes that a door tells everybody: the protocol's version and that it wants CURVE; RFC 23
CUT_OFF = 3.0 + 5.0  # s that a handshake may take, and slack for a machine that stalls
STRANGER = "127.0.0.66"  # an address from which nobody of the realm comes
SOURCES = (STRANGER, "127.0.0.67", "127.0.0.68")  # more of them
ROUND = 200  # messages
SIGNATURE = b"\xff" + bytes(8) + b"\x7f"


def greeting(mechanism: bytes, version: bytes = b"\x03\x01", as_server: bytes = b"\0") -> bytes:
    return SIGNATURE + version + mechanism.ljust(20, b"\0") + as_server + bytes(31)


def command(name: bytes, data: bytes) -> bytes:
    body = bytes([len(name)]) + name + data
    return (b"\x04" + bytes([len(body)]) if len(body) < 256 else b"\x06" + len(body).to_bytes(8, "big")) + body


READY = command(b"READY", b"\x0bSocket-Type\x00\x00\x00\x04PUSH")
BANNERS = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: zq\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(189),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "zeros": bytes(4_096),
    "ones": b"\xff" * 4_096,
    "random": os.urandom(4_096),
    "ZMTP 1.0": b"\x01\x00" + b"\x0a\x00forged..." * 8,
    "ZMTP 2.0": SIGNATURE + b"\x01\x08\x00\x00" + b"\x00\x06forged" * 8,
    "ZMTP 3.0 without CURVE": greeting(b"NULL", b"\x03\x00") + READY,
    "NULL": greeting(b"NULL") + READY + b"\x00\x06forged" * 8,
    "PLAIN": greeting(b"PLAIN") + command(b"HELLO", b"\x05admin\x05admin") + b"\x00\x06forged" * 8,
    "no mechanism": greeting(b"") + READY,
    "an unknown mechanism": greeting(b"GSSAPI") + READY,
    "CURVE, then READY": greeting(b"CURVE") + READY + b"\x00\x06forged" * 8,
    "CURVE, then frames": greeting(b"CURVE") + b"\x00\x06forged" * 8,
    "CURVE, then a forged HELLO": greeting(b"CURVE") + command(b"HELLO", b"\x01\x00" + os.urandom(192)),
    "CURVE, then a short HELLO": greeting(b"CURVE") + command(b"HELLO", b"\x01"),
    "CURVE, then INITIATE": greeting(b"CURVE") + command(b"INITIATE", os.urandom(300)),
    "a frame of 2^63 bytes": greeting(b"CURVE") + b"\x06" + (1 << 63).to_bytes(8, "big") + b"x" * 1_000,
    "a frame of 2^64 - 1 bytes": greeting(b"CURVE") + b"\x06" + b"\xff" * 8 + b"x" * 1_000,
    "a frame of 2^40 bytes": greeting(b"CURVE") + b"\x06" + (1 << 40).to_bytes(8, "big") + b"x" * 1_000,
}
SLOW = {
    "silence": b"",
    "one byte": b"\xff",
    "half a signature": SIGNATURE[:6],
    "half a greeting": greeting(b"CURVE")[:40],
    "a greeting": greeting(b"CURVE"),
    "half a HELLO": greeting(b"CURVE") + command(b"HELLO", bytes(194))[:100],
}


async def until_cut_off(endpoint: str, banner: bytes, *, drip: float = 0.0, source: str = "127.0.0.1") -> bytes:
    """What the door says until it ends the connection; with `drip`, a byte more every so many seconds."""
    host, port = endpoint.removeprefix("tcp://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))

    async def go_on() -> None:
        while drip:
            await asyncio.sleep(drip)
            writer.write(b"\x00")

    writer.write(banner)
    dripping = asyncio.ensure_future(go_on())
    try:
        async with asyncio.timeout(CUT_OFF):
            return await read_all(reader)
    except ConnectionError:
        return b""  # reset: it had not read all that we wrote
    finally:
        dripping.cancel()
        writer.close()


async def read_all(reader: asyncio.StreamReader) -> bytes:
    said = b""
    while piece := await reader.read(1 << 16):
        said += piece
    return said


async def knock_everywhere(doors: list[str], banners: list[bytes], drip: float = 0.0) -> list[bytes]:
    """At each door from another address: of one so many would have to wait outside."""
    return await asyncio.gather(
        *(
            until_cut_off(door, banner, drip=drip, source=source)
            for door, source in zip(doors, SOURCES, strict=True)
            for banner in banners
        )
    )


@pytest.mark.parametrize("drip", [0.0, 0.1])
def test_who_does_not_speak_it_hears_a_greeting_and_is_cut_off(keyed: Options, drip: float) -> None:
    with Friends(keyed) as friends:
        doors = doors_of(friends.sender)
        banners = list(SLOW.values()) if drip else [*BANNERS.values(), *SLOW.values()]
        heard = asyncio.run(knock_everywhere(doors, banners, drip))
        assert all(len(each) <= GREETING for each in heard), [each for each in heard if len(each) > GREETING]
        assert all(b"CURVE" in each for each in heard if len(each) == GREETING)
        friends.rest()
        assert len(friends.took) == friends.sent > 100
        assert friends.sender.ledger().refused_frames == 0
        guard = listeners_of(friends.sender).guard
        assert len(banners) < CROWD
        eventually(lambda: counted(guard) + guard.unseen == len(banners) * len(doors))


def counted(guard: Guard) -> int:
    return sum(guard.by_address().get(source, 0) for source in SOURCES)


def test_a_thousand_idle_connections_hold_nobody_up(keyed: Options) -> None:
    """Some are taken, and cut off in time; the others are left outside, where they cost nothing."""

    async def idle(doors: list[str], friends: Friends) -> None:
        connections = [asyncio.ensure_future(until_cut_off(doors[number % 3], b"")) for number in range(1_000)]
        cut_off, rest = set[asyncio.Task[bytes]](), set(connections)
        async with asyncio.timeout(CUT_OFF):
            while len(cut_off) < CROWD:
                some, rest = await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)
                cut_off |= {each for each in some if not each.exception()}
        assert all(len(each.result()) <= GREETING for each in cut_off)
        await asyncio.to_thread(join_late, friends)
        for each in rest:
            each.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def join_late(friends: Friends) -> None:
        with zq.Peer("late", **keyed) as late:
            late.wait_for_peers(2, timeout=DEADLINE)
        assert friends.sender.ledger().refused_frames == 0

    with Friends(keyed) as friends:
        asyncio.run(idle(doors_of(friends.sender), friends))
        friends.rest()
        assert len(friends.took) == friends.sent > 100
        rounds = [friends.took[start : start + ROUND] for start in range(0, len(friends.took), ROUND)]
        assert median(percentile(each, 0.9) for each in rounds) < 0.25  # measured: 0.002; the machine itself may stall


def test_an_address_that_fails_on_and_on_is_cut_off_at_once(keyed: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failures are counted as if they had come: as many as it takes would be let in one after another."""
    monkeypatch.setattr(factory, "HANDSHAKE", 60_000)  # nobody is cut off so soon because his time is over

    def fail() -> None:
        for _ in range(MOST_FAILURES):
            guard.failed(STRANGER, time.monotonic())

    with zq.Peer(**keyed) as peer:
        guard = listeners_of(peer).guard
        peer._running().call(fail)
        assert len(asyncio.run(until_cut_off(doors_of(peer)[1], b"\xff", source=STRANGER))) <= GREETING
        assert guard.cut_off == 1
        with zq.Peer("friend", **keyed) as friend:  # from an address of better repute
            friend.wait_for_peers(1, timeout=DEADLINE)
        assert "127.0.0.1" not in guard.by_address()
