"""A job may take as long as it takes: a lease lasts as long as its worker is connected."""

from __future__ import annotations

from zq.core.inbox import Inbox
from zq.testing import SimulatedNetwork
from zq.wire.batch import Batch
from zq.wire.data import pack

HOURS = 3_600.0  # s


def test_a_job_of_six_hours_is_not_redelivered_while_its_worker_is_connected() -> None:
    network = SimulatedNetwork(seed=1)
    sender, worker, other = network.peer("sender"), network.peer("worker"), network.peer("other")
    network.introduce()
    assert network.run(5.0, until=lambda: all(peer.node.has_up(2) for peer in (sender, worker, other)))
    busy, idle = Inbox(lambda: None), Inbox(lambda: None)
    worker.node.pull("jobs", busy, prefetch=1, prefetch_bytes=1 << 20)
    outbox = sender.node.push("jobs", window=10, window_bytes=1 << 20, now=sender.clock())
    outbox.outgoing.items.append(pack("six hours of work"))
    worker.touch()
    sender.touch(outbox)
    assert network.run(5.0, until=lambda: bool(busy.arrived))

    other.node.pull("jobs", idle, prefetch=1, prefetch_bytes=1 << 20)  # free, and would take it at once
    other.touch()
    network.run(6 * HOURS)
    assert (outbox.in_flight, outbox.redelivered) == (1, 0)
    assert not idle.arrived

    network.kill(worker)
    assert network.run(6.0, until=lambda: bool(idle.arrived))
    (again,) = idle.arrived
    assert isinstance(again, Batch)
    assert again.redelivered
    assert outbox.redelivered == 1
