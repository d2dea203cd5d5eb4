"""Shows whatever is published under `machines/**`, and who was found, when and by what."""

from __future__ import annotations

import queue

import zq
from examples.host_monitor.journal import Journal, write_counters
from examples.host_monitor.role import Role, from_launcher
from examples.host_monitor.screen import Screen, screen_for_this_terminal

REDRAW = 0.25  # s
# "hello": it had found us, and called, before we found it; our own directory scan and mDNS come a little later.
RUNGS = {"host": "the host directory", "mdns": "mDNS", "hello": "its call"}


class Acquaintances:
    """Who has been found so far, and by what: says what is new about them."""

    def __init__(self) -> None:
        self._known: dict[bytes, zq.PeerInfo] = {}

    def news(self, peers: list[zq.PeerInfo]) -> list[tuple[str, float]]:
        """Who is new, was found by another rung as well, or has left; each with how many seconds ago that was."""
        lines: list[tuple[str, float]] = []
        present = {peer.id: peer for peer in peers if peer.state in ("up", "suspect")}
        for peer in present.values():
            before = self._known.get(peer.id)
            new = [RUNGS.get(rung, rung) for rung in peer.found_by if before is None or rung not in before.found_by]
            if before is None:
                took = f"{peer.found_in * 1000:.0f} ms"
                lines.append((f"found {peer.name} (pid {peer.pid}) in {took} by {', '.join(new)}", peer.up_for))
            elif new:
                lines.append((f"found {peer.name} also by {', '.join(new)}", 0.0))
        lines += [(f"{peer.name} has left", 0.0) for id, peer in self._known.items() if id not in present]
        self._known = present
        return sorted(lines, key=lambda line: -line[1])


def main() -> None:
    notes: queue.SimpleQueue[str] = queue.SimpleQueue()
    role = from_launcher(notes.put)
    with (
        screen_for_this_terminal() as screen,
        Journal(role.directory / f"{role.name}.journal") as journal,
        zq.Peer(role.name) as peer,
        peer.subscriber("machines/**") as readings,
    ):
        try:
            show(role, peer, readings, journal, screen, notes)
        finally:
            count(role, peer)


def show(
    role: Role, peer: zq.Peer, readings: zq.Subscriber, journal: Journal, screen: Screen, notes: queue.SimpleQueue[str]
) -> None:
    """Shows readings until the launcher says stop and nothing is left to show."""
    acquaintances = Acquaintances()
    while True:
        ending = role.stop.is_set()  # looked at first: what arrived before it was set is received below
        while not notes.empty():
            screen.say(notes.get())
        for text, ago in acquaintances.news(peer.peers()) if not ending else ():
            screen.say(text, ago)
        try:
            for message in readings.receive_many(512, timeout=0.0 if ending else REDRAW):
                metric = str(message.topic).rpartition("/")[2]
                journal.add("received", f"{metric}:{message.data['number']}")
                screen.reading(str(message.topic), message.data["value"], message.data["unit"])
        except zq.Timeout:
            if ending:
                return
        screen.draw()


def count(role: Role, peer: zq.Peer) -> None:
    ledger = peer.ledger()
    write_counters(
        role.directory,
        role.name,
        {
            "delivered": sum(topic.delivered for topic in ledger.subscribed),
            "gap": sum(topic.gap for topic in ledger.subscribed),
            "balanced": ledger.balanced,
        },
    )


if __name__ == "__main__":
    main()
