"""A network, a clock and chance in memory, so that peers can be tested in milliseconds and every run can be repeated.

The simulated network carries the frames of real nodes (`zq.core.node.Node`) as ZeroMQ over TCP would: frames of one
connection keep their order; a connection that ends takes with it what was under way, but for a first part that the
receiver's kernel had already; what is left of an old connection may arrive between frames of the new one. Mailbox
connections notice silence by heartbeats, mailbox and work diallers are told `broken`, feeds reconnect by themselves
and subscribe again. A live machine without listener refuses; one that cannot be reached does neither that nor accept.

    network = SimulatedNetwork(seed=7)
    sender, receiver = network.peer("sender"), network.peer("receiver")
    network.introduce()
    network.run(2.0, until=lambda: sender.node.has_up(1))

Nothing waits and nothing is random but by `seed`: the same calls give the same run. Not thread-safe.
"""

from __future__ import annotations

from zq.testing.faults import SimulatedNetwork
from zq.testing.network import Weather
from zq.testing.peer import Connection, SimulatedPeer

__all__ = ["Connection", "SimulatedNetwork", "SimulatedPeer", "Weather"]
