"""The power of an outbox's whole directory is cut at any step: what was confirmed is there, no number is used again."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import msgpack
import pytest

from tests.spool.answered import Answered
from tests.spool.mirrored import Image, Mirror
from zq.handles.outbox import origin_of
from zq.spool import store
from zq.spool.store import LOCK, OUTBOX, SPOOL, encode_identity

SEEDS = 3
IMAGES = 25  # of each


class Known(NamedTuple):
    """When the power was cut."""

    confirmed: int  # messages
    settled: int  # of these, the first
    origins: tuple[bytes, ...]  # whose numbers have been used


class Life:
    """Of one outbox, opened and closed several times."""

    def __init__(self, directory: Path, mirror: Mirror, random: random.Random) -> None:
        self.directory, self.mirror, self.random = directory, mirror, random
        self.sent = self.confirmed = self.settled = 0
        self.origins: list[bytes] = []

    def known(self) -> Known:
        return Known(self.confirmed, self.settled, tuple(self.origins))

    def live(self) -> None:
        for _ in range(4):
            box = opened(self.directory)
            self.origins.append(origin(box))
            for _ in range(self.random.randint(1, 8)):
                self.send(box, self.random.choice([1, 3, 50]))
                if self.random.random() < 0.3 and self.settled < self.confirmed:
                    first = self.settled + 1
                    self.settled = self.random.randint(first, self.confirmed)  # before: it may be settled from now on
                    box.settle(first, self.settled)
            box.close()

    def send(self, box: Answered, count: int) -> None:
        numbers = range(self.sent + 1, self.sent + count + 1)
        self.sent += count
        assert box.append(numbers[0], [message(number) for number in numbers])[0] == "stored"
        self.confirmed += count


def message(number: int) -> bytes:
    packed: bytes = msgpack.packb([number, "x" * 300])
    return packed


def opened(directory: Path) -> Answered:
    return Answered(directory, max_bytes=1 << 20, kind=OUTBOX)


def origin(box: Answered) -> bytes:
    """Without the bytes that are drawn: the epoch alone has to keep numbers apart."""
    return origin_of(box.keeper.store.identity, box.stream, bytes(4))


def put(image: Image, place: Path) -> None:
    """As another boot finds it, where it was."""
    place.mkdir(mode=0o700)
    for path, data in image.files.items():
        (place / path).parent.mkdir(mode=0o700, exist_ok=True)
        (place / path).write_bytes(data)
    (place / LOCK).touch(mode=0o600)
    found, path = (place / LOCK).stat(), place / SPOOL
    if path.exists():
        _, uuid, epoch, *_ = store._SPOOL.unpack_from(path.read_bytes())
        path.write_bytes(encode_identity(store.Identity(uuid, epoch), (found.st_dev, found.st_ino)))


def check(image: Image, place: Path) -> None:
    put(image, place)
    known = image.about
    assert isinstance(known, Known)
    box = opened(place)
    there: list[int] = []
    at = box.found.first
    while found := box.read(at):
        there += [msgpack.unpackb(data)[0] for _, data in found]
        at = found[-1][0] + 1
    assert there == sorted(set(there)), "twice, or out of order"
    wanted = set(range(known.settled + 1, known.confirmed + 1))
    assert wanted <= set(there), f"{min(wanted - set(there))} was confirmed"
    assert not [number for number in range(known.settled + 1, known.confirmed + 1) if number in box.found.settled]
    assert origin(box) not in known.origins, "its numbers would stand for two messages"
    box.close()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_power_cut_at_any_step_of_an_outbox_loses_nothing_that_was_confirmed(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = random.Random(seed)
    lives: list[Life] = []
    mirror = Mirror(tmp_path / "outbox", seed, lambda step: lives[0].known() if made.random() < 0.5 else None)
    lives.append(Life(tmp_path / "outbox", mirror, random.Random(seed + 1_000)))
    with monkeypatch.context() as patched:
        patched.setattr(store, "DirectoryDisk", mirror.disk)
        lives[0].live()
    images = made.sample(mirror.images, min(IMAGES, len(mirror.images)))
    assert len(images) == IMAGES
    for number, image in enumerate(images):
        check(image, tmp_path / f"image{number}")
