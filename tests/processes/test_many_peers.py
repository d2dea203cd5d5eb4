"""Twenty processes meet each other, and an idle realm is quiet."""

from __future__ import annotations

import re
import subprocess
import time
from statistics import median
from typing import Any

from tests.processes.conftest import Options, Start
from tests.processes.resets import KINDS, port_of
from tests.waiting import eventually
from zq.core.gossip import REPEAT

PEERS = 20
MEETING = 10.0  # s until everybody has met everybody; on two processors that are not busy it is 1
QUIET = 3.0  # s in which an idle realm is watched
ROW = 64  # bytes of one peer among those of whom another is told, with its share of the frame


def test_twenty_processes_meet_and_notice_who_leaves(start: Start, tcp: Options) -> None:
    members = [start("member", tcp, PEERS - 1) for _ in range(PEERS)]
    ids = [member.hear() for member in members]
    there = time.monotonic()
    met = [member.hear() for member in members]
    assert max(met) - there < MEETING
    members[0].tell()
    assert [member.hear() for member in members[1:]] == [ids[0]] * (PEERS - 1)
    assert members[0].wait() == 0


def sent_bytes(ports: dict[int, str]) -> dict[str, int]:
    """Bytes sent so far on connections to and from these ports, by kind."""
    listed = subprocess.run(
        ["ss", "--tcp", "--numeric", "--info", "--oneline", "--no-header", "state", "established"],
        capture_output=True,
        text=True,
        check=True,
    )
    sent = dict.fromkeys(KINDS, 0)
    for line in listed.stdout.splitlines():
        ends = [int(port) for port in re.findall(r"127\.0\.0\.1\]?:(\d+)\s", line)]
        kinds = {ports[port] for port in ends if port in ports}
        count = re.search(r"bytes_sent:(\d+)", line)
        if kinds and count:
            sent[kinds.pop()] += int(count[1])
    return sent


def test_an_idle_peer_takes_no_time_and_says_nothing(start: Start, tcp: Options) -> None:
    others = 5
    peers = [start("idle", tcp) for _ in range(others + 1)]
    places = [peer.hear()[1] for peer in peers]
    ports = {port_of(place[column]): kind for place in places for column, kind in enumerate(KINDS)}

    def watch(seconds: float) -> list[Any]:
        for peer in peers:
            peer.tell(seconds)
        return [peer.hear() for peer in peers]

    # They may still be meeting, or hear a second time of whom they have met.
    eventually(lambda: all(met == others and events == [] for _, met, events in watch(1.5)), 40.0)
    before, began = sent_bytes(ports), time.monotonic()
    quiet = watch(QUIET)
    sent = {kind: count - before[kind] for kind, count in sent_bytes(ports).items()}
    took = time.monotonic() - began
    assert [(met, events) for _, met, events in quiet] == [(others, [])] * len(peers)
    assert median(seconds for seconds, *_ in quiet) < QUIET / 100  # 1 % of a core
    assert sent["feed"] == sent["work"] == 0
    # A heartbeat is a ping of 9 bytes and its answer of 7, every second on every mailbox connection.
    # Once in 5 to 10 s each of them tells one of the others whom it knows.
    heartbeats = len(peers) * others * 16 * (took + 2)
    gossip = len(peers) * (1 + took // (REPEAT / 2)) * ROW * len(peers)
    assert 0 < sent["mailbox"] <= heartbeats + gossip
