"""Addresses without a name: who lives there is met, and met again when he or his successor comes."""

from __future__ import annotations

from zq.core.seeds import RETRY_MOST
from zq.testing import SimulatedNetwork, SimulatedPeer


class Names:
    """What names stand for: by default the peer of that name."""

    def __init__(self, peer: SimulatedPeer) -> None:
        self.asked: list[str] = []
        self.unknown: set[str] = set()
        self._peer = peer
        peer.node.seeds.resolve = self.resolve

    def resolve(self, name: str) -> None:
        self.asked.append(name)
        endpoints = [] if name in self.unknown else [f"tcp://{name}/mailbox"]
        peer = self._peer
        peer.network.after(0.001, lambda: peer.deliver(lambda: peer.node.seeds.resolved(name, endpoints, peer.clock())))


def seeded(network: SimulatedNetwork, name: str, *seeds: str) -> SimulatedPeer:
    peer = network.peer(name)
    Names(peer)
    peer.node.discovered = True
    peer.node.seeds.add(seeds, peer.clock())
    peer.touch()
    return peer


def up(peer: SimulatedPeer) -> set[bytes]:
    return {remote.id for remote in peer.node.meeting.roster.up()}


def all_met(*peers: SimulatedPeer) -> bool:
    return all(up(peer) == {other.id for other in peers} - {peer.id} for peer in peers)


def test_who_lives_at_a_seed_is_met_and_shown_as_found_there() -> None:
    network = SimulatedNetwork()
    seed = network.peer("seed")
    newcomer = seeded(network, "newcomer", "seed")
    assert network.run(1.0, lambda: all_met(seed, newcomer))
    remote = newcomer.node.meeting.roster.get(seed.id)
    assert remote is not None
    assert "seed" in remote.found_by
    assert not newcomer.node.seeds._tries, "the connection to anybody is given up"


def test_gossip_does_the_rest() -> None:
    network = SimulatedNetwork()
    others = [seeded(network, f"p{number}", "seed") for number in range(5)]
    seed = network.peer("seed")
    assert network.run(2.0, lambda: all_met(seed, *others))
    rungs = {rung for peer in others for remote in peer.node.meeting.roster for rung in remote.found_by}
    assert rungs <= {"seed", "hello", "gossip"}
    assert "gossip" in rungs


def test_a_newcomer_is_settled_only_when_it_has_met_those_that_its_seed_knows() -> None:
    network = SimulatedNetwork()
    seed, *others = standing = [network.peer(name) for name in ("seed", "p1", "p2", "p3")]
    network.introduce()
    assert network.run(1.0, lambda: all_met(*standing))
    newcomer = seeded(network, "newcomer", "seed")
    assert network.run(2.0, newcomer.node.is_settled)
    assert up(newcomer) == {seed.id, *(other.id for other in others)}


def test_a_seed_that_comes_late_is_met_and_nobody_waits_for_it() -> None:
    network = SimulatedNetwork()
    early = seeded(network, "early", "seed")
    assert network.run(2.0, early.node.is_settled)
    network.run(60.0)
    seed = network.peer("seed")
    assert network.run(RETRY_MOST + 2.0, lambda: all_met(early, seed))


def test_whoever_comes_to_the_address_of_a_seed_is_met() -> None:
    network = SimulatedNetwork()
    seed = network.peer("seed")
    peer = seeded(network, "peer", "seed")
    assert network.run(1.0, lambda: all_met(peer, seed))
    network.kill(seed)
    assert network.run(3.0, lambda: not up(peer))
    network.run(30.0)
    successor = network.peer("seed")
    assert network.run(RETRY_MOST + 2.0, lambda: all_met(peer, successor))


def test_a_name_without_an_address_is_asked_for_again_and_others_go_on() -> None:
    network = SimulatedNetwork()
    seed = network.peer("seed")
    peer = network.peer("peer")
    names = Names(peer)
    names.unknown.add("nobody")
    peer.node.discovered = True
    peer.node.seeds.add(["nobody", "seed"], peer.clock())
    assert network.run(1.0, lambda: all_met(peer, seed))
    assert network.run(1.0, peer.node.is_settled)
    network.run(60.0)
    assert 10 < names.asked.count("nobody") < 30
    assert names.asked.count("seed") == 1
    names.unknown.clear()
    nobody = network.peer("nobody")
    assert network.run(RETRY_MOST + 2.0, lambda: nobody.id in up(peer))


def test_every_host_may_have_the_same_list_itself_included() -> None:
    network = SimulatedNetwork()
    names = ["p0", "p1", "p2"]
    peers = [seeded(network, name, *names) for name in names]
    assert network.run(2.0, lambda: all_met(*peers))
    network.run(30.0)
    assert all_met(*peers)
    assert not any(peer.node.seeds._tries for peer in peers), "its own address is left alone"


def test_one_that_was_lost_in_a_partition_is_dialled_again() -> None:
    network = SimulatedNetwork()
    seed = network.peer("seed")
    one, other = seeded(network, "one", "seed"), seeded(network, "other", "seed")
    assert network.run(2.0, lambda: all_met(seed, one, other))
    network.sever(seed, one)
    network.sever(other, one)
    assert network.run(8.0, lambda: not up(one))
    network.run(30.0)
    network.heal(seed, one)
    network.heal(other, one)
    assert network.run(12.0, lambda: all_met(seed, one, other))
