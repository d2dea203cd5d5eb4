"""The host directory: only ours, never a dead peer for long, never a living one lost."""

from __future__ import annotations

import fcntl
import json
import logging
import multiprocessing
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from zq.discovery import place
from zq.discovery.host import (
    ENTRY_BYTES,
    TOUCH,
    Entry,
    HostDirectory,
    default_directory,
    directories,
    prepare,
    socket_path,
)
from zq.errors import AccessDenied, Refused

NOBODY = 65_534


def entry(number: int = 1, **changes: object) -> Entry:
    fields = {
        "id": bytes([number]) * 16,
        "tag": "realm",
        "endpoints": ("ipc:///tmp/x.m",),
        "version": 1,
        "name": f"peer-{number}",
    }
    return Entry(**{**fields, **changes})  # type: ignore[arg-type]


def path_of(directory: Path, number: int = 1) -> Path:
    return directory / f"{bytes([number]).hex() * 8}.peer"


@contextmanager
def announced(directory: Path, number: int) -> Iterator[HostDirectory]:
    host = HostDirectory([directory])
    try:
        host.announce(entry(number))
        yield host
    finally:
        host.close()


# What the directory must be


def test_the_directory_is_made_for_us_alone(host_directory: Path) -> None:
    prepare(host_directory / "a" / "b")
    assert stat.S_IMODE((host_directory / "a" / "b").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o710, 0o777, 0o701])
def test_a_directory_open_to_others_is_denied(host_directory: Path, mode: int) -> None:
    host_directory.chmod(mode)
    with pytest.raises(
        AccessDenied, match=rf"is open to others \(mode {mode:o}\); if it is for zq alone chmod 700 it, else"
    ):
        HostDirectory([host_directory])


def test_a_symbolic_link_is_denied(host_directory: Path) -> None:
    (host_directory / "real").mkdir(mode=0o700)
    (host_directory / "link").symlink_to(host_directory / "real")
    (host_directory / "dangling").symlink_to(host_directory / "nothing")
    for name in ("link", "dangling"):
        with pytest.raises(AccessDenied, match="is a symbolic link; remove it, or set ZQ_HOST_DIR"):
            HostDirectory([host_directory / name])
    assert not (host_directory / "nothing").exists()


def test_a_file_is_denied(host_directory: Path) -> None:
    (host_directory / "file").touch()
    with pytest.raises(AccessDenied, match="is no directory; remove it"):
        HostDirectory([host_directory / "file"])
    with pytest.raises(AccessDenied, match=r"cannot be made: Not a directory; set ZQ_HOST_DIR"):
        HostDirectory([host_directory / "file" / "below"])


@pytest.mark.root
def test_a_directory_of_somebody_else_is_denied(host_directory: Path) -> None:
    os.chown(host_directory, NOBODY, -1)
    with pytest.raises(AccessDenied, match=f"belongs to user {NOBODY}"):
        HostDirectory([host_directory])


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o500, 0o600, 0o300])
def test_a_directory_we_cannot_write_is_denied(host_directory: Path, mode: int) -> None:
    os.chown(host_directory, NOBODY, -1)
    host_directory.chmod(mode)
    code = f"from zq.discovery.host import *; from pathlib import Path; HostDirectory([Path({str(host_directory)!r})])"
    result = as_nobody(code)
    assert result.returncode != 0
    assert "cannot be written; if it is for zq alone chmod 700 it, else set ZQ_HOST_DIR" in result.stderr


@pytest.mark.root
def test_another_user_sees_nothing(host_directory: Path) -> None:
    with announced(host_directory, 1):
        path = path_of(host_directory)
        listing = as_nobody(f"import os; print(os.listdir({str(host_directory)!r}))")
        assert "PermissionError" in listing.stderr
        reading = as_nobody(f"print(open({str(path)!r}).read())")
        assert "PermissionError" in reading.stderr
        code = (
            f"from zq.discovery.host import *; from pathlib import Path; HostDirectory([Path({str(host_directory)!r})])"
        )
        joining = as_nobody(code)
        assert "AccessDenied" in joining.stderr
        assert path.exists()


def as_nobody(code: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code as another user, who gets what was imported before: this tree may be closed to it."""
    start = f"import zq.discovery.host, os, traceback; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
    return subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, timeout=30)


def test_an_unfit_second_directory_is_left_out_and_said(host_directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    second = host_directory / "second"
    with announced(second, 2):
        second.chmod(0o755)
        host = HostDirectory([host_directory, second])
        assert host.scan() == []
        assert "is open to others (mode 755); if it is for zq alone chmod 700 it" in caplog.text
        assert "it is not read" in caplog.text


def test_all_directories_are_read_and_the_first_gets_our_entry(host_directory: Path) -> None:
    first, second = host_directory / "first", host_directory / "second"
    with announced(second, 2):
        host = HostDirectory([first, second])
        host.announce(entry(1))
        assert [found.name for found in host.scan()] == ["peer-2"]
        assert path_of(first).exists()
        host.close()


# Where it is


def test_the_chosen_directory_is_the_only_one(host_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert directories() == [host_directory] == [default_directory()]
    assert directories(Path("/other")) == [Path("/other")] == [default_directory(Path("/other"))]
    monkeypatch.delenv("ZQ_HOST_DIR")
    assert directories(Path("/other")) == [Path("/other")]


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has one place only")
def test_the_usual_directories_ask_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZQ_HOST_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/elsewhere")
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    there: set[str] = set()
    monkeypatch.setattr(place.Path, "is_dir", lambda path: str(path) in there)
    assert directories() == [Path("/tmp/zq-4711")]
    there.add("/run/user/4711")
    assert directories() == [Path("/run/user/4711/zq")]
    there.add("/tmp/zq-4711")
    assert directories() == [Path("/run/user/4711/zq"), Path("/tmp/zq-4711")]


def test_a_socket_path_is_at_most_107_bytes() -> None:
    id = bytes(range(16))
    longest = place.SOCKET_PATH_BYTES - len("/0001020304050607.m")
    path = socket_path(Path("/" + "x" * (longest - 1)), id, "m")
    assert len(os.fsencode(path)) == place.SOCKET_PATH_BYTES
    with socket.socket(socket.AF_UNIX) as probe, pytest.raises(FileNotFoundError):
        probe.bind(str(path))  # the kernel takes the length: only the directory is missing
    for too_long in ("/" + "x" * longest, "/" + "ü" * (longest // 2 + 1)):
        with pytest.raises(Refused, match="set ZQ_HOST_DIR to a shorter path"):
            socket_path(Path(too_long), id, "m")
    assert [socket_path(Path("/d"), id, kind).name for kind in ("m", "f", "w")] == [
        "0001020304050607.m",
        "0001020304050607.f",
        "0001020304050607.w",
    ]


# Entries


def test_an_entry_arrives_as_it_was_announced(host_directory: Path) -> None:
    sent = entry(7, name="küche", endpoints=("ipc:///a", "tcp://127.0.0.1:1"), version=3)
    host = HostDirectory([host_directory])
    host.announce(sent)
    assert HostDirectory([host_directory]).scan() == [sent]
    assert json.loads(path_of(host_directory, 7).read_text())["id"] == "07" * 16
    assert host.scan() == []  # not our own
    host.close()
    assert list(host_directory.iterdir()) == []


def test_announcing_again_replaces_the_entry_and_keeps_it_locked(host_directory: Path) -> None:
    other = HostDirectory([host_directory])
    with announced(host_directory, 1) as host:
        for version in range(2, 5):
            host.announce(entry(1, version=version))
            assert other.scan() == [entry(1, version=version)]
    assert other.scan() == []


def test_unknown_fields_are_of_a_later_version(host_directory: Path) -> None:
    later = json.loads(entry(1).encode()) | {"colour": "blue"}
    assert Entry.decode(json.dumps(later).encode()) == entry(1)


GARBAGE = {
    "empty": b"",
    "not JSON": b"\xff\x00",
    "not an object": b"[]",
    "deep": b"[" * 50_000,
    "a field missing": b'{"id": "' + b"01" * 16 + b'", "endpoints": []}',
    "a short id": entry(1).encode().replace(b"01" * 16, b"01" * 15),
    "an id that is no text": entry(1).encode().replace(b'"' + b"01" * 16 + b'"', b"5"),
    "somebody else's id": entry(2).encode(),
    "a name that is no text": entry(1).encode().replace(b'"peer-1"', b"5"),
    "a version that is no number": entry(1).encode().replace(b'"version": 1', b'"version": "1"'),
    "endpoints that are no texts": entry(1).encode().replace(b'"ipc:///tmp/x.m"', b"1"),
    "too many endpoints": entry(1).encode().replace(b'"ipc:///tmp/x.m"', b'"x"' + b', "x"' * 64),
    "too long": entry(1).encode() + b" " * ENTRY_BYTES,
}


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_skipped_counted_and_logged_once(
    raw: bytes, host_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = HostDirectory([host_directory])
    with path_of(host_directory).open("wb") as file, announced(host_directory, 3):
        file.write(raw)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)  # its writer lives
        for _ in range(3):
            assert host.scan() == [entry(3)]
    assert host.unreadable == 1
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_what_is_no_file_is_skipped(host_directory: Path) -> None:
    os.mkfifo(path_of(host_directory, 4))
    path_of(host_directory, 5).symlink_to("/etc/passwd")
    path_of(host_directory, 6).mkdir()
    (host_directory / "notes.peer").write_text("not named like an entry")
    host = HostDirectory([host_directory])
    assert host.scan() == []
    assert host.unreadable == 3
    assert len(list(host_directory.iterdir())) == 4


# Dying, disappearing, staying


DYING = """
import signal, socket, sys
from pathlib import Path
from zq.discovery.host import Entry, HostDirectory, socket_path

directory, id = Path(sys.argv[1]), b"\\x09" * 16
host = HostDirectory([directory])
sockets = [socket.socket(socket.AF_UNIX) for _ in "mfw"]
for kind, each in zip("mfw", sockets):
    each.bind(str(socket_path(directory, id, kind)))
host.announce(Entry(id=id, tag="t", endpoints=("e",), version=1, name="dying"))
print("here", flush=True)
signal.pause()
"""


def test_what_a_killed_process_left_is_removed(host_directory: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", DYING, host_directory], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"here\n"
        scanners = [HostDirectory([host_directory]) for _ in range(2)]
        assert [[found.name for found in host.scan()] for host in scanners] == [["dying"], ["dying"]]
        assert len(list(host_directory.iterdir())) == 4
        shut = next(host_directory.glob("*.w"))
        shut.rename(f"{shut}{place.SHUT}")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    assert [host.scan() for host in scanners] == [[], []]
    assert list(host_directory.iterdir()) == []


def test_two_scanners_at_once_do_not_disturb_each_other(host_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path_of(host_directory).write_bytes(entry(1).encode())  # nobody holds its lock
    first, second = HostDirectory([host_directory]), HostDirectory([host_directory])
    lock, between = fcntl.flock, []

    def lock_and_be_overtaken(file: int, how: int) -> None:
        lock(file, how)
        if not between:
            between.append("once")
            between.append(second.scan())  # finds the lock held: for it, the peer still lives

    monkeypatch.setattr(fcntl, "flock", lock_and_be_overtaken)
    assert first.scan() == []
    assert between == ["once", [entry(1)]]
    assert not path_of(host_directory).exists()
    assert second.scan() == []
    assert (first.unreadable, second.unreadable) == (0, 0)


def test_an_entry_replaced_between_opening_and_locking_is_not_removed(
    host_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, owner, done = fcntl.flock, HostDirectory([host_directory]), []
    owner.announce(entry(1))

    def replace_then_lock(file: int, how: int) -> None:
        if not done:
            done.append(True)
            owner.announce(entry(1, version=2))  # the file that the scanner has open is now nobody's
        lock(file, how)

    scanner = HostDirectory([host_directory])
    monkeypatch.setattr(fcntl, "flock", replace_then_lock)
    assert scanner.scan() == []  # not the old one; the new one in the next scan
    assert scanner.scan() == [entry(1, version=2)]
    owner.close()


def test_an_entry_gone_between_listing_and_opening_is_no_fault(
    host_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scanner, owner = HostDirectory([host_directory]), HostDirectory([host_directory])
    owner.announce(entry(1))
    real = os.open

    def leave_then_open(path: Path, flags: int) -> int:
        owner.close()
        return real(path, flags)

    monkeypatch.setattr(os, "open", leave_then_open)
    assert scanner.scan() == []
    assert scanner.unreadable == 0


def test_a_scan_never_locks_a_living_entry(host_directory: Path) -> None:
    with announced(host_directory, 1):
        scanner = HostDirectory([host_directory])
        for _ in range(3):
            assert scanner.scan() == [entry(1)]
        assert HostDirectory([host_directory]).scan() == [entry(1)]


def test_a_disappeared_entry_is_written_again(host_directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    with announced(host_directory, 1) as host:
        host.tend(0.0)
        path_of(host_directory).unlink()
        host.tend(1.0)
        assert HostDirectory([host_directory]).scan() == [entry(1)]
        assert "has disappeared; writing it again" in caplog.text
        path_of(host_directory).unlink()
        path_of(host_directory).write_bytes(b"somebody else's")
        host.tend(2.0)
        assert HostDirectory([host_directory]).scan() == [entry(1)]


def test_a_disappeared_directory_is_made_again(host_directory: Path) -> None:
    below = host_directory / "below"
    with announced(below, 1) as host:
        path_of(below).unlink()
        below.rmdir()
        assert host.scan() == []
        host.tend(0.0)
        assert HostDirectory([below]).scan() == [entry(1)]
        assert stat.S_IMODE(below.stat().st_mode) == 0o700


def test_an_entry_that_cannot_be_written_again_is_tried_until_it_can(
    host_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    below = host_directory / "below"
    with announced(below, 1) as host:
        path_of(below).unlink()
        below.chmod(0o755)
        for now in range(3):
            host.tend(float(now))
        assert caplog.text.count("is open to others") == 1
        assert not path_of(below).exists()
        below.chmod(0o700)
        host.tend(4.0)
        assert path_of(below).exists()


def test_an_entry_and_its_sockets_are_touched_every_hour(host_directory: Path) -> None:
    with announced(host_directory, 1) as host, socket.socket(socket.AF_UNIX) as mailbox:
        mailbox_path = socket_path(host_directory, entry(1).id, "m")
        mailbox.bind(str(mailbox_path))

        def ages() -> list[float]:
            return [path.stat().st_mtime for path in (path_of(host_directory), mailbox_path)]

        host.tend(100.0)
        for path in (path_of(host_directory), mailbox_path):
            os.utime(path, (1.0, 1.0))
        host.tend(100.0 + TOUCH - 1)
        assert ages() == [1.0, 1.0]
        host.tend(100.0 + TOUCH)
        assert min(ages()) > 1.0
        os.utime(path_of(host_directory), (1.0, 1.0))
        host.tend(100.0 + 2 * TOUCH - 1)
        assert ages()[0] == 1.0


def test_what_was_left_aside_is_removed_when_it_is_old(host_directory: Path) -> None:
    aside = path_of(host_directory).with_suffix(".new")
    aside.touch()
    host = HostDirectory([host_directory])
    host.scan()
    assert aside.exists()
    os.utime(aside, (1.0, 1.0))
    host.scan()
    assert not aside.exists()


def test_an_entry_is_never_seen_half_written(host_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanner, owner, seen = HostDirectory([host_directory]), HostDirectory([host_directory]), []
    lock, rename = fcntl.flock, Path.rename

    def scan_then_lock(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        seen.append(scanner.scan())
        lock(file, how)

    def scan_then_rename(aside: Path, path: Path) -> Path:
        seen.append(scanner.scan())
        return rename(aside, path)

    monkeypatch.setattr(fcntl, "flock", scan_then_lock)
    monkeypatch.setattr(Path, "rename", scan_then_rename)
    owner.announce(entry(1))
    assert seen == [[], []]
    assert scanner.scan() == [entry(1)]
    assert scanner.unreadable == 0
    owner.close()


def test_a_full_disk_is_an_error_that_says_what_to_do(host_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = HostDirectory([host_directory])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(AccessDenied, match="No space left on device; make room"):
        host.announce(entry(1))
    assert set(Path("/proc/self/fd").iterdir()) <= before


def test_close_is_idempotent_and_leaves_nothing(host_directory: Path) -> None:
    host = HostDirectory([host_directory])
    host.close()
    host.announce(entry(1))
    with socket.socket(socket.AF_UNIX) as mailbox:
        mailbox.bind(str(socket_path(host_directory, entry(1).id, "m")))
        host.close()
        host.close()
    assert list(host_directory.iterdir()) == []
    host.tend(0.0)
    assert list(host_directory.iterdir()) == []


def _abandon(host: HostDirectory) -> None:
    host.abandon()
    host.close()
    os._exit(0 if host.scan() != [] else 3)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_lets_go_without_touching_the_parents_entry(host_directory: Path) -> None:
    with announced(host_directory, 1) as host:
        child = multiprocessing.get_context("fork").Process(target=_abandon, args=(host,))
        child.start()
        child.join(20)
        assert child.exitcode == 0  # the child, no longer the owner, sees its parent's entry
        assert HostDirectory([host_directory]).scan() == [entry(1)]
    assert HostDirectory([host_directory]).scan() == []


def test_an_executed_child_does_not_keep_a_dead_peer_alive(host_directory: Path) -> None:
    host, scanner = HostDirectory([host_directory]), HostDirectory([host_directory])
    host.announce(entry(1))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False):  # until the block closes its input
        assert scanner.scan() == [entry(1)]
        host.abandon()  # as the kernel does for a process that dies
        assert scanner.scan() == []
