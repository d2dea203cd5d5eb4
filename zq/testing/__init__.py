"""Test your programs against a network that loses, delays and repeats, and processes that die, without sleeping.

    from zq.testing import Network

    with Network(seed=7) as network:
        producer, worker = network.peer("producer"), network.peer("worker")
        worker.start(worker.puller("jobs").run, handler)    # a thread of that process
        producer.push("jobs", 1)
        network.after(0.5, worker.kill)
        network.run(10.0)                                   # ten seconds pass at once

The peers are `zq.Peer`s with the real state machines under them; what is simulated is the network, the clock, the
threads and their luck, all of it decided by `seed`. docs/testing.md has three complete examples; the fixture
`zq_network` is in `zq.testing.plugin`.

Below that are the parts that the tests of zq itself use: `SimulatedNetwork` carries the frames of bare nodes
(`zq.core.node.Node`) as ZeroMQ over TCP would: frames of one connection keep their order; a connection that ends takes
with it what was under way, but for a first part that the receiver's kernel had already; what is left of an old
connection may arrive between frames of the new one. Mailbox connections notice silence by heartbeats, mailbox and
work diallers are told `broken`, feeds reconnect by themselves and subscribe again. A live machine without listener
refuses; one that cannot be reached does neither that nor accept.
"""

from __future__ import annotations

from zq.testing.faults import SimulatedNetwork
from zq.testing.network import Weather
from zq.testing.peer import Connection, SimulatedPeer
from zq.testing.process import Peer
from zq.testing.realm import Network
from zq.testing.tasks import Killed

__all__ = ["Connection", "Killed", "Network", "Peer", "SimulatedNetwork", "SimulatedPeer", "Weather"]
