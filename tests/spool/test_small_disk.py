"""A full disk, one that is read-only, one that is taken away: never wedged, never confirmed in vain."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.spool.answered import PATIENCE, Answered

ROOT = Path(__file__).resolve().parent.parent.parent
CYCLES = 200  # of filling and draining 2 MB; a hundredth of a second each
DEADLINE = 100.0  # s


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own is mounted by root")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare, for a mount namespace of its own")
@pytest.mark.timeout(DEADLINE + 20)
@pytest.mark.parametrize(
    ("scenario", "cycles"),
    [
        ("filled_and_drained", CYCLES),
        ("full_to_the_last_byte", 1),
        ("opened_on_a_full_disk", 1),
        ("settled_without_any_room", 1),
        ("topics_on_a_full_disk", 1),
        ("read_only", 1),
        ("removed", 1),
    ],
)
def test_a_small_disk(scenario: str, cycles: int, tmp_path: Path) -> None:
    ended = subprocess.run(
        ["unshare", "-m", sys.executable, "-m", "tests.spool.small_disk", scenario, str(tmp_path), str(cycles)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_nothing_is_confirmed_once_its_files_are_removed_underneath(tmp_path: Path) -> None:
    spool = Answered(tmp_path / "spool")
    assert spool.append(1, [b"\x01"])[0] == "stored"
    while (tmp_path / "spool").exists():  # it may write a mark meanwhile
        shutil.rmtree(tmp_path / "spool", ignore_errors=True)
    assert spool.append(2, [b"\x02"])[0] == "failed"
    spool.keeper.close(PATIENCE)
