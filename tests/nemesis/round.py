"""One round: a small LAN of processes that work, a nemesis that a seed has armed, peace, and a judge.

Everything that is drawn comes from the seed; when exactly a process does something does not. So the same seed gives
the same faults at the same times, but not quite the same run.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lan.lan import Lan
from tests.nemesis.judge import Verdict, judge
from tests.nemesis.nemesis import Nemesis
from tests.nemesis.players import Player
from zq.core.dead import KEPT

HOSTS = 4
CAST = (
    *(("push", 1), ("publish", 1), ("pull", 2), ("subscribe", 2), ("pull", 3), ("push", 4), ("subscribe", 4)),
    *(("serve", 2), ("serve", 3), ("ask", 4), ("reply", 1), ("store", 1), ("keep", 3), ("fetch", 2)),
)
ON_DISK = ("store", "keep")  # roles whose directory outlives them
SENDERS, BETWEEN, TAKERS = (
    ("push", "publish", "ask", "store"),
    ("keep",),
    ("pull", "subscribe", "serve", "reply", "fetch"),
)
FAULTS = 16  # a round
WAYS = ("mdns", "directory", "seeds")  # to be found; what takes longest to be found again is mDNS, with 12 s
PORT = 20_100  # of the first player's mailbox where seeds name it; who is killed is followed on his port by another
MEETING = 60.0  # s until all have met, at first and after the last fault; on two busy processors
SETTLE = 10.0  # s until what was opened on the way is closed
GROWTH = 48 << 20  # bytes of memory; what a round publishes stays in rings and journals


@dataclass(frozen=True, slots=True)
class Result:
    faults: Counter[str]
    verdict: Verdict
    seconds: float


def play(seed: int, *, faults: int = FAULTS, say: Callable[[str], None] = lambda text: None) -> Result:
    """`say` hears of everything that is done. Raises AssertionError when a process ends, or does not answer in time."""
    began = time.monotonic()
    chance = random.Random(f"nemesis {seed}")
    way = chance.choice(WAYS)
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="zqn-", dir="/tmp"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        (directory / "realm").mkdir(mode=0o700)
        lan = stack.enter_context(Lan(HOSTS))
        players = [
            Player(role, host, number, options=_options(way, number, directory), command=lan.command(host),
                   directory=directory, disk=role in ON_DISK)
            for number, (role, host) in enumerate(CAST)
        ]  # fmt: skip
        stack.callback(lambda: [player.kill() for player in players])
        for player in players:
            player.begin()
        for player in players:
            player.before = _meet(player)
        nemesis = Nemesis(chance, lan, players, faults, say)
        say(f"    all have met by {way}, {time.monotonic() - began:.1f} s")
        nemesis.strike()
        say(f"    peace, {time.monotonic() - began:.1f} s")
        _finish(players)
        say(f"    all is done, {time.monotonic() - began:.1f} s")
        verdict = judge(life for player in players for life in player.lives)
        for player in players:
            _check_rest(player, verdict)
        for player in players:
            if status := player.leave():
                verdict.blame(f"{player} has left with status {status}")
        return Result(nemesis.done, verdict, time.monotonic() - began)


def _options(way: str, number: int, directory: Path) -> dict[str, Any]:
    """Of the peer of player `number`."""
    common: dict[str, Any] = {"realm": "fire", "insecure": True, "interfaces": ["eth0"]}
    if way == "mdns":
        return common | {"discovery": ["mdns"]}
    if way == "directory":
        return common | {"discovery": [f"dir:{directory / 'realm'}"]}
    seeds = [f"{Lan.address(host)}:{PORT + other}" for other, (_, host) in enumerate(CAST) if other != number]
    return common | {"discovery": ["none"], "seeds": seeds, "port": PORT + number}


def _meet(player: Player) -> dict[str, Any]:
    """How the player is once it sees all others."""
    deadline = time.monotonic() + MEETING
    while len((seen := player.look())["others"]) != len(CAST) - 1:
        if time.monotonic() > deadline:
            raise AssertionError(f"{player} sees {len(seen['others'])} of {len(CAST) - 1} after {MEETING} s")
        threading.Event().wait(0.1)
    return seen


def _finish(players: list[Player]) -> None:
    """No more is sent; what was is to arrive. Senders first: takers have all when nothing comes any more."""
    for player in players:
        player.tell("calm")
    for player in players:
        _meet(player)
    for roles in (SENDERS, BETWEEN, TAKERS):
        for player in players:
            if player.role in roles:
                player.tell("finish")
        for player in players:
            if player.role in roles:
                player.hear("finished")


def _check_rest(player: Player, verdict: Verdict) -> None:
    """Nothing is left over, and whoever has lived through it all takes no more than before."""
    deadline = time.monotonic() + SETTLE
    while (fault := _fault(player, player.look())) and time.monotonic() < deadline:
        threading.Event().wait(0.1)
    if fault:
        verdict.blame(f"{player}: {fault}")


def _fault(player: Player, seen: dict[str, Any]) -> str:
    """What is not as it should be at rest, empty if all is."""
    if not seen["balanced"]:
        return f"its ledger does not balance: {seen['ledger']}"
    letters = {queue: waiting for queue, taken, waiting, *_ in seen["held"]}
    for queue, taken, waiting, in_flight, acked, dropped in seen["held"]:
        what = f"of {taken} messages of {queue} {acked} are acked, {waiting} waiting, {in_flight} in flight"
        if queue.endswith(".dead"):
            if in_flight or waiting != taken - dropped:
                return what
        elif waiting or in_flight or taken != acked + dropped:
            return f"{what}, {dropped} dropped"
        elif queue != "kept" and min(dropped, KEPT) != letters.get(f"{queue}.dead", 0):  # a disk has those of others
            return (
                f"{dropped} messages of {queue} are dead, {letters.get(f'{queue}.dead', 0)} are among the dead letters"
            )
    before = player.before
    if not before:
        return ""
    others = len(CAST) - 1
    # Work connections are made when they are first needed: one there and one back, for each other.
    if seen["descriptors"] > before["descriptors"] + 2 * others:
        return f"{seen['descriptors']} descriptors are open, {before['descriptors']} were"
    if seen["threads"] > before["threads"]:
        return f"{seen['threads']} threads run, {before['threads']} did"
    if seen["bytes"] > before["bytes"] + GROWTH:
        return f"it takes {seen['bytes'] >> 20} MiB, it took {before['bytes'] >> 20}"
    return ""
