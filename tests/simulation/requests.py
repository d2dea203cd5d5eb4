"""Requests in the simulator: each ends exactly once, and a program is handed each at most once.

The oracle knows, of every request, how often a program was handed it, what that program did, and how it ended at the
caller. A reply is that of its own request; who was told that nobody had it never learns otherwise.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest import mock

from tests.simulation.oracle import check
from tests.simulation.programs import Program
from tests.simulation.rest import endless_timers
from tests.simulation.world import Role, World
from zq.core import call as calls
from zq.core import replier, seen
from zq.core.call import Call, Key
from zq.core.replier import Asked, RequestInbox
from zq.errors import NoPeer, PeerLost, RemoteError, Timeout
from zq.testing import SimulatedPeer
from zq.wire import requests
from zq.wire.data import Packed
from zq.wire.requests import CLOSED, OVERLOADED, REPLIED, UNANSWERED

SERVICES = ("sum", "sum", "sub")
HANDLERS = ("fast", "fast", "slow", "moody", "hoarder")


@dataclass(slots=True)
class Fate:
    """What became of one request."""

    peer: SimulatedPeer
    handed: int = 0
    done: set[str] = field(default_factory=set)  # what programs said to it
    ends: list[str] = field(default_factory=list)


class Requester(Program):
    """Asks `total` times, each with a timeout; some are given up before that."""

    def __init__(self, world: RequestWorld, peer: SimulatedPeer, service: str, total: int) -> None:
        super().__init__(world, peer)
        self.requests = world
        self.service, self.left = service, total
        self.open = 0
        self.later(self.random.uniform(0, 0.5))

    def step(self) -> None:
        if not self.active or not self.left:
            return
        for _ in range(min(self.random.choice((1, 1, 2, 5, 20)), self.left)):
            self.left -= 1
            everybody = self.peer.node.requesting.repliers(self.service) if self.random.random() < 0.1 else []
            for target in everybody or [None]:
                self._ask(target)
        self.later(self.random.choice((0.001, 0.05, 0.4)) * self.random.random())

    def _ask(self, target: Key | None) -> None:
        """One replier of all, or the one that is meant, as one who asks every one does."""
        peer, requesting_ = self.peer, self.peer.node.requesting
        number = len(self.requests.fates)
        fate = Fate(peer)
        self.requests.fates.append(fate)
        timeout = self.random.choice((0.02, 1.0, 5.0, math.inf))
        body = number.to_bytes(4, "big") + bytes(self.random.choice((0, 0, 200)))
        item = Packed(body, (b"part",)) if self.random.random() < 0.05 else body
        deadline = None if timeout == math.inf else peer.clock() + timeout
        call = Call(self.service, item, deadline, lambda: self._ended(fate, call, number), target)
        self.open += 1
        requesting_.pile.append(call)
        peer.touch(requesting_)
        waits = timeout if self.random.random() < 0.9 else min(timeout, 5.0) * self.random.random()
        if waits < math.inf:
            self.world.network.after(waits, lambda: self._give_up(fate, call))

    def _give_up(self, fate: Fate, call: Call) -> None:
        if not self.peer.alive or call.ended:
            return
        if self.peer.stopped_at is not None:
            self.world.network.after(0.05, lambda: self._give_up(fate, call))
            return
        check(not self.peer.node.requesting.abandon(call, self.peer.clock()), "a call has ended and nobody was told")
        self._end(fate, "timeout")

    def _ended(self, fate: Fate, call: Call, number: int) -> None:
        check(call.ended, "a caller was woken for nothing")
        error = call.error
        if error is None:
            check(call.reply is not None, "a call ended with nothing")
            assert call.reply is not None
            got = int.from_bytes(bytes(call.reply.body)[:4], "big")
            check(got == number, f"request {number} got the reply of {got}")
            check("replied" in fate.done, f"request {number} got a reply that nobody gave")
            self._end(fate, "replied")
        elif isinstance(error, NoPeer):
            self._end(fate, "nobody")
        elif isinstance(error, PeerLost):
            self._end(fate, "lost")
        elif isinstance(error, Timeout):
            check(call.deadline is not None and call.deadline <= self.peer.clock(), f"request {number} had time left")
            self._end(fate, "timeout")
        else:
            assert isinstance(error, RemoteError)
            if error.type == "Mood":
                check("failed" in fate.done, f"request {number} got a failure that nobody gave")
            self._end(fate, error.type)

    def _end(self, fate: Fate, how: str) -> None:
        self.open -= 1
        fate.ends.append(how)
        check(len(fate.ends) == 1, f"a request ended as {' and '.join(fate.ends)}")

    def close(self) -> None:
        self.active = False

    def leave(self) -> None:
        self.close()


class Server(Program):
    """Takes requests and answers them as its `kind` says."""

    def __init__(self, world: RequestWorld, peer: SimulatedPeer, service: str, kind: str) -> None:
        super().__init__(world, peer)
        self.requests = world
        self.kind = kind
        self.held: list[Asked] = []
        self.closed = False
        inbox = RequestInbox(lambda: self.later(self.random.uniform(0, 0.002)))
        self.core = peer.node.reply_to(service, inbox)
        inbox.note = self._note
        peer.touch()

    def _note(self) -> None:
        if self.peer.alive:
            self.peer.touch(self.core)

    def step(self) -> None:
        arrived = self.core.inbox.arrived
        while arrived:
            asked = arrived.popleft()
            if asked.is_over(self.peer.clock()):
                asked.drop()
                continue
            fate = self._fate(asked)
            fate.handed += 1
            check(fate.handed == 1, "a request was handed out twice")
            check(not {"nobody", OVERLOADED} & set(fate.ends), f"a program has what nobody had: {fate}")
            self.held.append(asked)
        if self.kind == "hoarder" and self.active:
            return
        for _ in range(len(self.held) if self.kind == "fast" or not self.active else 1):
            if self.held:
                self._answer(self.held.pop(self.random.randrange(len(self.held))))
        if self.held:
            self.later(self.random.choice((0.01, 0.1, 0.5)))

    def _fate(self, asked: Asked) -> Fate:
        return self.requests.fates[int.from_bytes(bytes(asked.frame.body)[:4], "big")]

    def _answer(self, asked: Asked) -> None:
        fate = self._fate(asked)
        mood = self.random.random() if self.kind == "moody" else 0.0
        if mood < 0.5:
            fate.done.add("replied")
            body = bytes(asked.frame.body)
            asked.answer(REPLIED, Packed(body, (b"part",)) if self.random.random() < 0.05 else body)
            if self.random.random() < 0.2:
                asked.answer(REPLIED, b"twice")
        elif mood < 0.8:
            fate.done.add("failed")
            asked.fail("Mood", "not now")
        # else it is forgotten, and fails by itself

    def close(self) -> None:
        self.active = False
        if self.peer.alive and not self.closed:
            self.closed = True
            self.peer.node.stop_replying(self.core, self.peer.clock())
            self.peer.touch()

    def leave(self) -> None:
        self.close()

    @property
    def done(self) -> bool:
        return self.closed or not (self.held or self.core.inbox.arrived or self.core.held)


class RequestWorld(World):
    """Peers that ask and answer, and nothing else."""

    def __init__(self, seed: int, *, small_rings: bool = False, trace: Callable[[str], None] | None = None) -> None:
        super().__init__(seed, small_rings=small_rings, trace=trace)
        self.fates: list[Fate] = []

    def roles(self) -> list[Role]:
        return [self.add_requester, self.add_server, self.add_server]

    def more_roles(self) -> list[Role]:
        return [self.add_requester, self.add_server]

    def add_requester(self, peer: SimulatedPeer) -> None:
        total = self.random.choice((3, 15, 60))
        self.programs.append(Requester(self, peer, self.random.choice((*SERVICES, *SERVICES, "nobody's")), total))

    def add_server(self, peer: SimulatedPeer) -> None:
        self.programs.append(Server(self, peer, self.random.choice(SERVICES), self.random.choice(HANDLERS)))

    def check_ledger(self, peer: SimulatedPeer) -> None:
        super().check_ledger(peer)
        known = {peer.id, *(remote.id for remote in peer.node.meeting.roster)}
        check(set(peer.node.requesting._sent) <= known, f"{peer.name} waits for one who is gone")

    def _leave_when_done(self, peer: SimulatedPeer, deadline: float) -> None:
        if peer.alive and not peer.node.replying.is_flushed() and self.network.now < deadline:
            self.network.after(0.05, lambda: self._leave_when_done(peer, deadline))
        else:
            super()._leave_when_done(peer, deadline)

    def _is_done(self) -> bool:
        programs = [program for program in self.programs if program.peer.alive]
        waiting = any(program.open for program in programs if isinstance(program, Requester))
        holding = any(not program.done for program in programs if isinstance(program, Server))
        return not (waiting or holding) and super()._is_done()

    def _check_end(self) -> None:
        self.check_requests()
        for peer in self.running:
            self.check_ledger(peer)
            left_over = [key for key in peer.node.timers._set if key not in endless_timers(peer)]
            check(not left_over, f"{peer.name} has timers at rest: {left_over[:5]}")

    def check_requests(self) -> None:
        """Each has ended once, and nothing of any is left over."""
        for fate in self.fates:
            check(len(fate.ends) == 1 or not fate.peer.alive, f"a request ended {len(fate.ends)} times")
            check(not (fate.handed and {"nobody", OVERLOADED} & set(fate.ends)), f"a program had it: {fate}")
        for peer in self.running:
            asking, answering = peer.node.requesting, peer.node.replying
            left = [asking._sent, asking._lines, asking._apart, asking._missed, asking.undecided, asking.pile]
            check(not any(left), f"{peer.name} has something left that it asked: {left}")
            check(not (answering._held or answering._unsent), f"{peer.name} has something left that it was asked")

    @property
    def ends(self) -> Counter[str]:
        return Counter(end for fate in self.fates for end in fate.ends)


@contextmanager
def limits(draw: random.Random) -> Iterator[None]:
    """Constants so small that a few requests reach them."""
    with ExitStack() as patches:
        if draw.random() < 0.7:
            for module, name, value in (
                (calls, "MOST_REQUESTS", draw.choice((1, 4, 1_024))),
                (calls, "MOST_BYTES", draw.choice((300, 64 << 20))),
                (replier, "MOST_HELD", draw.choice((1, 5, 4_096))),
                (replier, "MOST_BYTES", draw.choice((300, 256 << 20))),
                (seen, "SEEN_MOST", draw.choice((2, 65_536))),
                (requests, "BATCH_BYTES", draw.choice((100, 64 << 10))),
            ):
                patches.enter_context(mock.patch.object(module, name, value))
        yield


def play(seed: int, trace: Callable[[str], None] | None = None) -> RequestWorld:
    """Runs one seed."""
    with limits(random.Random(f"request limits {seed}")):
        world = RequestWorld(seed, trace=trace)
        world.run()
        return world


EVERY_END = {"replied", "nobody", "lost", "timeout", "Mood", CLOSED, OVERLOADED, UNANSWERED}
