"""Bound queues in a spool: what is published while a service is away waits there, whoever publishes it."""

from __future__ import annotations

from pathlib import Path

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually, take


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def depth_of(spool: object) -> int:
    (row,) = spool.queues()  # type: ignore[attr-defined]
    return int(row.depth)


def bound_by(spool: object) -> dict[str, list[str]]:
    """What the spool announces for services that are away, by queue."""
    engine = spool._engine  # type: ignore[attr-defined]
    return {str(queue): list(filters) for queue, _, filters in engine.call(lambda: list(engine.node.rebinding.binds()))}


def serve_once(face: Face, directory: Path) -> object:
    """A spool of `mailer`, and a service that has bound it to orders/**, has got one message, and has left."""
    spool = face.peer("keeper").spool(directory, queues=["mailer"])
    with face.unopened("service") as service:
        puller = service.puller("mailer", topics=["orders/**"])
        with face.unopened("shop") as shop, shop.publisher("orders/a") as publisher:
            publisher.wait_for_subscribers(timeout=PATIENCE)
            publisher.send("first")
            assert take(puller, 1) == ["first"]
        eventually(lambda: bound_by(spool) == {"mailer": ["orders/**"]})
    eventually(lambda: depth_of(spool) == 0)
    return spool


def test_what_a_publisher_sends_that_never_met_the_service_waits_for_it(face: Face, directory: Path) -> None:
    spool = serve_once(face, directory)
    with face.unopened("another-shop") as shop, shop.publisher("orders/b") as publisher:
        publisher.wait_for_subscribers(timeout=PATIENCE)
        publisher.send_many(range(100))
        publisher.flush(timeout=PATIENCE)
    assert depth_of(spool) == 100
    puller = face.peer("service-again").puller("mailer", topics=["orders/**"])
    message = puller.receive(timeout=PATIENCE)
    assert (message.data, message.topic, message.queue) == (0, "orders/b", "mailer")
    message.ack()
    assert take(puller, 99) == list(range(1, 100))


def test_the_binding_outlives_a_restart_of_the_spool(face: Face, directory: Path) -> None:
    spool = serve_once(face, directory)
    spool.close()  # type: ignore[attr-defined]
    spool = face.peer("another-keeper").spool(directory, queues=["mailer"])
    publisher = face.peer("shop").publisher("orders/b")
    publisher.wait_for_subscribers(timeout=PATIENCE)
    publisher.send("while everybody was away")
    publisher.flush(timeout=PATIENCE)
    assert depth_of(spool) == 1
    assert take(face.peer("service").puller("mailer"), 1) == ["while everybody was away"]


def test_a_service_that_unbinds_its_queue_unbinds_it_in_the_spool_as_well(face: Face, directory: Path) -> None:
    spool = face.peer("keeper").spool(directory, queues=["mailer"])
    publisher = face.peer("shop").publisher("orders/a")
    puller = face.peer("service").puller("mailer", topics=["orders/**"])
    publisher.wait_for_subscribers(timeout=PATIENCE)
    publisher.send("first")
    assert take(puller, 1) == ["first"]
    puller.unbind()
    eventually(lambda: bound_by(spool) == {})
    shop = face.peer("another-shop")
    other = shop.publisher("orders/b")
    with pytest.raises(zq.Timeout):
        other.wait_for_subscribers(timeout=0.3)
    other.send("unheard")
    other.flush(timeout=PATIENCE)
    assert depth_of(spool) == 0


def test_a_service_that_names_other_topics_binds_those_alone(face: Face, directory: Path) -> None:
    spool = serve_once(face, directory)
    with face.unopened("service") as service:
        service.puller("mailer", topics=["invoices/*"])
        publisher = face.peer("office").publisher("invoices/1")
        publisher.wait_for_subscribers(timeout=PATIENCE)
        eventually(lambda: bound_by(spool) == {"mailer": ["invoices/*"]})
    shop = face.peer("shop").publisher("orders/b")
    with pytest.raises(zq.Timeout):
        shop.wait_for_subscribers(timeout=0.3)
    publisher.send("kept")
    publisher.flush(timeout=PATIENCE)
    assert depth_of(spool) == 1
