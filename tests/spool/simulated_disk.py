"""A disk that fails on purpose: power cuts with any legal image, calls that fail, bits that flip.

A power cut keeps what was synced. Of what was written since, each 512-byte sector is as it was, as it was to be, or
torn between; the file may end anywhere between its old and its new size; each change of a name has happened or has not.
A sync that fails leaves the bytes readable until the power is cut, and never saves them.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

SECTOR = 512


class Content:
    """A file's bytes: as a reader sees them, and as they are on the medium."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.safe = b""
        self.lost = False  # a sync has failed: nothing that was written until then will ever be saved by another
        self.rewritten = 0  # but for what was written once more: all up to here

    def after_a_power_cut(self, random: random.Random) -> bytearray:
        if bytes(self.seen) == self.safe:
            return bytearray(self.safe)
        size = random.choice([len(self.safe), len(self.seen), random.randint(len(self.safe), len(self.seen))])
        kept = bytearray(self.safe[:size].ljust(size, b"\0"))
        for at in range(len(self.safe) // SECTOR * SECTOR, size, SECTOR):
            end = min(at + SECTOR, size)
            match random.randrange(3):
                case 0:
                    kept[at:end] = self.seen[at:end]
                case 1:
                    torn = random.randint(at, end)
                    kept[at:torn] = self.seen[at:torn]
        kept[: len(self.safe)] = self.safe
        return kept


class OpenFile:
    def __init__(self, disk: SimulatedDisk, content: Content) -> None:
        self._disk = disk
        self._content = content

    @property
    def size(self) -> int:
        return len(self._content.seen)

    def write(self, data: bytes | bytearray) -> None:
        try:
            self._disk.step("write")
        except OSError:
            self._disk.torn = True
            self._content.seen += data[: self._disk.random.randint(0, len(data))]
            raise
        if self._disk.capacity is not None:
            room = self._disk.capacity - self._disk.used()
            if len(data) > room:
                self._disk.torn = True
                self._content.seen += data[: max(room, 0)]
                raise OSError(errno.ENOSPC, "the simulated disk is full")
        self._content.seen += data

    def rewrite(self, offset: int, data: bytes) -> None:
        """Takes no room."""
        self._disk.step("rewrite")
        content = self._content
        assert content.seen[offset : offset + len(data)] == data, "it is something else"
        if offset <= max(len(content.safe), content.rewritten):
            content.rewritten = max(content.rewritten, offset + len(data))

    def sync(self) -> None:
        try:
            self._disk.step("sync")
        except OSError:
            self._content.lost = True
            raise
        if not self._content.lost:
            self._content.safe = bytes(self._content.seen)
        elif self._content.rewritten > len(self._content.safe):
            self._content.safe = bytes(self._content.seen[: self._content.rewritten])

    def close(self) -> None:
        pass


class SimulatedDisk:
    """`zq.spool.disk.Disk` in memory. `fails(number, what)` decides which call raises which error."""

    def __init__(self, seed: int = 0, *, capacity: int | None = None) -> None:
        self.random = random.Random(seed)
        self.capacity = capacity
        self.files: dict[str, Content] = {}
        self._safe_names: dict[str, Content] = {}
        self._changes: list[Callable[[dict[str, Content]], None]] = []
        self.steps = 0
        self.torn = False  # it comes from a power cut, or a write on it has failed
        self.fails: Callable[[int, str], int] = lambda number, what: 0  # errno or 0

    def used(self) -> int:
        return sum(len(content.seen) for content in self.files.values())

    def step(self, what: str) -> None:
        self.steps += 1
        if error := self.fails(self.steps, what):
            raise OSError(error, f"simulated failure of {what}, step {self.steps}")

    def _change(self, change: Callable[[dict[str, Content]], None]) -> None:
        change(self.files)
        self._changes.append(change)

    def names(self) -> list[str]:
        return sorted(self.files)

    def open(self, name: str) -> OpenFile:
        if name not in self.files:
            self.step("create")
            content = Content()
            self._change(lambda names: names.__setitem__(name, content))
        return OpenFile(self, self.files[name])

    def read(self, name: str, offset: int, size: int) -> bytes:
        return bytes(self.files[name].seen[offset : offset + size])

    def rename(self, old: str, new: str) -> None:
        self.step("rename")
        content = self.files[old]

        def change(names: dict[str, Content]) -> None:
            if names.pop(old, None) is not None or content not in names.values():
                names[new] = content

        self._change(change)

    def remove(self, name: str) -> None:
        self.step("remove")
        self._change(lambda names: names.pop(name, None) and None)

    def sync(self) -> None:
        self.step("sync names")
        self._safe_names = dict(self.files)
        self._changes.clear()

    def after_a_power_cut(self) -> SimulatedDisk:
        """What another boot finds."""
        names = dict(self._safe_names)
        for change in self._changes:
            if self.random.random() < 0.5:
                change(names)
        disk = SimulatedDisk(self.random.randrange(1 << 30), capacity=self.capacity)
        disk.torn = True
        for name, content in names.items():
            kept = Content()
            kept.seen = content.after_a_power_cut(self.random)
            kept.safe = bytes(kept.seen)
            disk.files[name] = kept
        disk._safe_names = dict(disk.files)
        return disk
