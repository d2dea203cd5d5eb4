"""A host that forges a thousand mDNS records a second costs those who talk next to nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lan.conftest import MakeLan
from tests.lan.flooder import PORT
from tests.lan.proof_flood import ELSEWHERE, PACKETS, SECONDS, Scene
from tests.security.proof_door import p99
from tests.security.test_flood import ROUNDS, SLACK

pytestmark = pytest.mark.lan


@pytest.fixture
def friends(make_lan: MakeLan, tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(make_lan(3), tmp_path, stack)


def test_a_thousand_forged_records_a_second_cost_less_than_as_much_again(friends: Scene) -> None:
    peace: list[float] = []
    war: list[float] = []
    forged: list[int] = []
    for _ in range(ROUNDS):
        peace.append(p99(friends.flooded(ELSEWHERE)))
        before = friends.forged()
        took = friends.flooded(PORT)
        forged.append(friends.forged() - before)
        war.append(p99(took) if len(took) > 100 else math.inf)
        # Goodbyes are no forged records, nor is what came in one look: and all of it waits while the machine stalls.
        if min(war) < 2 * max(peace) + SLACK and sum(forged) > PACKETS * SECONDS / 4:
            break
    else:
        raise AssertionError(f"{war} us, and with them where nobody listens {peace}; {forged} were found out")
    assert friends.lost() == 0
