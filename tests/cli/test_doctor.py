"""`zq doctor` in a shell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ZQ = Path(sys.executable).parent / "zq"
DEADLINE = 30  # s for any one command


def run(line: str, *, directory: Path) -> subprocess.CompletedProcess[str]:
    line = f"zq() {{ '{ZQ}' \"$@\"; }}; {line}"
    return subprocess.run(["bash", "-c", line], cwd=directory, capture_output=True, text=True, timeout=DEADLINE)


def test_a_healthy_machine_ends_with_0_and_says_what_opens_a_network(tmp_path: Path) -> None:
    done = run("zq doctor", directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing listens on any network" in done.stdout
    assert "fix: to meet other hosts set ZQ_KEY_FILE=realm.key" in done.stdout
    assert "PROBLEM" not in done.stdout


def test_a_problem_ends_with_1_and_its_fix(tmp_path: Path) -> None:
    done = run("zq doctor --key-file missing.key", directory=tmp_path)
    assert (done.returncode, done.stderr) == (1, "zq: 1 problem\n")
    assert "PROBLEM  key: key file missing.key is not there" in done.stdout
    assert "fix: `zq key new > FILE` makes one" in done.stdout


def test_json_is_one_finding_a_line(tmp_path: Path) -> None:
    done = run("zq doctor --json --seeds nonsense", directory=tmp_path)
    assert done.returncode == 1
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {tuple(row) for row in rows} == {("check", "level", "subject", "what", "fix")}
    assert rows[0]["level"] == "problem"


def test_to_listen_and_to_look_are_two_things(tmp_path: Path) -> None:
    assert run("zq doctor --listen --peer x", directory=tmp_path).returncode == 2
