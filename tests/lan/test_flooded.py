"""A host that forges a thousand mDNS records a second costs those who talk next to nothing."""

from __future__ import annotations

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
    peace, war = [], []
    for _ in range(ROUNDS):
        peace.append(p99(friends.flooded(ELSEWHERE)))
        before = friends.forged()
        took = friends.flooded(PORT)
        assert friends.forged() - before > PACKETS * SECONDS / 4  # goodbyes are none, nor what came in one look
        assert len(took) > 100
        war.append(p99(took))
        if min(war) < 2 * max(peace) + SLACK:
            break
    else:
        raise AssertionError(f"{war} us, and with them where nobody listens {peace}")
    assert friends.lost() == 0
