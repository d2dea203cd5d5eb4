"""The fixture, as a project that uses it sees it; and the examples of its documentation, as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DEADLINE = 60  # s

SEEDS = """
import pytest

pytest_plugins = ["zq.testing.plugin"]
seen = []

def test_the_seed_is_0(zq_network):
    assert zq_network.carrier.random.random() == pytest.approx(__import__("random").Random(0).random())

@pytest.mark.parametrize("zq_network", range(3), indirect=True)
def test_a_seed_each(zq_network):
    seen.append(zq_network.peer("a").id)
    assert len(set(seen)) == len(seen)

def test_a_task_is_left_over(zq_network):
    peer = zq_network.peer("a")
    peer.start(peer.subscriber("news").receive)
"""


def run(directory: Path, text: str) -> str:
    """Runs it as a test file of a project without settings of its own; warnings are errors there too."""
    file = directory / "test_project.py"
    file.write_text(text)
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(file)]
    ended = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=DEADLINE)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_fixture_gives_each_test_a_network_of_its_seed(tmp_path: Path) -> None:
    assert "5 passed" in run(tmp_path, SEEDS)


def test_the_examples_of_the_documentation_hold(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "testing.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(examples) == 4  # the setting, then three
    assert "23 passed" in run(tmp_path, "\n\n".join(examples))  # the first one goes through 20 schedules
