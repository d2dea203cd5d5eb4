"""A spool on a file system of its own that is small, and that something happens to. In a mount namespace; as root.

python -m tests.spool.small_disk SCENARIO DIRECTORY [CYCLES]      ends with 0 if what is promised held
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from io import RawIOBase
from pathlib import Path

import msgpack
import pytest

import zq
from tests.spool.answered import PATIENCE, Answered
from tests.waiting import eventually
from zq.errors import AccessDenied

SIZE = 2 << 20  # bytes
BODY = 4_000  # bytes of a message
AT_ONCE = 16  # messages that are published before the first of them is stored


def mount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)


def message(number: int) -> bytes:
    packed: bytes = msgpack.packb([number, bytes(BODY)])
    return packed


def fill(spool: Answered, number: int) -> int:
    """Stores messages until the disk is full; how many."""
    count = 0
    while True:
        kind, value = spool.append(number + count, [message(number + count)])
        if kind != "stored":
            assert kind == "full", f"{kind}: {value}"
            return count
        count += 1


def drain(spool: Answered, at: int, first: int, count: int) -> int:
    """Reads and settles so many messages, of which the log's `at` says `first`; returns the next one of the log."""
    seen = 0
    while seen < count:
        found = spool.read(at)
        assert found, f"{seen} of {count} were read"
        for number, data in found:
            assert number == at
            assert msgpack.unpackb(data)[0] == first + seen
            at, seen = number + 1, seen + 1
        spool.settle(found[0][0], found[-1][0])
    return at


def filled_and_drained(place: Path, cycles: int) -> None:
    """Again and again: never wedged, nothing lost. Every tenth time it is closed and opened in between."""
    spool = Answered(place / "spool")
    sent, at, least = 1, 1, 1 << 30
    for cycle in range(cycles):
        count = fill(spool, sent)
        assert count * BODY > SIZE / 2, f"cycle {cycle}: only {count} messages went in"
        if cycle % 10 == 9:
            spool.close()
            spool = Answered(place / "spool")
            assert spool.found.safe == at + count - 1, "what was stored is there"
        at = drain(spool, at, sent, count)
        sent, least = sent + count, min(least, count)
    spool.close()
    print(f"{cycles} cycles, {sent - 1} messages, at least {least} at a time")


def full_to_the_last_byte(place: Path, cycles: int) -> None:
    """Somebody else takes every byte that is left: what is there is delivered and settled, and leaves room behind."""
    spool = Answered(place / "spool")
    count = 100
    for number in range(1, count + 1):
        assert spool.append(number, [message(number)])[0] == "stored"
    take_all(place / "other")
    assert spool.append(count + 1, [message(count + 1)])[0] == "full"
    files = list((place / "spool").rglob("*.log"))
    at = drain(spool, 1, 1, count)
    assert len(list((place / "spool").rglob("*.log"))) < len(files), "no room came back"
    (place / "other").unlink()
    assert spool.append(count + 1, [message(count + 1)])[0] == "stored"
    drain(spool, at, count + 1, 1)
    spool.close()


def opened_on_a_full_disk(place: Path, cycles: int) -> None:
    """What is stored there comes out of it."""
    spool = Answered(place / "spool")
    for number in range(1, 101):
        assert spool.append(number, [message(number)])[0] == "stored"
    spool.close()
    take_all(place / "other")
    spool = Answered(place / "spool")
    assert spool.append(101, [message(101)])[0] == "full"
    drain(spool, 1, 1, 100)
    (place / "other").unlink()
    assert spool.append(101, [message(101)])[0] == "stored"
    spool.close()


def settled_without_any_room(place: Path, cycles: int) -> None:
    """Not even in the reserve: it is written down, and segments go, as soon as there is some."""
    spool, count = Answered(place / "spool"), 350
    for number in range(1, count + 1):
        assert spool.append(number, [message(number)])[0] == "stored"
    spool.keeper.store.reserve.let_go()
    take_all(place / "other")
    for number in range(count, 0, -1):  # each is an entry of its own, and together they need more than a page
        spool.settle(number, number)
    assert len(list((place / "spool").rglob("*.log"))) > 2, "it was written down"
    (place / "other").unlink()
    _, room = spool.wait("room")  # nobody asks for anything
    while room.used > SIZE / 8:
        _, room = spool.wait("room")
    spool.close()


def topics_on_a_full_disk(place: Path, cycles: int) -> None:
    """A topic stream that cannot store holds nobody up, delivers what it has, and goes on where it stopped once there
    is room, without hole or duplicate."""
    host = tempfile.TemporaryDirectory(prefix="zq-", dir="/tmp")
    os.environ["ZQ_HOST_DIR"] = host.name
    gaps: list[zq.Gap] = []
    with host, zq.Peer("keeper") as keeper, zq.Peer("publisher") as publisher, zq.Peer("reader") as reader:
        options = zq.SpoolOptions(min_free=0)
        spool = keeper.spool(place / "spool", topics=["t/**"], options=options)
        news = publisher.publisher("t/a")
        news.wait_for_subscribers()
        sent = 0

        def publish_until(full: Callable[[], bool]) -> None:
            nonlocal sent
            while not full():
                sent += 1
                news.send([sent, bytes(BODY)])
                if sent % AT_ONCE == 0:  # however slow the disk is, it is not asked for more than there is room for
                    news.flush(timeout=PATIENCE)

        take_all(place / "other")
        publish_until(lambda: not spool.topics()[0].stored)  # without a byte left
        assert os.strerror(errno.ENOSPC) in spool.topics()[0].problem
        news.flush(timeout=PATIENCE)
        (place / "other").unlink()
        eventually(lambda: spool.topics()[0].stored)
        eventually(lambda: spool.topics()[0].messages == sent)
        publish_until(lambda: not spool.topics()[0].stored)  # by its own messages
        stored = spool.topics()[0].messages
        assert stored * BODY > SIZE / 2
        news.flush(timeout=PATIENCE)
        spool.close()
        spool = keeper.spool(place / "spool", topics=["t/**"], options=options)  # on a disk that is full
        assert spool.topics()[0].messages >= stored  # the publisher is there: a few more may have found room
        with reader.subscriber("t/**", durable="c", since="beginning", on_gap=gaps.append) as subscriber:
            for number in range(1, stored + 1):
                with subscriber.receive(timeout=PATIENCE) as message:
                    assert message.data[0] == number
        assert gaps == []
        print(f"{stored} messages until it was full, {sent} published")


def take_all(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                _write_on(file, size)


def _write_on(file: RawIOBase, size: int) -> None:
    while True:
        file.write(bytes(size))


def read_only(place: Path, cycles: int) -> None:
    """A spool on a disk that can only be read is refused, and nothing in it is touched."""
    spool = Answered(place / "spool")
    assert spool.append(1, [message(1)])[0] == "stored"
    spool.close()
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    with pytest.raises(AccessDenied, match="Read-only file system"):
        Answered(place / "spool")
    looked = zq.SpoolDirectory(place / "spool")
    assert [row.depth for row in looked.streams()] == [1]
    assert looked.verify().problems == ()
    assert [exported.data[0] for exported in looked.export("jobs")] == [1]
    with pytest.raises(AccessDenied, match="Read-only file system"):
        looked.purge("jobs")
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
    spool = Answered(place / "spool")
    drain(spool, 1, 1, 1)
    spool.close()


def removed(place: Path, cycles: int) -> None:
    """Its directory is removed underneath: nothing is confirmed from then on."""
    spool = Answered(place / "spool")
    assert spool.append(1, [message(1)])[0] == "stored"
    while (place / "spool").exists():  # it may write a mark meanwhile
        shutil.rmtree(place / "spool", ignore_errors=True)
    kind, reason = spool.append(2, [message(2)])
    assert kind == "failed", kind
    assert os.strerror(errno.ENOENT) in reason or "removed" in reason, reason
    spool.keeper.close(5.0)


SCENARIOS: dict[str, Callable[[Path, int], None]] = {
    scenario.__name__: scenario
    for scenario in (
        filled_and_drained,
        full_to_the_last_byte,
        opened_on_a_full_disk,
        settled_without_any_room,
        topics_on_a_full_disk,
        read_only,
        removed,
    )
}

if __name__ == "__main__":
    mount(Path(sys.argv[2]), f"size={SIZE},mode=700")
    SCENARIOS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
