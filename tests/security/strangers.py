"""Every kind of stranger, each in a stream that does not end before its time: what a peer has to bear.

All of them come as fast as they are answered, AT_ONCE at a time, except those who come to stay (the slow and the idle).
A kind is a function of the doors and the lock of a peer; it returns how many there were, and what should not have been:
who got in, and what was heard.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

import zmq

from tests.security.bombs import Member
from tests.security.rogues import Fit, Rogues, no_key, plain, random_keys
from tests.security.test_banners import BANNERS, GREETING, SLOW
from tests.security.test_in_the_middle import WELCOME
from zq.security.lock import Lock

AT_ONCE = 50
BOMBERS = 2  # connections of a member to each door
IDLE = 1_000  # connections that say nothing
SLOW_ONES = 300  # connections that say a byte now and then
SAID = 600  # bytes that begin with a greeting, HELLO and INITIATE, and go on
DRIP = 0.1  # s between two bytes of one of them
CALLERS = (zmq.PUSH, zmq.SUB, zmq.PUSH)  # the sockets that belong at mailbox, feed and work
TYPES = (zmq.PULL, zmq.SUB, zmq.PUB, zmq.PUSH, zmq.ROUTER, zmq.DEALER, zmq.XSUB)
RECORDED = 20.0  # s for the session that is played again: whoever has it recorded may have to wait for his turn


@dataclass
class Visit:
    """What one stream of strangers came to."""

    count: int = 0
    wrong: list[str] = field(default_factory=list)  # who got in, or heard something


@dataclass(frozen=True)
class Until:
    """When a stream ends: at a time, or with so many, whichever is given."""

    deadline: float | None
    most: int | None

    def reached(self, count: int) -> bool:
        if self.most is not None and count >= self.most:
            return True
        return self.deadline is not None and time.monotonic() >= self.deadline

    async def deadline_passed(self) -> None:
        await asyncio.sleep(max((self.deadline or 0.0) - time.monotonic(), 0.0))


Kind = Callable[[Sequence[str], Lock, Until], Visit]
KINDS: dict[str, Kind] = {}


def kind(name: str) -> Callable[[Kind], Kind]:
    def add(function: Kind) -> Kind:
        KINDS[name] = function
        return function

    return add


# --- who speaks ZeroMQ


def knock_on(callers: Iterator[tuple[int, str, Fit]], until: Until) -> Visit:
    """One rogue after another, AT_ONCE at a time, until all of a batch have their verdicts and the time is over."""
    visit = Visit()
    with Rogues() as rogues:
        while not until.reached(visit.count):
            many = AT_ONCE if until.most is None else min(AT_ONCE, until.most - visit.count)
            for number, endpoint, fit in itertools.islice(callers, many):
                rogues.knock(number, endpoint, fit)
            rogues.wait_for_verdicts()
            visit.count += len(rogues.all)
            visit.wrong += rogues.who_is_in() + rogues.who_heard()
            rogues.close()
    return visit


@kind("random keys")
def with_random_keys(doors: Sequence[str], lock: Lock, until: Until) -> Visit:
    """Half of them know whom they connect to, which nobody does who has not seen the key."""
    fits = itertools.cycle((random_keys, lock.fit_stranger))
    return knock_on(
        ((caller, door, next(fits)) for caller, door in itertools.cycle(zip(CALLERS, doors, strict=True))), until
    )


@kind("NULL and PLAIN")
def without_curve(doors: Sequence[str], lock: Lock, until: Until) -> Visit:
    fits = itertools.cycle((no_key, plain))
    return knock_on(
        ((caller, door, next(fits)) for caller, door in itertools.cycle(zip(CALLERS, doors, strict=True))), until
    )


@kind("rogue sockets")
def of_every_type(doors: Sequence[str], lock: Lock, until: Until) -> Visit:
    """Each type at each door, with each of the wrong ways to come in."""
    fits = (no_key, plain, random_keys, lock.fit_stranger)
    return knock_on(itertools.cycle(itertools.product(TYPES, doors, fits)), until)


# --- who does not


def where(endpoint: str) -> tuple[str, int, tuple[str, int] | None]:
    """Host, port, and the address it is dialled from, of an endpoint as libzmq writes it."""
    source, _, there = endpoint.removeprefix("tcp://").rpartition(";")
    host, _, port = there.rpartition(":")
    return host.strip("[]"), int(port), (source.rpartition(":")[0], 0) if source else None


async def all_along(one: Callable[[], Awaitable[None]], at_once: int, until: Until, visit: Visit) -> None:
    """`one` after another, so many at a time, and until the time is over."""

    async def again() -> None:
        while not until.reached(visit.count):
            visit.count += 1
            try:
                await one()
            except OSError:
                pass  # refused or reset: as it should be

    everybody = [asyncio.ensure_future(again()) for _ in range(at_once)]
    if until.deadline is None:
        await asyncio.wait(everybody)
    else:
        await asyncio.wait(everybody, timeout=max(until.deadline - time.monotonic(), 0.0))
    for each in everybody:
        each.cancel()
    await asyncio.gather(*everybody, return_exceptions=True)


async def say_and_listen(endpoint: str, words: bytes, visit: Visit, *, most: int, drip: bytes = b"") -> None:
    """Until the door ends it. What it says in more than `most` bytes should not have been."""
    host, port, source = where(endpoint)
    reader, writer = await asyncio.open_connection(host, port, local_addr=source)
    heard = 0
    try:
        writer.write(words)
        while True:
            try:
                piece = await asyncio.wait_for(reader.read(1 << 16), DRIP if drip else None)
            except TimeoutError:
                writer.write(drip)
                continue
            if not piece:
                return
            heard += len(piece)
            if heard > most:
                visit.wrong.append(f"{endpoint} said {heard} bytes to {words[:20]!r}")
                return
    finally:
        writer.transport.abort()


def speak(doors: Sequence[str], words: Sequence[bytes], until: Until, *, at_once: int, drip: bytes = b"") -> Visit:
    visit, order = Visit(), itertools.cycle(itertools.product(words, doors))

    async def one() -> None:
        said, door = next(order)
        await say_and_listen(door, said, visit, most=GREETING, drip=drip)

    asyncio.run(all_along(one, at_once, until, visit))
    return visit


@kind("banners and garbage")
def with_garbage(doors: Sequence[str], lock: Lock, until: Until) -> Visit:
    return speak(doors, list(BANNERS.values()), until, at_once=AT_ONCE)


@kind("slowloris")
def slowly(doors: Sequence[str], lock: Lock, until: Until) -> Visit:
    return speak(doors, list(SLOW.values()), until, at_once=SLOW_ONES, drip=b"\0")


@kind("1,000 idle connections")
def idle(doors: Sequence[str], lock: Lock, until: Until) -> Visit:
    return speak(doors, [b""], until, at_once=IDLE)


@kind("HELLO and gone")
def hit_and_run(doors: Sequence[str], lock: Lock, until: Until) -> Visit:
    """They do not wait for an answer: as many as this process can."""
    visit, order = Visit(), itertools.cycle(doors)
    words = BANNERS["CURVE, then a forged HELLO"]

    async def one() -> None:
        host, port, source = where(next(order))
        _, writer = await asyncio.open_connection(host, port, local_addr=source)
        writer.write(words)
        writer.close()

    asyncio.run(all_along(one, AT_ONCE, until, visit))
    return visit


# --- a man in the middle, between the doors and somebody who has the key


class Between:
    """Passes on what callers and a door say to each other; of each connection one bit is changed, by chance where."""

    def __init__(self, endpoint: str, visit: Visit) -> None:
        self._there = where(endpoint)
        self._visit = visit
        self.endpoint = ""
        self.recorded = b""
        self._random = random.Random(0)

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._on_call, "127.0.0.1", 0)
        self.endpoint = f"tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _on_call(self, caller: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        host, port, source = self._there
        try:
            door, forth = await asyncio.open_connection(host, port, local_addr=source)
        except OSError:
            back.transport.abort()
            return
        place = self._random.randrange(GREETING, 900)  # of the two commands, and the first messages
        try:
            await asyncio.gather(self._pass_on(caller, forth, place), self._pass_on(door, back, None))
        finally:
            self._visit.count += 1
            for writer in (forth, back):
                writer.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, place: int | None) -> None:
        passed = 0
        try:
            while piece := await source.read(1 << 16):
                if place is not None and 0 <= place - passed < len(piece):
                    at = place - passed
                    piece = piece[:at] + bytes([piece[at] ^ 1 << place % 8]) + piece[at + 1 :]
                passed += len(piece)
                sink.write(piece)
        except OSError:
            pass  # one of the two has had enough
        sink.transport.abort()


@kind("a man in the middle who flips bits")
def flips(doors: Sequence[str], lock: Lock, until: Until) -> Visit:
    """Callers with the key come through him, and call again when a connection has ended."""
    visit = Visit()

    async def live() -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        callers = []  # a socket that nobody has is closed, and waits for ever for what it has to say
        men = [Between(door, visit) for door in doors]
        for man in men:
            await man.open()
        try:
            for number in range(AT_ONCE):
                socket = context.socket(CALLERS[number % 3])
                socket.set(zmq.RECONNECT_IVL, 20)
                lock.fit_own(socket)
                socket.connect(men[number % 3].endpoint)
                callers.append(socket)
                if CALLERS[number % 3] == zmq.PUSH:
                    for _ in range(5):
                        socket.send(b"M" + bytes(72), zmq.NOBLOCK)
            await until.deadline_passed()
        finally:
            context.destroy(linger=0)

    asyncio.run(live())
    return visit


@kind("a recorded session, played again")
def replays(doors: Sequence[str], lock: Lock, until: Until) -> Visit:
    """One for each door. Anybody may repeat a HELLO, and gets an answer that is of no use to him."""
    visit = Visit()

    async def live() -> None:
        for caller, door in zip(CALLERS, doors, strict=True):
            if door not in _recorded:
                _recorded[door] = await record(caller, door, lock)
        order = itertools.cycle([(door, _recorded[door]) for door in doors])

        async def one() -> None:
            door, said = next(order)
            await say_and_listen(door, said, visit, most=GREETING + WELCOME)

        await all_along(one, AT_ONCE, until, visit)

    asyncio.run(live())
    return visit


_recorded: dict[str, bytes] = {}


async def record(caller: int, door: str, lock: Lock) -> bytes:
    """What somebody with the key says at that door."""
    host, port, _ = where(door)
    recorded: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def on_call(source: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        answers, forth = await asyncio.open_connection(host, port)

        async def answer() -> None:
            while piece := await answers.read(1 << 16):
                back.write(piece)
            back.transport.abort()

        answering, said = asyncio.ensure_future(answer()), b""
        try:
            while piece := await source.read(1 << 16):
                said += piece
                forth.write(piece)
                if len(said) > SAID and not recorded.done():
                    recorded.set_result(said)
        except OSError:
            pass  # the door has had enough: he calls again
        answering.cancel()
        forth.transport.abort()

    server = await asyncio.start_server(on_call, "127.0.0.1", 0)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(caller)
    lock.fit_own(socket)
    if caller == zmq.SUB:
        socket.set(zmq.SUBSCRIBE, b"anything")
    socket.connect(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    if caller == zmq.PUSH:
        socket.send(b"M" + os.urandom(72), zmq.NOBLOCK)
    try:
        async with asyncio.timeout(RECORDED):
            return await recorded
    finally:
        context.destroy(linger=0)
        server.close()


# --- who has the key


@kind("bombs of a member")
def bombs(doors: Sequence[str], lock: Lock, until: Until) -> Visit:
    """Everything that is made to be slow, in frames as large as they may be, as fast as it is taken."""
    began = time.monotonic()
    seed = doors[0].rpartition(";")[2].removeprefix("tcp://")
    if seed not in _members:
        _members[seed] = Member(seed)
    deadline = (until.deadline or 0.0) + time.monotonic() - began  # it had to be met first
    return Visit(_members[seed].bombard(doors, lock, deadline, BOMBERS))


_members: dict[str, Member] = {}  # by whom they have met
