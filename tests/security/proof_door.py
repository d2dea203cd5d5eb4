"""Strangers of every kind at the doors of a peer that goes on talking: python -m tests.security.proof_door 10000

Two friends in processes of their own, one of whom sends the other 1,000 messages a second. Strangers come to the doors
of the first, from a process with a processor of its own where there are several, as if they had a machine. What a
message takes then is put beside what it takes in two kinds of peace, in turns with it, since other work comes and goes:

    quiet    no strangers at all
    beside   the same strangers, as busy, at the doors of a bystander, who is on their processor: what they take of the
             machine that all share, they take then as well, as they would not if they had one of their own

Of most kinds as many come as can in SECONDS; of those with random keys, as many as it is told, from an address where a
friend is as well and from one where none is. Those with bombs have the key: what is measured is what they still cost
when they are cut off and wait. At the end it says how long newcomers who have the key wait beside those
who come most.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import zmq

from tests.processes.process import Process
from tests.security.rogues import Rogues, percentile, write_key
from tests.security.strangers import KINDS
from tests.waiting import eventually
from zq.security.keys import read_keys, today
from zq.security.lock import Lock

SECONDS = 3.0  # s of each phase
ROUNDS = 3  # of all kinds, and of quiet, beside and strangers for each
RATE = 1_000.0  # messages a second
PATIENCE = 600.0  # s for as many strangers as anybody asks for
FRIEND = "127.0.0.1"  # one where a friend is
STRANGER = "127.0.0.66"  # an address from which nobody of the realm comes
FLOOD = "random keys"
RUSH = "HELLO and gone"
NEWCOMERS = 5
AGAIN = 5.0  # s until one of them who hears nothing begins anew
SPELL = 12.0  # s in which newcomers come
REPLAY = "a recorded session, played again"
BOMBS = "bombs of a member"
PROCESSORS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
THEIRS = PROCESSORS[-1:] if len(PROCESSORS) > 1 else []  # the strangers' and the bystander's
OURS = PROCESSORS[:-1]  # the friends'; nobody is told to stay anywhere when there is one


@dataclass
class Row:
    """One kind of stranger, in all rounds: p99 in us of the three phases of each, and what came of the strangers."""

    quiet: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    strangers: list[float] = field(default_factory=list)
    count: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def against(self, peace: Sequence[float]) -> float:
        """How many times what it takes in that kind of peace: of all rounds together."""
        return median(self.strangers) / median(peace)

    def __str__(self) -> str:
        each = " ".join(f"{war / 1e3:.2f}" for war in self.strangers)
        figures = " ".join(f"{median(phase) / 1e3:7.2f}" for phase in (self.quiet, self.beside, self.strangers))
        ratios = " ".join(f"{self.against(peace):5.1f} x" for peace in (self.quiet, self.beside))
        return f"{figures}  {ratios}  {self.count / self.seconds:7.0f}/s  ({each})"


HEADER = f"{'p99 of a message, in ms':<44}   quiet  beside   then  / quiet / beside  strangers"


def from_address(source: str, endpoint: str) -> str:
    """The endpoint as it is dialled from that address."""
    return endpoint.replace("tcp://", f"tcp://{source}:0;")


class Scene:
    """The four processes. `look` is one round of one kind."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack = stack
        key_files = [write_key(directory / name) for name in ("friends.key", "bystander.key")]
        self._access = [{"key_file": str(key_file), "realm": key_file.stem} for key_file in key_files]
        options = [each | {"interfaces": ["127.0.0.1"], "discovery": ["host"]} for each in self._access]
        self.talker = self._start("talk", options[0], RATE, OURS)
        self.hearer = self._start("hear", options[0], OURS)
        bystander = self._start("stand_by", options[1], THEIRS)
        self._strangers = self._start("strangers", THEIRS)
        self.doors = self.talker.hear()["doors"]
        self._beside = bystander.hear()["doors"]
        assert self.hearer.hear() == "open"
        assert self._strangers.hear() == "ready"
        for beside in (True, False):  # recorded, and met, while there is nobody else whose turn it could be
            for kind in (REPLAY, BOMBS):
                self.visit(kind, beside=beside, seconds=0.0)
        self._newcomers = 0
        self.talker.tell("talk")
        assert self.talker.hear() == "talking"

    def _start(self, *arguments: Any) -> Process:
        process = Process(*arguments, module="tests.security.roles")
        self._stack.callback(process.end)
        return process

    def took(self) -> list[float]:
        """What the messages that have come since it was asked last have taken, in us."""
        self.hearer.tell("took")
        latest: list[float] = self.hearer.hear()
        return latest

    def state(self) -> dict[str, Any]:
        self.talker.tell("state")
        state: dict[str, Any] = self.talker.hear()
        return state

    def visit(
        self,
        kind: str,
        *,
        beside: bool = False,
        source: str = "",
        seconds: float | None = SECONDS,
        most: int | None = None,
    ) -> tuple[list[float], dict[str, Any]]:
        """What messages took while strangers came, and what the strangers say of it."""
        doors = self._beside if beside else self.doors
        self.took()
        access = self._access[beside]
        doors = [from_address(source, each) for each in doors] if source else doors
        self._strangers.tell({"kind": kind, "doors": doors, "seconds": seconds, "most": most} | access)
        said: dict[str, Any] = self._strangers.hear(PATIENCE)
        return self.took(), said

    def quiet(self) -> list[float]:
        """What messages take without anybody. The strangers do nothing meanwhile."""
        self.took()
        try:
            self._strangers.hear(SECONDS)
        except AssertionError:
            pass  # it has nothing to say
        return self.took()

    def look(self, row: Row, kind: str, *, source: str = "", most: int | None = None) -> None:
        row.quiet.append(p99(self.quiet()))
        took, _ = self.visit(kind, beside=True, source=source)
        row.beside.append(p99(took))
        took, said = self.visit(kind, source=source, seconds=None if most else SECONDS, most=most)
        row.strangers.append(p99(took))
        row.count += said["count"]
        row.seconds += said["seconds"]
        row.wrong += said["wrong"]

    def newcomers(self, kind: str, source: str, *, theirs: bool, spell: float = SPELL) -> list[float]:
        """What some who have the key need until they are in, in s, one after another, while strangers come from
        `source`: from addresses of their own or from `theirs`. Infinite: not in when `spell` is over."""
        access = self._access[False]
        lock = Lock(read_keys(Path(access["key_file"])), access["realm"], today())
        doors = [from_address(source, each) for each in self.doors]
        before = self.state()
        self._strangers.tell({"kind": kind, "doors": doors, "seconds": spell, "most": None} | access)
        over = time.monotonic() + spell
        eventually(lambda: any(self.state()[each] > before[each] for each in ("held", "taken", "shut_out")))
        waited: list[float] = []
        while len(waited) < NEWCOMERS and time.monotonic() < over:
            self._newcomers += 1
            own = source if theirs else f"127.0.1.{self._newcomers}"
            waited.append(_until_in(from_address(own, self.doors[0]), lock, over))
        self._strangers.hear(PATIENCE)
        return waited

    def rest(self) -> int:
        """Says no more, and returns how many messages have not come."""
        self.talker.tell("rest")
        sent: int = self.talker.hear()["sent"]
        self.hearer.tell(sent)
        came: int = self.hearer.hear()
        return sent - came


def _until_in(endpoint: str, lock: Lock, over: float) -> float:
    """How long it takes, however often he has to try."""
    began = time.monotonic()
    while time.monotonic() < over:
        with Rogues() as newcomer:
            newcomer.knock(zmq.PUSH, endpoint, lock.fit_own)
            newcomer.listen(min(over, time.monotonic() + AGAIN))
            if newcomer.who_is_in():
                return time.monotonic() - began
    return math.inf


def p99(took: Sequence[float]) -> float:
    return percentile(took, 0.99)


@contextmanager
def scene() -> Iterator[Scene]:
    """Leaving ends everybody."""
    with tempfile.TemporaryDirectory(prefix="zq-", dir="/tmp") as directory, ExitStack() as stack:
        os.environ["ZQ_HOST_DIR"] = directory
        yield Scene(stack, Path(directory))


def main(count: int, kinds: Sequence[str]) -> int:
    rows = {kind: Row() for kind in kinds or KINDS}
    if FLOOD in rows:
        rows[f"{FLOOD}, from another address"] = Row()
    with scene() as friends:
        friends.quiet()
        before = friends.state()
        for _ in range(ROUNDS):
            for name, row in rows.items():
                kind, _, another = name.partition(", from ")
                source = STRANGER if another else ""
                friends.look(row, kind, source=source, most=count // ROUNDS if kind == FLOOD and count else None)
                print(f"  {name:<40} {row}", flush=True)
        friends.quiet()  # the last strangers' connections are being closed
        after = friends.state()
        waits = {
            (kind, source, theirs): friends.newcomers(kind, source, theirs=theirs)
            for kind in (FLOOD, RUSH)
            if kind in rows
            for source in (FRIEND, STRANGER)
            for theirs in (False, True)
        }
        lost = friends.rest()
    print(f"\n{HEADER}")
    for name, row in rows.items():
        print(f"  {name:<40} {row}")
    for (kind, source, theirs), waited in waits.items():
        whence = "there" if theirs else "elsewhere"
        each = " ".join(f"{seconds:.2f}" for seconds in waited)
        print(f"a newcomer from {whence:<9} while {kind} come from {source:<10} is in after {each} s")
    wrong = [each for row in rows.values() for each in row.wrong]
    print(f"strangers: {sum(row.count for row in rows.values()):,}, of whom {len(wrong)} got in or heard something")
    print(f"at the doors: {after['failures']:,} failures, {after['cut_off']:,} cut off, {after['held']:,} had to wait")
    refused = after["refused_frames"] - before["refused_frames"]
    print(f"bombs: {refused:,} were read, all refused; {after['bombs'] - before['bombs']:,} connections were cut off")
    print(f"messages between friends: {lost} lost; descriptors left: {after['descriptors'] - before['descriptors']}")
    for each in wrong[:10]:
        print(f"  {each}")
    return 1 if wrong or lost else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
