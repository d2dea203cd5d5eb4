"""Every pattern runs as its users run it, keeps its own guarantee, and keeps to the rules of the catalogue."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PATTERNS = sorted(path.stem for path in (ROOT / "patterns").glob("*.py") if path.stem != "__init__")
LONGEST_RUN = 5.0  # s for one pattern with all its processes, in the fastest of so many runs: the machine may be busy
RUNS = 3
LONGEST_FILE = 150  # lines
SECTIONS = ("Problem", "Topology", "Guarantee", "Not", "Seen elsewhere", "Run")


@pytest.mark.timeout(100)
@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_keeps_its_guarantee(name: str) -> None:
    took: list[float] = []
    while len(took) < RUNS and min(took, default=LONGEST_RUN) >= LONGEST_RUN:
        began = time.monotonic()
        run = subprocess.run(
            [sys.executable, "-m", f"patterns.{name}"], cwd=ROOT, capture_output=True, text=True, timeout=30
        )
        took.append(time.monotonic() - began)
        assert run.returncode == 0, run.stderr
        assert "0 lost" in run.stdout
        assert "killed" in run.stdout
        assert run.stderr == ""
    assert min(took) < LONGEST_RUN


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_says_what_it_is_for_and_is_short(name: str) -> None:
    text = (ROOT / "patterns" / f"{name}.py").read_text()
    found = re.findall(rf"^({'|'.join(SECTIONS)})\b", text.split('"""')[1], re.MULTILINE)
    assert tuple(found) == SECTIONS
    assert f"python -m patterns.{name}" in text
    assert len(text.splitlines()) <= LONGEST_FILE


def test_the_index_names_every_pattern() -> None:
    index = (ROOT / "patterns" / "README.md").read_text()
    names = ["work_queue", "publish_subscribe", "publish_to_services", "store_and_forward", "request_reply"]
    assert re.findall(r"\]\((\w+)\.py\)", index) == names
    assert set(names) == set(PATTERNS)
