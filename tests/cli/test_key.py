"""`zq key`, and what the command line says of keys and of strangers."""

from __future__ import annotations

import re
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

import zq
from tests.cli.patient import ZQ
from zq.security.keys import read_keys

DEADLINE = 30  # s for any one command


def run(line: str, *, directory: Path) -> subprocess.CompletedProcess[str]:
    """Runs a line of shell in `directory`, with the usual umask."""
    line = f'umask 022; zq() {{ {shlex.join(ZQ)} "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", line], cwd=directory, capture_output=True, text=True, timeout=DEADLINE)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    assert run("zq key new > realm.key", directory=tmp_path).returncode == 0
    return tmp_path / "realm.key"


def test_a_new_key_in_a_file_can_be_used_at_once(tmp_path: Path) -> None:
    made = run("zq key new > realm.key", directory=tmp_path)
    assert (made.returncode, made.stdout) == (0, "")
    assert "readable by you alone" in made.stderr
    path = tmp_path / "realm.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(read_keys(path).keys) == 1
    assert run("zq peers --key-file realm.key --interfaces 127.0.0.1 --discovery host", directory=tmp_path).stdout == ""
    with zq.Peer("test", key_file=path, interfaces=["127.0.0.1"], discovery=["host"]):
        found = run("ZQ_KEY_FILE=realm.key zq peers --interfaces 127.0.0.1 --discovery host --json", directory=tmp_path)
    assert '"name": "test"' in found.stdout or '"name":"test"' in found.stdout


def test_a_new_key_in_a_pipe_is_printed(tmp_path: Path) -> None:
    made = run("zq key new | cat", directory=tmp_path)
    assert re.search(r"^zq-key-1 \S{48}$", made.stdout, re.MULTILINE)
    assert made.stderr == ""


def test_show_prints_the_fingerprint_and_never_the_key(key: Path) -> None:
    (only,) = read_keys(key).keys
    secret = only.line().split()[1]
    for line in ("zq key show realm.key", "ZQ_KEY_FILE=realm.key zq key show", "zq config --key-file realm.key"):
        shown = run(line, directory=key.parent)
        assert shown.returncode == 0
        assert secret not in shown.stdout + shown.stderr
        assert ("config" in line) or shown.stdout == f"{only.fingerprint}\n"


def test_show_says_which_of_two_keys_is_listened_with(key: Path) -> None:
    old = key.read_text().splitlines()[-1]
    new = run("zq key new", directory=key.parent).stdout.splitlines()[-1]
    key.write_text(f"{old} until 2999-01-01\n{new}\n")
    shown = run("zq key show realm.key", directory=key.parent).stdout.splitlines()
    first, second = read_keys(key).keys
    assert shown == [
        f"{first.fingerprint}  listened with until 2999-01-01, which is now",
        f"{second.fingerprint}  listened with from 2999-01-01 on",
    ]


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("zq key show", 2, "set ZQ_KEY_FILE"),
        ("zq key show missing.key", 2, "zq key new > FILE"),
        ("zq peers --key-file missing.key", 2, "zq key new > FILE"),
        ("zq peers --key-file realm.key --insecure", 2, "leave one out"),
        ("echo hello > bad.key; chmod 600 bad.key; zq sub x --key-file bad.key", 2, "line 1 is no key"),
        ("chmod 644 realm.key; zq key show realm.key", 1, "chmod 600"),
        ("chmod 644 realm.key; zq pub x y --key-file realm.key", 1, "chmod 600"),
    ],
)
def test_a_key_that_cannot_be_used_is_one_line_that_says_what_to_do(key: Path, line: str, code: int, says: str) -> None:
    ended = run(line, directory=key.parent)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_peers_says_that_there_are_others_whom_this_key_does_not_open(key: Path) -> None:
    options = {"interfaces": ["127.0.0.1"], "discovery": ["host"]}
    theirs = key.parent / "theirs.key"
    run("zq key new > theirs.key", directory=key.parent)
    with zq.Peer("one", key_file=theirs, **options), zq.Peer("two", key_file=theirs, **options) as two:
        two.wait_for_peers(1)
        assert two.strangers() == 0  # before the others come
        said = run("zq peers --key-file realm.key --interfaces 127.0.0.1 --discovery host", directory=key.parent)
        assert said.stdout == ""
        assert "zq: 2 zq peers near that this key does not open\n" in said.stderr
        assert "zq: 2 zq peers near of another realm\n" in run("zq peers", directory=key.parent).stderr
        assert "near" not in run("zq peers --json", directory=key.parent).stdout
        ours = run("zq peers --key-file theirs.key --interfaces 127.0.0.1 --discovery host", directory=key.parent)
        assert "near" not in ours.stderr
