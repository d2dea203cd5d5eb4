"""A spool's directory on a real disk, with a simulated one beside it that the power of can be cut.

Every disk that the store opens is mirrored: what is done to it is done to a `SimulatedDisk` as well. An image is what
another boot may find of all of them at one moment; it is written into a directory of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.spool.simulated_disk import SimulatedDisk
from zq.spool.disk import DirectoryDisk, File


class Image(NamedTuple):
    """Of a whole directory; `about` is what the test knew when the power was cut."""

    files: dict[Path, bytes]
    about: object


class Mirror:
    """Of the disks of one directory. `look` is called before each step of any of them; what it returns, unless that is
    None, is kept with an image of that moment."""

    def __init__(self, root: Path, seed: int, look: Callable[[int], object]) -> None:
        self._root = root
        self._seed = seed
        self._look = look
        self._lock = threading.Lock()
        self.disks: dict[Path, SimulatedDisk] = {}
        self.images: list[Image] = []
        self.steps = 0

    def disk(self, directory: Path) -> DirectoryDisk:
        if not directory.is_relative_to(self._root):
            return DirectoryDisk(directory)
        place = directory.relative_to(self._root)
        if place not in self.disks:
            self.disks[place] = SimulatedDisk(self._seed + len(self.disks))
        return MirroredDisk(directory, self, self.disks[place])

    def step(self) -> None:
        with self._lock:
            self.steps += 1
            about = self._look(self.steps)
            if about is not None:
                self.images.append(Image(self._cut(), about))

    def _cut(self) -> dict[Path, bytes]:
        return {
            place / name: bytes(content.seen)
            for place, disk in self.disks.items()
            for name, content in disk.after_a_power_cut().files.items()
        }


class _Both:
    """`zq.spool.disk.File` of both."""

    def __init__(self, real: File, simulated: File, mirror: Mirror) -> None:
        self._real, self._simulated, self._mirror = real, simulated, mirror

    @property
    def size(self) -> int:
        return self._real.size

    def write(self, data: bytes | bytearray) -> None:
        self._mirror.step()
        self._real.write(data)
        self._simulated.write(data)

    def rewrite(self, offset: int, data: bytes) -> None:
        self._mirror.step()
        self._real.rewrite(offset, data)
        self._simulated.rewrite(offset, data)

    def sync(self) -> None:
        self._mirror.step()
        self._real.sync()
        self._simulated.sync()

    def close(self) -> None:
        self._real.close()


class MirroredDisk(DirectoryDisk):
    """`zq.spool.disk.Disk` of both; it is read from the real one."""

    def __init__(self, directory: Path, mirror: Mirror, simulated: SimulatedDisk) -> None:
        super().__init__(directory)
        self._mirror, self._simulated = mirror, simulated

    def open(self, name: str) -> File:
        self._mirror.step()
        return _Both(super().open(name), self._simulated.open(name), self._mirror)  # type: ignore[return-value]

    def rename(self, old: str, new: str) -> None:
        self._mirror.step()
        super().rename(old, new)
        self._simulated.rename(old, new)

    def remove(self, name: str) -> None:
        self._mirror.step()
        super().remove(name)
        self._simulated.remove(name)

    def sync(self) -> None:
        self._mirror.step()
        super().sync()
        self._simulated.sync()
