"""Every test of the contract runs over both faces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.faces import PATIENCE, Face, LoopFace


@pytest.fixture(params=[Face, LoopFace], ids=["blocking", "asyncio"])
def face(request: pytest.FixtureRequest, clean_environment: None) -> Iterator[Face]:
    with request.param() as face:
        yield face


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves waits longer than a second for the answer of those it has found: they may be late."""
    for module in ("core.meeting", "handles.life"):
        monkeypatch.setattr(f"zq.{module}.ANSWER", PATIENCE)
