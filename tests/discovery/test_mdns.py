"""mDNS on loopback only: peers see each other, go on saying so, and no record does harm."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import zeroconf.asyncio
from zeroconf import ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from tests.waiting import eventually
from zq.discovery.mdns import Mdns
from zq.discovery.sighting import ENDPOINTS, SERVICE, Sighting, sighting

LOOPBACK = ["127.0.0.1"]
DEADLINE = 20.0  # s for anything here; on an idle machine the slowest takes 0.2


class Ear:
    """What one Mdns reports, to be waited for."""

    def __init__(self) -> None:
        self.sightings: queue.Queue[Sighting] = queue.Queue()
        self.asked = threading.Event()

    def next_of(self, id: bytes) -> Sighting:
        """The next sighting of this peer; other tests' peers, and other programs', are passed over."""
        deadline = time.monotonic() + DEADLINE
        while (seen := self.sightings.get(timeout=deadline - time.monotonic())).id != id:
            pass
        return seen


@contextmanager
def mdns(ear: Ear, id: bytes, *, tag: str = "t", port: int = 7000, **options: Any) -> Iterator[Mdns]:
    arguments = {"addresses": LOOPBACK, "found": ear.sightings.put, "asked": ear.asked.set, **options}
    peer = Mdns(id=id, tag=tag, port=port, version=1, **arguments)
    peer.start()
    try:
        yield peer
    finally:
        peer.close(DEADLINE)


def test_two_peers_see_each_other_whoever_comes_first() -> None:
    first, second = os.urandom(16), os.urandom(16)
    one, two = Ear(), Ear()
    with mdns(one, first, port=7001):
        assert one.asked.wait(DEADLINE)
        with mdns(two, second, port=7002, tag="another realm"):
            seen = two.next_of(first)
            assert seen == Sighting(id=first, tag="t", version=1, endpoints=("tcp://127.0.0.1:7001",), port=7001)
            seen = one.next_of(second)
            assert (seen.tag, seen.endpoints) == ("another realm", ("tcp://127.0.0.1:7002",))
            assert two.asked.wait(DEADLINE)


ANNOUNCER = """
import sys
from zq.discovery.mdns import Mdns

peer = Mdns(id=bytes.fromhex(sys.argv[1]), tag="t", port=7003, version=2, addresses=["127.0.0.1"], found=print)
peer.start()
sys.stdin.read()
peer.close(10.0)
"""


def test_a_peer_in_another_process_is_seen_and_its_process_ends_in_time() -> None:
    id, ear = os.urandom(16), Ear()
    with (
        mdns(ear, os.urandom(16)),
        subprocess.Popen([sys.executable, "-c", ANNOUNCER, id.hex()], stdin=subprocess.PIPE) as process,
    ):
        try:
            assert ear.next_of(id).version == 2
            process.communicate(timeout=DEADLINE)
            assert process.returncode == 0
        finally:
            process.kill()


def test_a_peer_does_not_see_itself_and_is_announced_again_and_again() -> None:
    id, own, other = os.urandom(16), Ear(), Ear()
    with mdns(other, os.urandom(16)):
        assert other.asked.wait(DEADLINE)
        started = time.monotonic()
        with mdns(own, id, repeat=1.4):  # zeroconf drops a packet like that of a second before
            for _ in range(3):  # the start makes 3 announcements within half a second, of which it hears the first
                other.next_of(id)
            assert time.monotonic() - started > 1.0
        while not own.sightings.empty():
            assert own.sightings.get().id != id


def test_closing_says_goodbye() -> None:
    id, ear = os.urandom(16), Ear()
    name = f"{id.hex()}.{SERVICE}"

    async def watch() -> list[ServiceStateChange]:
        changes: asyncio.Queue[ServiceStateChange] = asyncio.Queue()

        def changed(*, name: str, state_change: ServiceStateChange, **_: object) -> None:
            if name == wanted:
                changes.put_nowait(state_change)

        wanted = name
        async with AsyncZeroconf(interfaces=LOOPBACK) as responder:
            browser = AsyncServiceBrowser(responder.zeroconf, SERVICE, handlers=[cast("Callable[..., None]", changed)])
            with mdns(ear, id) as peer:
                seen = [await asyncio.wait_for(changes.get(), DEADLINE)]
                await asyncio.to_thread(peer.close)
                while seen[-1] is not ServiceStateChange.Removed:
                    seen.append(await asyncio.wait_for(changes.get(), DEADLINE))
            await browser.async_cancel()
        return seen

    seen = asyncio.run(watch())
    assert (seen[0], seen[-1]) == (ServiceStateChange.Added, ServiceStateChange.Removed)


def test_closing_joins_the_thread_and_is_quick_whenever_it_comes(caplog: pytest.LogCaptureFixture) -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("zq-mdns")]

    Mdns(id=os.urandom(16), tag="t", port=1, version=1, addresses=LOOPBACK, found=print).close()  # never started
    ear = Ear()
    with mdns(ear, os.urandom(16)) as peer:
        peer.close(DEADLINE)  # perhaps before the loop runs
        assert threads() == []
    with mdns(ear, os.urandom(16)) as peer:
        assert ear.asked.wait(DEADLINE)
        started = time.monotonic()
        peer.close(DEADLINE)
        assert time.monotonic() - started < DEADLINE / 4  # measured: 2 ms
        peer.close()
        assert threads() == []
    assert caplog.records == []


async def announce(id: bytes, **changes: Any) -> None:
    """Sends one record that zq would not send."""
    fields = {
        "name": f"{id.hex()}.{SERVICE}",
        "port": 7009,
        "properties": {"v": "1", "id": id.hex(), "tag": "t", "port": "7009"},
        "server": f"{id.hex()}.local.",
        "parsed_addresses": LOOPBACK,
        **changes,
    }
    info = AsyncServiceInfo(SERVICE, fields.pop("name"), **fields)
    async with AsyncZeroconf(interfaces=LOOPBACK) as responder:
        await responder.async_register_service(info, cooperating_responders=True)


def test_malformed_records_are_ignored_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    ear, last = Ear(), os.urandom(16)
    with mdns(ear, os.urandom(16)) as peer:
        assert ear.asked.wait(DEADLINE)
        bad = [os.urandom(16) for _ in range(3)]
        asyncio.run(announce(bad[0], properties={}))
        asyncio.run(announce(bad[1], name=f"kitchen.{SERVICE}"))
        asyncio.run(announce(bad[2], parsed_addresses=["192.0.2.1"]))  # well-formed, but not for a listener on loopback
        asyncio.run(announce(last))
        seen = [ear.sightings.get(timeout=DEADLINE).id]
        while seen[-1] != last:
            seen.append(ear.sightings.get(timeout=DEADLINE).id)
        assert not set(bad) & set(seen)
        assert peer.malformed >= 2
        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert [record.name for record in warnings] == ["zq.discovery.mdns"]


def test_a_callback_that_fails_is_contained(caplog: pytest.LogCaptureFixture) -> None:
    id, ear, failed = os.urandom(16), Ear(), threading.Event()

    def fail(seen: Sighting) -> None:
        ear.sightings.put(seen)
        failed.set()
        raise RuntimeError("of the caller's making")

    with mdns(ear, os.urandom(16), found=fail):
        assert ear.asked.wait(DEADLINE)
        asyncio.run(announce(id))
        ear.next_of(id)
        asyncio.run(announce(other := os.urandom(16)))
        ear.next_of(other)
    assert "the report of a sighting failed" in caplog.text


def test_a_start_that_fails_is_told_once_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, held, attempts = zeroconf.asyncio.AsyncZeroconf, threading.Event(), threading.Semaphore(0)
    held.set()

    def open_port(**arguments: Any) -> AsyncZeroconf:
        attempts.release()
        if held.is_set():
            raise OSError(98, "Address already in use")  # what another program's hold on port 5353 gives
        return real(**arguments)

    id, ear, other = os.urandom(16), Ear(), Ear()
    with mdns(other, os.urandom(16)):
        assert other.asked.wait(DEADLINE)
        monkeypatch.setattr(zeroconf.asyncio, "AsyncZeroconf", open_port)
        with mdns(ear, id, repeat=0.05) as peer:
            assert ear.asked.wait(DEADLINE)  # nobody is to wait for answers that cannot come
            for _ in range(3):
                assert attempts.acquire(timeout=DEADLINE)
            assert peer.error == "OSError: [Errno 98] Address already in use"
            held.clear()
            other.next_of(id)
            eventually(lambda: peer.error is None)
    warnings = [record.getMessage() for record in caplog.records]
    assert warnings == ["mDNS on 127.0.0.1 does not work: OSError: [Errno 98] Address already in use"]


ID = bytes(range(16))
GOOD: dict[bytes, bytes | None] = {b"v": b"1", b"id": ID.hex().encode(), b"tag": b"t", b"port": b"7000"}
NAME = f"{ID.hex()}.{SERVICE}"


def test_a_record_is_read_as_written() -> None:
    seen = sighting(NAME, {**GOOD, b"later": b"\xff", b"flag": None}, 7000, ["127.0.0.1", "::1"], loopback=True)
    both = ("tcp://127.0.0.1:7000", "tcp://[::1]:7000")
    assert seen == Sighting(id=ID, tag="t", version=1, endpoints=both, port=7000)


def test_only_addresses_on_our_side_are_reported() -> None:
    addresses = ["127.0.0.1", "192.0.2.1", "::1", "2001:db8::1"]
    inside = sighting(NAME, GOOD, 7000, addresses, loopback=True)
    outside = sighting(NAME, GOOD, 7000, addresses, loopback=False)
    assert inside is not None
    assert outside is not None
    assert inside.endpoints == ("tcp://127.0.0.1:7000", "tcp://[::1]:7000")
    assert outside.endpoints == ("tcp://192.0.2.1:7000", "tcp://[2001:db8::1]:7000")
    assert sighting(NAME, GOOD, 7000, ["192.0.2.1"], loopback=True) is None
    assert sighting(NAME, GOOD, 7000, ["127.0.0.1"], loopback=False) is None


def test_a_record_with_endless_addresses_is_cut_short() -> None:
    seen = sighting(NAME, GOOD, 7000, [f"192.0.2.{number}" for number in range(256)], loopback=False)
    assert seen is not None
    assert len(seen.endpoints) == ENDPOINTS


@pytest.mark.parametrize(
    "changes",
    [
        {b"id": b"00" * 16},
        {b"id": None},
        {b"tag": b""},
        {b"tag": b"x" * 201},
        {b"tag": b"\xff"},
        {b"tag": b"a\nb"},
        {b"v": b""},
        {b"v": b"-1"},
        {b"v": b"1234567"},
        {b"port": b"7001"},
        {b"port": None},
    ],
)
def test_a_record_that_is_none_of_ours_is_refused(changes: dict[bytes, bytes | None]) -> None:
    with pytest.raises(ValueError, match=r"no |differ|decode"):
        sighting(NAME, GOOD | changes, 7000, LOOPBACK, loopback=True)


@pytest.mark.parametrize("name", [f"{ID.hex().upper()}.{SERVICE}", f"{ID.hex()}0.{SERVICE}", f"x.{NAME}", SERVICE])
def test_a_name_that_is_no_id_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="differ"):
        sighting(name, GOOD, 7000, LOOPBACK, loopback=True)


def test_loopback_is_not_announced_beside_a_real_address() -> None:
    peer = Mdns(id=ID, tag="t", port=1, version=1, addresses=["127.0.0.1", "192.0.2.7"], found=print)
    assert peer.announced == ("192.0.2.7",)
    assert Mdns(id=ID, tag="t", port=1, version=1, addresses=LOOPBACK, found=print).announced == ("127.0.0.1",)


def test_the_text_record_stays_below_400_bytes() -> None:
    longest = {b"v": b"99999", b"id": b"0" * 32, b"tag": b"x" * 200, b"port": b"65535"}
    assert sum(1 + len(key) + 1 + len(value) for key, value in longest.items()) < 400
    with pytest.raises(ValueError, match="tag of 201 characters"):
        Mdns(id=ID, tag="x" * 201, port=1, version=1, addresses=LOOPBACK, found=print)


def test_importing_the_module_imports_neither_zeroconf_nor_asyncio() -> None:
    heavy = ("zeroconf", "asyncio", "ifaddr")
    code = f"import sys, zq.discovery.mdns; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_it_begins_anew_on_other_addresses() -> None:
    id, ear = os.urandom(16), Ear()
    with mdns(ear, os.urandom(16)), mdns(Ear(), id, port=7009) as peer:
        assert ear.next_of(id).endpoints == ("tcp://127.0.0.1:7009",)
        peer.restart([])  # every address is gone
        peer.restart(["127.0.0.1", "127.0.0.2"])
        while "tcp://127.0.0.2:7009" not in ear.next_of(id).endpoints:
            pass
        assert peer.is_alive()


def test_a_thread_that_ended_or_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    ear = Ear()
    with mdns(ear, os.urandom(16)) as peer:
        assert ear.asked.wait(DEADLINE)
        assert peer.is_alive()
        monkeypatch.setattr("zq.discovery.mdns.HANGS", 0)  # as if its last turn, whenever that was, were too long ago
        assert not peer.is_alive()
    ended = Mdns(id=os.urandom(16), tag="t", port=1, version=1, addresses=LOOPBACK, found=print)
    assert not ended.is_alive()
