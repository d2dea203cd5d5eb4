"""What strangers leave at the doors when they are gone: nothing, once the time of a handshake is over."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.security.proof_door import STRANGER, scene
from zq.engine.factory import HANDSHAKE

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")

EACH = 0.15  # s
ROUNDS = 8  # at most, until enough have come
GRACE = 5.0  # s for the machine; those who are gone are closed at once, the others when their handshake's time is over
KINDS = ("random keys", "banners and garbage", "slowloris", "1,000 idle connections", "HELLO and gone")


def test_strangers_leave_no_descriptor_behind_within_the_time_of_a_handshake() -> None:
    """Libzmq's, and duplicates of them that those hold who look after the doors."""
    with scene() as friends:
        before = friends.state()["descriptors"]
        for _ in range(ROUNDS):
            for kind in KINDS:
                friends.visit(kind, seconds=EACH)
                friends.visit(kind, seconds=EACH, source=STRANGER)
            state = friends.state()
            if state["failures"] > 100 and state["shut_out"] > 0:
                break  # they yield to everybody, and other work may have had the processor
        else:
            raise AssertionError(f"hardly anybody came: {state}")
        gone = time.monotonic()
        while (left := friends.state()["descriptors"] - before) > 0:
            assert time.monotonic() - gone < HANDSHAKE / 1_000 + GRACE, f"{left} are left"
        assert friends.rest() == 0
