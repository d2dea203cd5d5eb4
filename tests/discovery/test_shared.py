"""A directory that hosts share: entries come, age and go, whatever the clocks say and whatever the disk refuses."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import PATIENCE, eventually
from zq.discovery import shared
from zq.discovery.host import Entry
from zq.discovery.shared import STALE, TOUCH, SharedDirectory, shared_directories


class Clock:
    """A monotonic clock of one host."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def entry(number: int, *endpoints: str) -> Entry:
    id = number.to_bytes(16, "big")
    return Entry(id=id, tag="t", endpoints=endpoints or (f"tcp://10.0.0.{number}:1",), version=1, name=f"p{number}")


class Member:
    """One host's view of the directory, its looks made by hand."""

    def __init__(self, path: Path, number: int) -> None:
        self.clock = Clock()
        self.entry = entry(number)
        self.found: list[Entry] = []
        self.directory = SharedDirectory(path, found=self.found.append, looked=lambda: None, clock=self.clock)
        self.directory._entry = self.entry

    def look(self, later: float = 0.0) -> list[str]:
        """The names of those that it finds `later` seconds after the last look."""
        self.clock.now += later
        self.found.clear()
        self.directory.tend()
        return [found.name for found in self.found]


def test_two_find_each_other_and_not_themselves(tmp_path: Path) -> None:
    one, two = Member(tmp_path, 1), Member(tmp_path, 2)
    assert one.look() == []
    assert two.look() == ["p1"]
    assert one.look() == ["p2"]
    assert one.found == [two.entry]


def test_the_directory_is_made(tmp_path: Path) -> None:
    member = Member(tmp_path / "of" / "the job", 1)
    member.look()
    assert [path.name for path in (tmp_path / "of" / "the job").iterdir()] == [f"{1:032x}.peer"]


def test_a_file_system_without_locks_and_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    for module, name in ((fcntl, "flock"), (fcntl, "lockf"), (fcntl, "fcntl"), (os, "link"), (os, "symlink")):
        monkeypatch.setattr(module, name, unsupported)
    one, two = Member(tmp_path, 1), Member(tmp_path, 2)
    one.look()
    assert (two.look(), one.look()) == (["p1"], ["p2"])
    two.directory._withdraw()
    assert one.look() == []


def test_an_entry_that_does_not_change_is_removed_and_one_that_is_touched_stays(tmp_path: Path) -> None:
    watcher, living, dead = (Member(tmp_path, number) for number in (1, 2, 3))
    dead.look()
    for _ in range(int(STALE / TOUCH) + 1):
        living.look(TOUCH)
        found = watcher.look(TOUCH)
        assert "p2" in found
    assert found == ["p2"]
    assert not (tmp_path / f"{3:032x}.peer").exists()
    dead.look(1.0)
    assert set(watcher.look(1.0)) == {"p2", "p3"}, "it only stood still, and has written its entry again"


@pytest.mark.parametrize("years", [-30, 30])
def test_clocks_that_differ_by_years_do_no_harm(tmp_path: Path, years: int) -> None:
    watcher, other = Member(tmp_path, 1), Member(tmp_path, 2)
    other.look()
    path = tmp_path / f"{2:032x}.peer"
    when = path.stat().st_mtime + years * 365 * 86_400
    for beat in range(20):
        os.utime(path, (when + beat, when + beat))  # as a host with that clock does
        assert watcher.look(TOUCH) == ["p2"]
    for _ in range(20):
        found = watcher.look(TOUCH)
    assert found == []


def test_a_newcomer_dials_whatever_looks_like_an_entry_and_removes_nothing(tmp_path: Path) -> None:
    old = Member(tmp_path, 2)
    old.look()
    os.utime(tmp_path / f"{2:032x}.peer", (0, 0))
    assert Member(tmp_path, 1).look() == ["p2"]
    assert (tmp_path / f"{2:032x}.peer").exists()


def test_what_is_no_entry_is_named_once_and_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Member(tmp_path, 2).look()
    (tmp_path / f"{3:032x}.peer").write_text("{")
    (tmp_path / f"{4:032x}.peer").write_bytes(entry(5).encode())
    (tmp_path / f"{6:032x}.peer").write_bytes(b"[" * 100_000)
    (tmp_path / f"{7:032x}.peer").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / f"{8:032x}.peer")
    (tmp_path / "README").write_text("of somebody else")
    member = Member(tmp_path, 1)
    assert member.look() == member.look() == ["p2"]
    assert len(caplog.messages) == 5
    assert (tmp_path / "README").exists()


def test_a_new_address_is_written_at_once(tmp_path: Path) -> None:
    one, two = Member(tmp_path, 1), Member(tmp_path, 2)
    one.look()
    one.directory._entry = entry(1, "tcp://10.9.9.9:1")
    one.look()
    two.look()
    assert two.found[0].endpoints == ("tcp://10.9.9.9:1",)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=64", "tmpfs", str(path)], check=True)
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.root
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_who_cannot_write_says_so_once_and_still_finds_others(
    small_disk: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    Member(small_disk, 2).look()
    if how == "full":
        with pytest.raises(OSError, match="No space left"):
            (small_disk / "ballast").write_bytes(bytes(1 << 20))
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    member = Member(small_disk, 1)
    assert member.look() == member.look() == ["p2"]
    (said,) = caplog.messages
    reason = "No space left on device" if how == "full" else "Read-only file system"
    assert said.startswith(f"shared directory {small_disk} cannot be written, so that we find others there but they do")
    assert reason in said
    assert [path.name for path in small_disk.glob("*.new")] == []
    if how == "full":
        (small_disk / "ballast").unlink()
    else:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert member.look() == ["p2"]
    assert caplog.messages[1:] == [f"shared directory {small_disk} works again"]
    assert (small_disk / f"{1:032x}.peer").exists()


def test_a_path_that_cannot_be_a_directory_is_an_error_that_others_survive(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    member = Member(tmp_path / "file", 1)
    assert member.look() == member.look() == []
    assert len(caplog.messages) == 1
    assert member.directory.error is not None


def test_its_thread_reports_looks_again_and_withdraws(tmp_path: Path) -> None:
    found: list[Entry] = []
    looked: list[bool] = []
    one = SharedDirectory(tmp_path, found=found.append, looked=lambda: looked.append(True), look=0.01)
    two = SharedDirectory(tmp_path, found=print, looked=lambda: None, look=60.0)
    one.start(entry(1))
    eventually(lambda: looked)
    two.start(entry(2))
    eventually(lambda: entry(2) in found)
    two.announce(entry(2, "tcp://10.9.9.9:1"))
    eventually(lambda: entry(2, "tcp://10.9.9.9:1") in found)
    two.close(PATIENCE)
    one.close(PATIENCE)
    assert list(tmp_path.iterdir()) == []
    assert looked == [True]


def test_a_server_that_is_away_holds_nobody_up_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = shared.threading.Event()
    monkeypatch.setattr(SharedDirectory, "tend", lambda self: away.wait(20.0))
    member = SharedDirectory(tmp_path, found=print, looked=lambda: None)
    member.start(entry(1))
    member.close(timeout=0.01)
    assert caplog.messages == [f"{tmp_path} does not answer: our entry is left there"]
    away.set()
    member._thread.join(10.0)


def test_the_directories_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert shared_directories(("host", "dir:~/zq", "dir:/mnt")) == [Path("/home/somebody/zq"), Path("/mnt")]
