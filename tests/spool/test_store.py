"""A spool's directory: one owner, closed to others, one identity; nothing foreign is touched."""

from __future__ import annotations

import os
import random
import shutil
import threading
from pathlib import Path

import pytest

from tests.spool.life import PowerCut, cut_at
from tests.spool.simulated_disk import SimulatedDisk
from zq.errors import AccessDenied, Refused, SpoolDamaged, SpoolLocked
from zq.spool import sealed, store
from zq.spool.shelf import holder_of
from zq.spool.store import QUEUE, TOPIC, open_store


def test_the_epoch_goes_up_at_every_open_and_the_uuid_stays(tmp_path: Path) -> None:
    seen = []
    for _ in range(3):
        store = open_store(tmp_path / "spool")
        seen.append(store.identity)
        assert store.notes == []
        store.close()
    assert [identity.epoch for identity in seen] == [1, 2, 3]
    assert len({identity.uuid for identity in seen}) == 1


def test_a_second_process_is_told_who_has_it(tmp_path: Path) -> None:
    store = open_store(tmp_path / "spool")
    with pytest.raises(SpoolLocked, match=f"open in process {os.getpid()}"):
        open_store(tmp_path / "spool")
    store.close()
    open_store(tmp_path / "spool").close()


def test_who_only_looks_at_a_lock_keeps_nobody_out(tmp_path: Path) -> None:
    open_store(tmp_path / "spool").close()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.002):  # a hundred times as often as a busy operator would
            assert holder_of(tmp_path / "spool") in (None, 0, os.getpid())

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(60):
            open_store(tmp_path / "spool").close()
    finally:
        over.set()
        for looker in lookers:
            looker.join()


def test_everything_in_it_is_ours_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path / "spool")
    store.stream(QUEUE, "jobs")
    for path in [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    store.close()


def test_names_are_kept_and_never_become_files(tmp_path: Path) -> None:
    store = open_store(tmp_path / "spool")
    made, _ = store.stream(QUEUE, "a/../b")
    store.stream(TOPIC, "a/../b")
    assert store.stream(QUEUE, "a/../b")[0] == made
    store.close()
    again = open_store(tmp_path / "spool")
    assert [(stream.kind, stream.name) for stream in again.streams()] == [(QUEUE, "a/../b"), (TOPIC, "a/../b")]
    assert again.stream(QUEUE, "a/../b")[0] == made
    assert {len(path.name) for path in (tmp_path / "spool").iterdir() if path.is_dir()} == {32}
    again.close()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o707])
def test_a_directory_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    (tmp_path / "spool").chmod(mode)
    with pytest.raises(AccessDenied, match="chmod 700"):
        open_store(tmp_path / "spool")
    assert list((tmp_path / "spool").iterdir()) == []


def test_nobody_is_advised_to_close_a_directory_that_others_use(tmp_path: Path) -> None:
    """`zq spool --dir /etc` must not end with advice to chmod it."""
    (tmp_path / "passwd").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(Refused, match="holds other things and is no spool"):
        open_store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["passwd"]


def test_a_symbolic_link_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(AccessDenied, match="symbolic link"):
        open_store(tmp_path / "link")
    (tmp_path / "file").touch()
    with pytest.raises(AccessDenied, match="no directory"):
        open_store(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="root can give a directory to somebody else")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    os.chown(tmp_path / "spool", 12345, 12345)
    with pytest.raises(AccessDenied, match="belongs to user 12345"):
        open_store(tmp_path / "spool")


def test_a_directory_with_other_things_in_it_is_refused_and_untouched(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    directory.mkdir(mode=0o700)
    (directory / "thesis.txt").write_text("years of work")
    with pytest.raises(Refused, match="holds other things"):
        open_store(directory)
    assert [path.name for path in directory.iterdir()] == ["thesis.txt"]


def test_a_copy_is_noticed_and_gets_an_identity_of_its_own(tmp_path: Path) -> None:
    store = open_store(tmp_path / "spool")
    store.stream(QUEUE, "jobs")
    store.close()
    shutil.copytree(tmp_path / "spool", tmp_path / "restored")
    (tmp_path / "restored").chmod(0o700)
    restored = open_store(tmp_path / "restored")
    assert restored.identity.uuid != store.identity.uuid
    assert ["copy or was restored" in note for note in restored.notes] == [True]
    assert [stream.name for stream in restored.streams()] == ["jobs"]
    restored.close()


def test_a_damaged_or_newer_identity_is_refused_and_untouched(tmp_path: Path) -> None:
    open_store(tmp_path / "spool").close()
    file = tmp_path / "spool" / "spool"
    whole = file.read_bytes()
    file.write_bytes(whole[:20] + bytes([whole[20] ^ 1]) + whole[21:])
    with pytest.raises(SpoolDamaged, match="does not verify"):
        open_store(tmp_path / "spool")
    file.write_bytes(whole[:7] + b"\x02" + whole[8:])
    with pytest.raises(Refused, match="newer version"):
        open_store(tmp_path / "spool")
    assert file.read_bytes() == whole[:7] + b"\x02" + whole[8:]


def test_what_is_no_stream_is_said_and_left_alone(tmp_path: Path) -> None:
    open_store(tmp_path / "spool").close()
    foreign = tmp_path / "spool" / ("f" * 32)
    foreign.mkdir()
    store = open_store(tmp_path / "spool")
    assert store.streams() == []
    assert ["left alone" in note for note in store.notes] == [True]
    assert foreign.is_dir()
    store.close()


def test_no_power_cut_lets_an_epoch_be_used_twice() -> None:
    """Nor leaves an identity that does not verify."""
    for seed in range(200):
        made, disk = random.Random(seed), SimulatedDisk(seed)
        used: list[tuple[bytes, int]] = []
        for _ in range(6):
            disk.fails = cut_at(made.randint(1, 12))
            try:
                identity = store._read_identity(disk, Path("spool"), (1, 2), None, [], made.randbytes)
                sealed.write_whole(disk, store.SPOOL, store.encode_identity(identity, (1, 2)))
                used.append((identity.uuid, identity.epoch))
            except PowerCut:
                pass
            disk = disk.after_a_power_cut()
        assert len(set(used)) == len(used), f"seed {seed}"
        assert len({uuid for uuid, _ in used}) <= 1, "it has one name for ever"
