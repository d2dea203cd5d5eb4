"""What a sender asks for, as bytes: the four last of the extra fields, with times as what remains of them."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zq.errors import Refused
from zq.wire.data import Extended, Packed, pack, unpack
from zq.wire.limits import SECONDS
from zq.wire.plan import HIGH, LOW, NORMAL, Plan, plan_of, planned, remaining


def test_a_message_with_a_plan_as_bytes() -> None:
    plan = Plan(HIGH, "k", 2.0, 1.0)
    body = pack("x", [None, None, *plan.extra])
    assert bytes(body).hex() == "92a17896c0c0a16b01cb4000000000000000cb3ff0000000000000"  # type: ignore[arg-type]
    left = remaining(body, plan, 0.5)  # type: ignore[arg-type]
    assert left.hex() == "92a17896c0c0a16b01cb3fe0000000000000c0", "half a second is left, and no delay"


@pytest.mark.parametrize(
    ("lane", "number", "priority"), [("high", HIGH, 1), ("normal", NORMAL, None), ("low", LOW, -1)]
)
def test_lanes(lane: str, number: int, priority: int | None) -> None:
    plan = plan_of("k", lane, None, 0.0)
    assert plan is not None
    assert (plan.lane, plan.extra) == (number, ["k", priority, None, None])


def test_who_asks_for_nothing_has_no_plan() -> None:
    assert plan_of(None, "normal", None, 0.0) is None
    assert plan_of(None, "normal", None, 0) is None


@given(st.none() | st.floats(0, SECONDS), st.floats(0, SECONDS), st.none() | st.floats(0, SECONDS), st.binary())
def test_only_the_times_change_on_the_way(ttl: float | None, delay: float, left: float | None, data: bytes) -> None:
    plan = Plan(LOW, "k", ttl, delay)
    if ttl is None:
        left = None
    body = pack(data, ["id", ["a", "b"], *plan.extra])
    assert isinstance(body, bytes)
    expected = [data, ["id", ["a", "b"], "k", -1, left if ttl is not None or delay else None, None]]
    assert unpack(remaining(body, plan, left), 1, extended=True) == [expected]


def test_large_data_keeps_its_parts() -> None:
    plan = Plan(ttl=5.0)
    whole: Any = planned(pack(bytes(100_000), [None, None, *plan.extra]), plan)
    assert isinstance(whole, Packed)
    assert isinstance(whole.body, Extended)
    assert whole.body.plan == plan  # type: ignore[attr-defined]
    [[data, extra]] = unpack(remaining(whole.body, plan, 1.5), 1, whole.parts, extended=True)
    assert (data, extra[4]) == (bytes(100_000), 1.5)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), SECONDS + 1, "5", True, b"1"], ids=repr)
def test_what_is_no_time_is_refused(seconds: Any) -> None:
    with pytest.raises(Refused, match="ttl is seconds"):
        plan_of(None, "normal", seconds, 0.0)
    with pytest.raises(Refused, match="delay is seconds"):
        plan_of(None, "normal", None, seconds)


def test_the_bytes_end_with_ttl_and_delay() -> None:
    assert msgpack.packb(1.0)[0] == 0xCB, "what `remaining` relies on: nine bytes for seconds, one for none"
    assert len(msgpack.packb(1.0)) == 9
