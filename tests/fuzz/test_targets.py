"""The targets of the fuzzer, without one: what they begin with, and a little of what chance makes of it."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.targets import SAMPLES, TARGETS
from zq.wire.body import Body

TRIES = 300  # mutations a target; `make fuzz SECONDS=` does millions


def mutate(sample: bytes, chance: random.Random) -> bytes:
    changed = bytearray(sample)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(changed) + 1)
        changed[at : at + chance.randrange(4)] = chance.randbytes(chance.randrange(4))
    return bytes(changed)


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_accepts_or_refuses(name: str) -> None:
    chance = random.Random(name)
    TARGETS[name](b"")
    for sample in SAMPLES[name]:
        TARGETS[name](sample)
        for _ in range(TRIES):
            TARGETS[name](mutate(sample, chance))


def test_every_frame_of_the_mailbox_is_among_them() -> None:
    from tests.fuzz.targets import BODIES

    assert set(BODIES.values()) == set(Body.__subclasses__())
