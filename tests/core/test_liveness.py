"""The table of a peer's states: a step that is not in it raises and changes nothing."""

from __future__ import annotations

import pytest

from zq.core.liveness import NEXT, Life, Liveness, Sign

ALL = [(life, sign) for life in Life for sign in Sign]


@pytest.mark.parametrize(("life", "sign"), ALL)
def test_a_step_is_in_the_table_or_raises_and_changes_nothing(life: Life, sign: Sign) -> None:
    liveness = Liveness()
    liveness.state = life
    if (life, sign) in NEXT:
        assert liveness.step(sign) is NEXT[life, sign] is liveness.state
    else:
        with pytest.raises(ValueError, match=f"{life.value} cannot be {sign.value}"):
            liveness.step(sign)
        assert liveness.state is life


def test_who_is_gone_stays_gone_and_a_goodbye_is_heard_in_every_other_state() -> None:
    assert not [step for step in NEXT if step[0] is Life.GONE]
    assert all(NEXT[life, Sign.GOODBYE] is Life.GONE for life in Life if life is not Life.GONE)


def test_nobody_is_suspected_before_it_was_up() -> None:
    assert [life for (life, _), after in NEXT.items() if after is Life.SUSPECT] == [Life.UP]
