"""The callers' side of an outbox on disk: which tickets are safe, and what goes to the disk, in any order of events."""

from __future__ import annotations

import random

import msgpack
import pytest

from zq.core.intake import Intake
from zq.core.topics import Origin
from zq.wire.stored import Stamp, Stored

NOW = Stamp(1e9, b"the boot", 1.0)


def numbers_in(stored: Stored) -> list[int]:
    return [msgpack.unpackb(item) for item in stored.items]


@pytest.mark.parametrize("seed", range(200))
def test_a_ticket_is_safe_when_its_message_is_stored_and_never_before(seed: int) -> None:
    draw = random.Random(seed)
    intake = Intake("jobs", 5, Origin(b"o" * 16))
    given: list[int] = []  # the message of each ticket
    stored: list[int] = []
    at_disk: list[Stored] = []
    unwanted: set[int] = set()  # withdrawn while the disk had it
    withdrawn: set[int] = set()

    def is_safe_only_what_is_stored() -> None:
        for message in given[: intake.safe]:
            assert message in stored or message in withdrawn or message in unwanted, message

    for _ in range(60):
        match draw.randrange(6):
            case 0 | 1:
                count = draw.randrange(1, 6)
                fresh = list(range(len(given), len(given) + count))
                given += fresh
                intake.outgoing.items += [msgpack.packb(number) for number in fresh]
                intake.given += count
            case 2:
                batches = intake.next(NOW)
                assert not (batches and at_disk), "one group at a time"
                at_disk += batches
            case 3 if at_disk:
                batch = at_disk.pop(0)
                gone = {numbers_in(batch)[place] for place in intake.on_stored()}
                assert gone <= unwanted
                unwanted -= gone
                withdrawn |= gone
                stored += [number for number in numbers_in(batch) if number not in gone]
            case 4 if at_disk:
                for _ in range(len(at_disk)):
                    intake.on_failed()
                withdrawn |= unwanted
                unwanted.clear()
                at_disk.clear()
            case 5 if given:
                first = draw.randrange(1, len(given) + 1)
                last = min(first + draw.randrange(4), len(given))
                before = intake.safe
                safe = intake.withdraw(first, last, NOW)
                assert safe == max(min(last, before) - first + 1, 0)
                on_disk = {number for batch in at_disk for number in numbers_in(batch)}
                for message in given[first + safe - 1 : last]:
                    if message not in stored and message not in withdrawn:
                        (unwanted if message in on_disk else withdrawn).add(message)
            case _:
                pass
        is_safe_only_what_is_stored()
    while at_disk or intake.safe < len(given):
        if not at_disk:
            at_disk += intake.next(NOW)
        batch = at_disk.pop(0)
        gone = {numbers_in(batch)[place] for place in intake.on_stored()}
        stored += [number for number in numbers_in(batch) if number not in gone]
        withdrawn |= gone
        unwanted -= gone
        is_safe_only_what_is_stored()
    assert unwanted == set(), "what its sender has withdrawn is not delivered"
    assert stored == [number for number in range(len(given)) if number not in withdrawn]


def test_what_failed_for_good_is_never_safe() -> None:
    intake = Intake("jobs", 5, Origin(b"o" * 16))
    intake.outgoing.items += [b"\x01", b"\x02"]
    intake.given = 2
    (batch,) = intake.next(NOW)
    assert len(batch.items) == 2
    intake.fail("it is broken")
    assert intake.on_stored() == []
    intake.on_failed()
    assert (intake.safe, intake.problem, intake.outgoing.limit) == (0, "it is broken", 0)
    assert intake.next(NOW) == []
    intake.close()
    assert (intake.closed, intake.outgoing.limit) == (True, -1)


def test_a_full_one_gives_the_disk_nothing_until_there_is_room() -> None:
    intake = Intake("jobs", 5, Origin(b"o" * 16))
    intake.set_full("the disk is full")
    assert intake.outgoing.limit == 0
    intake.outgoing.items.append(b"\x01")
    intake.given = 1
    assert intake.next(NOW) == []
    intake.set_full("")
    assert intake.outgoing.limit > 0
    assert [numbers_in(stored) for stored in intake.next(NOW)] == [[1]]


def test_why_it_was_full_is_known_until_something_is_stored() -> None:
    """A disk that seems to have room again refuses again, and whoever gives up in between is told why."""
    intake = Intake("jobs", 5, Origin(b"o" * 16))
    intake.outgoing.items.append(b"\x01")
    intake.given = 1
    assert len(intake.next(NOW)) == 1
    intake.on_failed()
    intake.set_full("the disk is full")
    intake.set_full("")
    assert (intake.full, intake.lacking) == ("", "the disk is full")
    assert len(intake.next(NOW)) == 1
    assert intake.lacking == "the disk is full"
    intake.on_stored()
    assert (intake.safe, intake.lacking) == (1, "")
    intake.set_full("it is full again, and nobody waits")
    intake.set_full("")
    assert intake.lacking == ""
