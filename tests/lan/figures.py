"""How soon many peers have met and notice what happens, measured: python -m tests.lan.figures [HOSTS [PEERS]].

Prints a table and fails when a figure is beyond its limit. The limits that count are for a machine with nothing else to
do; `SLACK` times as much is allowed, since the peers of all hosts share this one's processors.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.lan.hosts import Neighbour, exchange
from tests.lan.lan import Lan, why_not
from tests.processes.process import Process
from tests.security.rogues import write_key

SLACK = 2.0
NEWCOMER_SLACK = 4.0  # for what takes a fraction of a second: somebody else may need the processor for as long
NEWCOMERS = 5  # one after another, of whom the median is taken; of what a key adds the fastest
LAUNCHED = 3  # of these with an interpreter of their own
JOINED_BY = 6  # peers that are there before them
OPTIONS = {"realm": "lan", "insecure": True, "discovery": ["mdns"]}
MANY = 300.0  # s for what many processes do on two processors
PARTITION = 30.0  # s
ALL_PAIRS = 0.0015  # s on two processors for each of the pairs of N peers, N squared: 60 s for 200
QUIET = 10.0  # s in which an idle realm is watched

Said = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    what: str
    value: float
    limit: float  # promised
    unit: str = "s"
    slack: float = SLACK  # times the limit that is allowed

    @property
    def holds(self) -> bool:
        return self.value <= self.limit * self.slack

    def __str__(self) -> str:
        return f"{self.what:<72} {self.value:8.3f} {self.limit:8.2f} {self.unit}{'' if self.holds else '  BEYOND'}"


class Crowd:
    """Many peers, as `tests.lan.crowd` runs them, and what they have said."""

    def __init__(self, lan: Lan, options: dict[str, Any] = OPTIONS) -> None:
        self._lan = lan
        self._options = options
        self._process = Process("crowd", module="tests.lan.roles")
        self._process.hear(MANY)
        self.said: list[Said] = []

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.tell(None)
            self._process.wait(MANY)
        finally:
            self._process.end()

    def start(self, places: list[tuple[int, int]], *others: int) -> None:
        """`places`: number of a peer and its host. It says when it has met so many, and when so many more."""
        rows = [[number, self._lan.namespace(host)] for number, host in places]
        self._process.tell({"start": rows, "options": self._options, "others": list(others)})

    def kill(self, number: int) -> float:
        self._process.tell({"kill": number})
        at: float = self.wait(lambda said: said["what"] == "killed" and said["number"] == number, 1)[0]["at"]
        return at

    def wait(self, wanted: Callable[[Said], object], count: int) -> list[Said]:
        """The first `count` that fit, of all that was and is said."""
        found = [said for said in self.said if wanted(said)]
        while len(found) < count:
            self.said.append(self._process.hear(MANY))
            if wanted(self.said[-1]):
                found.append(self.said[-1])
        return found[:count]

    def met(self, others: int, numbers: Iterable[int]) -> float:
        """When the last of these peers had met so many."""
        wanted = set(numbers)
        said = self.wait(
            lambda said: said["what"] == "met" and said["others"] == others and said["number"] in wanted, len(wanted)
        )
        return max(each["at"] for each in said)

    def of(self, what: str, *numbers: int) -> list[Said]:
        """What these peers have said, once all of them have."""
        return self.wait(lambda said: said["what"] == what and said["number"] in numbers, len(numbers))


def meeting(hosts: int, quiet: float = QUIET) -> list[Figure]:
    """A realm of `hosts`, one peer each, started at once but for one; newcomers, one at a time, and killed; quiet."""
    numbers = list(range(1, hosts))
    newcomer = hosts
    with Lan(hosts) as lan, Crowd(lan) as crowd:
        crowd.start([(number, number) for number in numbers], hosts - 2)
        opened = max(said["at"] for said in crowd.of("open", *numbers))
        met = crowd.met(hosts - 2, numbers)
        joined: list[float] = []
        gone: list[float] = []
        for number in range(newcomer, newcomer + NEWCOMERS):  # each on the same host, when the one before is gone
            if joined:
                gone.append(gone_for_all(crowd, number - 1, hosts - 1))
            crowd.start([(number, newcomer)], hosts - 1)
            joined.append(crowd.met(hosts - 1, [number]) - crowd.of("open", number)[0]["began"])
        pairs = hosts * (hosts - 1) / 2
        quiet_from, packets = settle_down(lan)
        time.sleep(quiet)  # a measurement: what is counted is what happens in that time
        rate = (lan.packets() - packets) / (time.monotonic() - quiet_from) / pairs
        gone.append(gone_for_all(crowd, newcomer + NEWCOMERS - 1, hosts - 1))
        from_start = [joins_in(lan, newcomer, hosts - 1) for _ in range(LAUNCHED)]
    return [
        Figure(
            what=f"{hosts - 1} hosts start at once: all have met after the last was open", value=met - opened, limit=5.0
        ),
        Figure(
            what=f"a newcomer whose interpreter is up has the rosters of {hosts - 1} hosts, median",
            value=median(joined),
            limit=0.3 if hosts <= 31 else 2.0,
            slack=NEWCOMER_SLACK,
        ),
        Figure(
            what=f"a newcomer has met {hosts - 1} hosts, its interpreter's start included, median",
            value=median(from_start),
            limit=0.5 if hosts <= 31 else 2.0,
            slack=NEWCOMER_SLACK,
        ),
        Figure(what="a killed process is gone for all, median of several", value=median(gone), limit=0.3),
        Figure(what="a killed process is gone for all, the slowest of several", value=max(gone), limit=0.3, slack=8.0),
        Figure(what="idle packets a pair of peers", value=rate, limit=15.0, unit="/s"),
    ]


def gone_for_all(crowd: Crowd, number: int, others: int) -> float:
    """Seconds from the death of a peer until the last of so many others has seen it leave."""
    (came,) = crowd.of("open", number)
    killed = crowd.kill(number)
    left = crowd.wait(lambda said: said["what"] == "left" and said["peer"] == came["peer"], others)
    return max(said["at"] for said in left) - killed


def joins_in(lan: Lan, host: int, others: int) -> float:
    """Seconds from the start of an interpreter on that host until its peer has met so many."""
    launched = time.monotonic()
    process = Neighbour(lan, host, OPTIONS)
    process.wait(lambda _: process.count("joined") == others, "acquaintance with all")
    took: float = process.said[-1]["at"] - launched
    process.end()
    return took


def settle_down(lan: Lan) -> tuple[float, int]:
    """When the first announcements are over, and the packets until then."""
    time.sleep(3.0)  # a measurement: packets of the announcements are not those of idle peers
    return time.monotonic(), lan.packets()


def one_host(peers: int) -> list[Figure]:
    """Many peers on one host, a process each, all started at once, which meet in its directory."""
    with Lan(1) as lan, Crowd(lan, {"realm": "lan", "discovery": ["host"]}) as crowd:
        begun = time.monotonic()
        crowd.start([(number, 1) for number in range(1, peers + 1)], peers - 1)
        met = crowd.met(peers - 1, range(1, peers + 1))
    return [
        Figure(
            what=f"{peers} peers on one host have met, their start included",
            value=met - begun,
            limit=max(ALL_PAIRS * peers**2, 5.0),
            slack=NEWCOMER_SLACK,
        )
    ]


def key() -> list[Figure]:
    """What a realm key adds to joining: newcomers with one and without, the fastest of some each."""
    fastest: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        file = write_key(Path(directory) / "realm.key")
        for options in (OPTIONS, {"realm": "lan", "key_file": str(file), "discovery": ["mdns"]}):
            took: list[float] = []
            with Lan(JOINED_BY + NEWCOMERS) as lan, Crowd(lan, options) as crowd:
                first = range(1, JOINED_BY + 1)
                crowd.start([(number, number) for number in first], JOINED_BY - 1)
                crowd.met(JOINED_BY - 1, first)
                for number in range(JOINED_BY + 1, JOINED_BY + NEWCOMERS + 1):
                    crowd.start([(number, number)], number - 1)
                    met = crowd.met(number - 1, [number])
                    took.append(met - crowd.of("open", number)[0]["began"])
            fastest.append(min(took))
    without, with_key = fastest
    return [Figure(what="a realm key adds to joining", value=with_key - without, limit=0.05)]


def partition() -> list[Figure]:
    """Half of the hosts do not see the other half for half a minute; somebody comes meanwhile on either side."""
    with Lan(4) as lan:
        first, second = (Neighbour(lan, host, OPTIONS) for host in (1, 2))
        exchange([first, second], "before")
        lan.partition([1, 3], [2, 4])
        third, fourth = (Neighbour(lan, host, OPTIONS) for host in (3, 4))
        first.sees(third)
        second.sees(fourth)
        time.sleep(PARTITION)  # what is measured is what happens after so long a partition
        healed = time.monotonic()
        lan.heal()
        exchange([first, second], "healed")
        flowed = time.monotonic()
        known = [one.sees(other, after=healed)["at"] for one, other in ((third, fourth), (fourth, third))]
        back = [one.sees(other, after=healed)["at"] for one, other in ((first, second), (second, first))]
        everyone = [first, second, third, fourth]
        exchange(everyone, "after")
        for each in everyone:
            each.end()
    return [
        Figure(what="after a partition of 30 s: old acquaintances are up again", value=max(back) - healed, limit=2.0),
        Figure(what="after it, messages flow between them", value=flowed - healed, limit=2.0),
        Figure(what="after it, newcomers of the other side are known", value=max(known) - healed, limit=12.0),
    ]


def faults() -> list[Figure]:
    """A host vanishes, another one changes its address; all meet although every cable loses a fifth."""
    with Lan(4) as lan:
        *others, victim = everyone = [Neighbour(lan, host, OPTIONS) for host in lan.hosts]
        exchange(everyone, "before")
        lan.pull_out(victim.host)
        vanished = time.monotonic()
        left = max(other.sees(victim, "left")["at"] for other in others) - vanished
        lan.take_interface(1)
        lan.give_interface(1, address="10.77.0.101")
        changed = time.monotonic()
        exchange(others, "after")
        followed = time.monotonic() - changed
    with Lan(4) as lan:
        for host in lan.hosts:
            lan.lose(host, 20)
        everyone = [Neighbour(lan, host, OPTIONS) for host in lan.hosts]
        opened = time.monotonic()
        up = max(one.sees(other)["at"] for one in everyone for other in everyone if one is not other) - opened
        for each in everyone:
            each.end()
    return [
        Figure(what="a host that vanished is gone for all", value=left, limit=5.0),
        Figure(what="messages flow at a changed address", value=followed, limit=5.0),
        Figure(what="20 % loss on every cable: all of 4 hosts have met after the last was open", value=up, limit=15.0),
    ]


def main(hosts: int = 60, peers: int = 200) -> int:
    if missing := why_not():
        print(missing, file=sys.stderr)
        return 1
    print(f"{'':<72} {'measured':>8} {'limit':>8}")
    figures: list[Figure] = []
    for measure in (lambda: meeting(31), lambda: meeting(hosts), lambda: one_host(peers), key, faults, partition):
        for figure in measure():
            print(figure, flush=True)
            figures.append(figure)
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
