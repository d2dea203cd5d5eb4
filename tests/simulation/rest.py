"""Looks into nodes at rest: nothing that was needed on the way may be left over."""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulation.oracle import check
from zq.core.binding import REVIVED
from zq.core.credit import PREFETCH_MOST
from zq.core.puller import Puller
from zq.core.receiving import ReceivingLink
from zq.testing import SimulatedPeer
from zq.wire.frames import Entry
from zq.wire.names import Filter


def _incoming(peers: Sequence[SimulatedPeer]) -> list[tuple[ReceivingLink, Puller]]:
    return [(link, puller) for peer in peers for puller in peer.node.pulling for link in puller.links.values()]


def endless_timers(peer: SimulatedPeer) -> set[object]:
    """Of gossip, and of dialling on those who fell silent."""
    pursued = [remote for remote in peer.node.meeting.roster if remote.pursued]
    dials = {(dial, "hello") for remote in pursued for dial in remote.dials.values()}
    return {"gossip again", *((remote, "found") for remote in pursued), *dials}


def check_rest(peers: Sequence[SimulatedPeer]) -> None:
    """`peers` are all that are running; they have met, and everything sent is done."""
    pullers = [(puller.queue, puller.id) for peer in peers for puller in peer.node.pulling]
    ids = {peer.id for peer in peers}
    for peer in peers:
        node, name = peer.node, peer.name
        endless = endless_timers(peer)
        left_over = [
            key  # what nobody binds any more takes a minute
            for key in node.timers._set
            if key not in endless and not (type(key) is tuple and (type(key[1]) is Filter or key[1] == REVIVED))
        ]
        check(not left_over, f"{name} has timers at rest: {left_over[:5]}")
        for outbox in node.pushing:
            row = outbox.row()
            kept = row.waiting if outbox.dead else 0  # until somebody pulls or purges them
            check((row.waiting, row.in_flight) == (kept, 0), f"{name} holds messages at rest: {row}")
            check(
                row.taken == kept + row.acked + row.expired + sum(row.dropped.values()), f"{name} has lost count: {row}"
            )
            check(kept or (outbox.held_bytes == 0 and len(outbox.done) <= 1), f"{name}: {outbox}")
            counts = outbox.delayed, outbox.keyed, outbox.mortal, outbox.ready - kept, len(outbox.keys)
            check(not any(counts), f"{name} has counted wrong: {counts}")
            check(kept or not list(outbox.pieces()), f"{name} has something left: {outbox}")
            there = {link.puller for link in node.pushing.pullers(outbox.queue)}
            wanted = {id for queue, id in pullers if queue == outbox.queue}
            check(there == wanted, f"{name} has {len(there)} links to the {len(wanted)} pullers of {outbox.queue}")
            lanes = 1 + len(outbox.lanes)
            check(len(node.pushing.links(outbox.queue)) == lanes * len(wanted), f"{name} has not {lanes} lanes to each")
            for link in node.pushing.links(outbox.queue):
                check(not link.flights and not link.reserved and len(link.settled) <= 1, f"{name}: {link}")
                told = [other.sent + other.returned for other, _ in _incoming(peers) if other.id == link.id]
                check(told == [link.next - 1 + link.returned], f"{name} has told {told} of its credit: {link}")
        incoming = _incoming([peer])
        pushers = {(other.id, outbox.queue) for other in peers for outbox in other.node.pushing}
        for link, puller in incoming:
            check((link.peer, puller.queue) in pushers and not link.orphan, f"{name} has a link that is over: {link}")
            left = f"{len(link.held)} held, {link.settled_count} of {link.expected - 1} settled"
            check(not link.held and link.all_settled, f"{name} has something left: {left}")
            check(len(link.settled) <= 1, f"{name}: {link}")
        check(len(incoming) == len(node.pulling._links), f"{name} knows links of no puller")
        for puller in node.pulling:
            used = sum(link.in_use for link in puller.links.values())
            most = puller.prefetch.given or PREFETCH_MOST  # one that adapts may have shrunk since it was lent
            check(used <= most, f"{name}: {used} of {most} lent at rest")
            check(not puller.closing, f"{name} has a puller that is closing still")
            check(not puller.hung, f"{name} has a puller that gets no credit although its program asks for more")
        for publisher, reception in node.receptions._receptions.items():
            check(publisher in ids, f"{name} receives from one who is gone")
            check(not (reception.held_bytes or reception.holes or reception.asked), f"{name}: {reception}")
            check(not any(topic.held for topic in reception.topics.values()), f"{name} holds batches")
            check(node.receptions.is_fenced(publisher), f"{name} is not fenced")
        for other in peers:
            for published in other.node.topics:
                _check_read(peer, other.id, published.name, published.head)
        for topic in node.topics:
            check(not topic.outgoing.items and set(topic.followers) <= ids, f"{name}: {topic.name}")
        check(set(node.topics._entries) <= ids and set(node.topics._fences) <= ids, f"{name} keeps fences of the gone")
        check(
            not node.connections.loop and len(node.connections.feeds) == len(ids) - 1,
            f"{name}: {len(node.connections.feeds)} feeds",
        )
        check(set(node.pushing._pullers) <= ids, f"{name} knows pullers of the gone")


def untold(peers: Sequence[SimulatedPeer]) -> str:
    """Whose counts are not in everybody's listings as they are. `peers` are all that are running, and have met."""
    for peer in peers:
        announcement, told = peer.node.announcement, _rows(peer.node.meeting.entries._entry)
        counts = announcement._counts(peer.clock())
        if announcement._told != counts:
            return f"{peer.name} has told of {announcement._told} and has {counts}"
        for other in peers:
            remote = other.node.meeting.roster.get(peer.id)
            if other is not peer and (remote is None or _rows(remote.entry) != told):
                return f"{other.name} does not have what {peer.name} has told"
    return ""


def _rows(entry: Entry | None) -> dict[str, object]:
    """It is told as another version to who has forgotten it, and to nobody else."""
    return {} if entry is None else vars(entry) | {"version": 0}


def _check_read(peer: SimulatedPeer, publisher: bytes, topic: str, head: int) -> None:
    """Every subscription has everything, whatever it did with it."""
    for subscription in peer.node.receptions:
        cursor = subscription.cursors.get((publisher, topic))
        if cursor is not None:
            check(
                cursor.next == head + 1 and not cursor.behind, f"{peer.name} is at {cursor.next} of {head} of {topic}"
            )
