"""A retained value survives its publisher where a spool keeps the topic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def publish(
    face: Face, name: str, *values: object, retain: bool = True, clear: bool = False, readers: int = 0
) -> bytes:
    """By a publisher of `config/a` that is gone then; so many read it besides the spool."""
    with face.unopened(name) as peer, peer.publisher("config/a", retain=retain) as publisher:
        publisher.wait_for_subscribers(readers + 1, timeout=PATIENCE)
        publisher.send_many(values)
        publisher.flush(timeout=PATIENCE)
        if clear:
            publisher.clear()
            publisher.flush(timeout=PATIENCE)
        return bytes(peer.id)


def values_of(subscriber: Any, count: int) -> list[object]:
    """The next so many, after which nothing comes."""
    values: list[object] = [subscriber.receive(timeout=PATIENCE).data for _ in range(count)]
    with pytest.raises(zq.Timeout):
        subscriber.receive(timeout=0.4)
    return values


def test_who_subscribes_after_its_publisher_has_gone_gets_the_last_value(face: Face, directory: Path) -> None:
    face.peer("keeper").spool(directory, topics=["config/**"])
    sender = publish(face, "publisher", 1, {"two": b"2" * 100_000}, "three")
    reader = face.peer("reader")
    subscriber = reader.subscriber("config/*")
    message = subscriber.receive(timeout=PATIENCE)
    assert (message.data, message.topic, message.sender) == ("three", "config/a", sender)
    assert message.id == f"{sender.hex()}-3"
    assert values_of(subscriber, 0) == []
    assert values_of(reader.subscriber("other/**"), 0) == []
    eventually(lambda: [row for row in reader.ledger().subscribed if row.delivered == 1])
    assert all(row.expected == row.delivered for row in reader.ledger().subscribed)


def test_it_survives_the_spool_as_well(face: Face, directory: Path) -> None:
    keeper = face.peer("keeper")
    spool = keeper.spool(directory, topics=["config/**"])
    publish(face, "publisher", 1, 2)
    spool.close()
    keeper.spool(directory, topics=["config/**"])
    assert values_of(face.peer("reader").subscriber("config/a"), 1) == [2]


def test_what_is_not_retained_or_was_cleared_is_not_told(face: Face, directory: Path) -> None:
    face.peer("keeper").spool(directory, topics=["config/**"])
    publish(face, "first", "plain", retain=False)
    assert values_of(face.peer("one").subscriber("config/a"), 0) == []
    publish(face, "second", "cleared", clear=True, readers=1)
    assert values_of(face.peer("two").subscriber("config/a"), 0) == []
    publish(face, "third", "set again", readers=2)
    assert values_of(face.peer("three").subscriber("config/a"), 1) == ["set again"]


def test_a_publisher_that_is_here_speaks_for_itself(face: Face, directory: Path) -> None:
    face.peer("keeper").spool(directory, topics=["config/**"])
    publish(face, "old", "old")
    publisher = face.peer("new").publisher("config/a", retain=True)
    publisher.send("new")
    publisher.flush(timeout=PATIENCE)
    subscriber = face.peer("reader").subscriber("config/a")
    assert values_of(subscriber, 1) == ["new"]
    publisher.send("newer")
    assert values_of(subscriber, 1) == ["newer"]
