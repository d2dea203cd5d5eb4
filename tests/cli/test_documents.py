"""What README says about settings is what the program knows."""

from __future__ import annotations

import re
from pathlib import Path

from zq.cli.app import COMMANDS
from zq.options import markdown

ROOT = Path(__file__).parent.parent.parent


def test_the_settings_table_is_that_of_the_program() -> None:
    assert markdown() in (ROOT / "README.md").read_text()


def test_every_command_is_documented() -> None:
    documented = set(re.findall(r"`zq (\w+)", (ROOT / "docs" / "command-line.md").read_text()))
    assert set(COMMANDS) <= documented
