"""A peer that is open to a network without a key says so, wherever its logs go, at every start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.lan.conftest import MakeLan, Settle
from tests.waiting import eventually

pytestmark = pytest.mark.lan

OPEN = """
import sys, zq
for _ in range(2):
    with zq.Peer(insecure=True, discovery=[], interfaces=sys.argv[1:]):
        pass
"""


def test_every_start_without_a_key_says_that_everybody_can_take_part(make_lan: MakeLan) -> None:
    """Nothing is set up to take its logs."""
    lan = make_lan(1)

    def warnings(interface: str) -> list[str]:
        command = [*lan.command(1), sys.executable, "-c", OPEN, interface]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30.0, check=True)
        return [line for line in ended.stderr.splitlines() if "insecure" in line]

    lines = warnings("eth0")
    assert len(lines) == 2
    assert all(lan.address(1) in line and "key_file" in line for line in lines)
    assert warnings("lo") == []


def test_an_interface_that_comes_late_is_warned_of_too(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(1)
    lan.take_interface(1)
    early = settle(lan, 1, discovery=[])
    assert early.endpoints() == []
    assert "insecure: " not in early.errors()
    lan.give_interface(1)
    eventually(lambda: early.endpoints() != [])
    assert early.errors().count("insecure: ") == 1
