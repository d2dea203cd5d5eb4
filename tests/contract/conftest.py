"""Every test of the contract runs over both faces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.faces import Face, LoopFace


@pytest.fixture(params=[Face, LoopFace], ids=["blocking", "asyncio"])
def face(request: pytest.FixtureRequest, clean_environment: None) -> Iterator[Face]:
    with request.param() as face:
        yield face
