"""Where whoever comes to a door waits for his turn, so that strangers take no more time than there is to spare.

A handshake takes libzmq's I/O thread up to 0.4 ms, and that thread carries the messages of friends as well: with fifty
strangers at once it is deaf to them for 5 ms and more, and nothing in libzmq limits how many it takes at a time. So
doors are shut: of a new connection the kernel tells libzmq that there is something to read only when HELD bytes have
come (SO_RCVLOWAT), which is more than a stranger may send. Everybody is held until he is released:

    taken     released at once if there is a token and nobody from his address waits; else he waits in its line
    waiting   each token releases one: addresses take turns, and of one address the youngest goes first
    admitted  he has shown the key, and gives the token back

A handshake costs a token. There are BURST of them, and one more each PACE seconds. Every address from which somebody
has been let in has tokens of its own, all others share some. So friends are released as fast as they come, wherever
they come from, and strangers at the pace that is left, however many of them there are; those at a friend's address
hold up newcomers from there only, those elsewhere hold up newcomers from new addresses only. Where more come than have
a turn, the older ones run into the 3 s of a handshake anyway: a friend among them has the best chance while he is new,
and whoever comes first from an address goes first of all. Whose turn it is may still be refused: the guard says whose
connections are closed without a handshake.

Being taken costs something, too, and tokens of another kind: each address has CROWD of them, and one more each STEP
seconds, and all where nobody has been let in have four times as many together. Of these one address takes no more than
of its own, however many come from there before the valve is closed: so there have to be several.

    free       there are tokens
    rationed   they were used up: the `valve` lets only a share of those from there pass, chosen anew each WINDOW so
               that as many come as there are new tokens; free again when enough have been saved or given back

A connection that is gone before it can be asked where it came from is counted for the address that most came from
lately, if that is more than a few, or else for all where nobody has been let in.

Descriptors are those of libzmq; one may be another's by now, and a release means nothing to it. On Linux only (since
4.18 a release is signalled at once; before, who is held fails after 3 s and tries again).
"""

from __future__ import annotations

import itertools
import socket
import sys
from collections import OrderedDict

from zq.security import valve
from zq.security.guard import ADDRESSES, Guard
from zq.security.overfill import ENOUGH
from zq.security.taken import UNKNOWN, address_of, cut_off, duplicate, hold

HELD = ENOUGH  # bytes; who has sent more is cut off
BURST = 8  # handshakes at once of those who share tokens: some 2 ms of the I/O thread
PACE = 0.2  # s from one token to the next: less than a hundredth of the messages a second meets a stranger's handshake
CROWD = 64  # connections taken at once
STEP = 0.1  # s from one of those tokens to the next
DEBT = 1  # times the tokens that there are at most: who was taken before the valve was closed has used them
AGAIN = 1 / 2  # of the tokens that there are at most: with so many the valve is opened
SUSPECT = 1 / 4  # of them: who has used so many lately is counted for those who are gone before they can be asked
WINDOW = 0.25  # s over which those who come are counted while they are rationed
SURPLUS = 16  # that come in a window: so many are not waited for
FIRST, LEAST = 1 / 256, 1 / 4_096  # shares that pass; a process that does nothing else comes 10,000 times a second
NARROWER, WIDER = 1 / 16, 4.0  # at most at a time
ELSEWHERE = ""  # all addresses where nobody has been let in
MOST = 1_024  # connections of one address that wait; the oldest are closed
CAN_HOLD = sys.platform == "linux"


class Tokens:
    """So many, and one more in each `pace` seconds."""

    __slots__ = ("_at", "_left", "_most", "pace")

    def __init__(self, most: int, pace: float, now: float) -> None:
        self._most = most
        self.pace = pace
        self._left = float(most)
        self._at = now

    def there_are(self, now: float, share: float = 0.0) -> bool:
        """At least one, and that share of those that there are at most."""
        self._left = min(self._left + (now - self._at) / self.pace, self._most)
        self._at = now
        return self._left > max(1, share * self._most) - 0.001  # what adding fractions loses

    def take(self) -> None:
        """Whether there is one or not: then the next are owed, but never so many that it takes long."""
        self._left = max(self._left - 1, -DEBT * self._most)

    def give_back(self) -> None:
        self._left = min(self._left + 1, self._most)

    def used(self, now: float) -> float:
        """The share of them all that is not there; more than 1 if the next are owed."""
        self.there_are(now)
        return 1 - self._left / self._most

    def seconds(self) -> float:
        """From the last look until there is one."""
        return max(1.0 - self._left, 0.0) * self.pace


class Crowd:
    """Of an address, how many more may be taken from there."""

    __slots__ = ("own", "shared")

    def __init__(self, now: float) -> None:
        self.own = Tokens(CROWD, STEP, now)
        self.shared = Tokens(CROWD, STEP, now)  # that it may take of those that it shares


class Ration:
    """Of somebody who came too often: the share that passes, and how many have in this window."""

    __slots__ = ("_came", "_since", "share")

    def __init__(self, now: float) -> None:
        self.share = FIRST
        self._since = now
        self._came = 0

    def took(self, pace: float, now: float) -> bool:
        """One more. Whether the share is another now."""
        self._came += 1
        return self._came >= SURPLUS and self._choose(pace, now)

    def look(self, pace: float, now: float) -> bool:
        """The same, without one."""
        return self.over(now) <= 0 and self._choose(pace, now)

    def over(self, now: float) -> float:
        """In how many seconds this window is."""
        return self._since + WINDOW - now

    def _choose(self, pace: float, now: float) -> bool:
        before = self.share
        expected = max(now - self._since, 0.001) / pace
        factor = expected / self._came if self._came else WIDER
        self.share = min(max(self.share * min(max(factor, NARROWER), WIDER), LEAST), 1.0)
        self._since, self._came = now, 0
        return self.share != before


class Queue:
    """Those who share tokens: their lines, by address, in the order of their turns."""

    __slots__ = ("lines", "turns")

    def __init__(self, now: float) -> None:
        self.lines: OrderedDict[str, dict[int, None]] = OrderedDict()
        self.turns = Tokens(BURST, PACE, now)


class Porch:
    """Of all doors of a peer. Belongs to the engine's thread."""

    def __init__(self) -> None:
        self._guard = Guard()
        self._listening: dict[int, str] = {}  # the descriptors that listen, and where
        self._is_shut = False
        self._elsewhere = Queue(0.0)  # from addresses where nobody has been let in
        self._friends: OrderedDict[str, Queue] = OrderedDict()  # by address; those that were used last are last
        self._busy: dict[Queue, None] = {}  # where somebody waits
        self._taken: OrderedDict[str, Crowd] = OrderedDict()  # by address; those that were used last are last
        self._taken_elsewhere = Tokens(4 * CROWD, STEP / 4, 0.0)
        self._rations: dict[str, Ration] = {}  # of addresses, or ELSEWHERE
        self._suspect = UNKNOWN  # the address that most came from
        self._addresses: dict[int, str] = {}  # of those who wait
        self.held = 0  # that had to wait, in all
        self.released = 0  # that were given a turn, in all
        self.shut_out = 0  # how often somebody was put on rations
        self.turned_away = 0  # since too many of their address waited

    def __bool__(self) -> bool:
        """Whether anybody waits, here or outside."""
        return bool(self._addresses or self._rations)

    # --- doors

    def opened(self, descriptor: int, endpoint: str) -> None:
        """Of a door: people come in there from now on."""
        self._listening[descriptor] = endpoint
        if self._is_shut:
            _let(descriptor, HELD)
            self._turn_valve()

    def forget(self, endpoint: str) -> None:
        """Nobody listens there any more."""
        self._listening = {descriptor: each for descriptor, each in self._listening.items() if each != endpoint}

    def shut(self, guard: Guard) -> None:
        """Everybody who comes from now on is held until he is `taken`, and `guard` may still refuse him."""
        self._guard = guard
        self._is_shut = CAN_HOLD
        if CAN_HOLD:
            for descriptor in self._listening:
                _let(descriptor, HELD)

    # --- who comes there

    def taken(self, descriptor: int, connection: socket.socket, address: str, now: float) -> None:
        """Releases it or lets it wait. `connection` is a duplicate of `descriptor`."""
        self.closed(descriptor)  # its end may not have been heard yet
        if self.shut_out:
            valve.detach(connection)  # it has that of its door
        self._count(address, now)
        queue = self._queue(address)
        line = queue.lines.get(address)
        if line is None and (queue.turns.there_are(now) or not CAN_HOLD):
            queue.turns.take()
            self._release(connection, address, now)
            return
        if line is None:
            line = queue.lines[address] = {}
            queue.lines.move_to_end(address, last=False)
            self._busy[queue] = None
        line[descriptor] = None
        self._addresses[descriptor] = address
        self.held += 1
        if len(line) > MOST:
            self._turn_away(next(iter(line)))

    def admitted(self, address: str, now: float) -> None:
        """Somebody from there has shown the key."""
        queue = self._friends.get(address)
        self._queue(address).turns.give_back()
        if (taken := self._taken.get(address)) is not None:
            taken.own.give_back()
        if queue is None:
            self._taken_elsewhere.give_back()
            queue = self._friends[address] = Queue(now)
            self._move(address, self._elsewhere, queue)
            if len(self._friends) > ADDRESSES:
                oldest, forgotten = self._friends.popitem(last=False)
                self._move(oldest, forgotten, self._elsewhere)
            if self._rations:
                self._turn_valve()
        self._friends.move_to_end(address)

    def missed(self, now: float, address: str = UNKNOWN) -> None:
        """One was taken and is gone, and perhaps nobody knows where it came from."""
        self._count(address, now)

    def closed(self, descriptor: int) -> None:
        """It has ended. If that was said of another door's, and the number is in use again, that one is let go."""
        if self._leave(descriptor) is not None:
            _let(descriptor, 1)

    def look(self, now: float) -> float:
        """Releases those whose turn it is. Returns for how many seconds to sleep at most, if anybody waits."""
        sleep = WINDOW
        if self._rations:
            sleep = self._look_at_rations(now)
        for queue in list(self._busy):
            while queue.lines and queue.turns.there_are(now):
                queue.turns.take()
                address, line = next(iter(queue.lines.items()))
                queue.lines.move_to_end(address)
                descriptor = next(reversed(line))
                self._leave(descriptor)
                if (connection := _that_of(descriptor, address)) is not None:
                    with connection:
                        self._release(connection, address, now)
            if queue.lines:
                sleep = min(sleep, queue.turns.seconds())
        return sleep

    # --- inside

    def _queue(self, address: str) -> Queue:
        return self._friends.get(address, self._elsewhere)

    def _move(self, address: str, source: Queue, sink: Queue) -> None:
        """The line of an address, if there is one."""
        line = source.lines.pop(address, None)
        if line is None:
            return
        sink.lines[address] = line
        self._busy[sink] = None
        if not source.lines:
            del self._busy[source]

    def _count(self, address: str, now: float) -> None:
        """One more that was taken. Puts on rations who has come too often."""
        suspect = self._taken.get(self._suspect)
        if address == UNKNOWN and suspect is not None and suspect.own.used(now) >= SUSPECT:
            address = self._suspect
        shares, turned = address not in self._friends, False
        if address != UNKNOWN:
            crowd, turned = self._crowd(address, now)
            turned |= self._take(address, crowd.own, now)
            if suspect is None or crowd.own.used(now) >= suspect.own.used(now):
                self._suspect = address
            if shares := shares and crowd.shared.there_are(now):
                crowd.shared.take()
        if shares:
            turned |= self._take(ELSEWHERE, self._taken_elsewhere, now)
        if turned:
            self._turn_valve()

    def _crowd(self, address: str, now: float) -> tuple[Crowd, bool]:
        """That of this address. Whether another was forgotten that was on rations."""
        turned = False
        if (crowd := self._taken.get(address)) is None:
            crowd = self._taken[address] = Crowd(now)
            if len(self._taken) > ADDRESSES:
                forgotten, _ = self._taken.popitem(last=False)
                turned = self._rations.pop(forgotten, None) is not None
        self._taken.move_to_end(address)
        return crowd, turned

    def _take(self, whose: str, tokens: Tokens, now: float) -> bool:
        """One of them. Whether the valve has to be turned."""
        tokens.take()
        if (ration := self._rations.get(whose)) is not None:
            return ration.took(tokens.pace, now)
        if tokens.there_are(now) or not CAN_HOLD:
            return False
        self._rations[whose] = Ration(now)
        self.shut_out += 1
        return True

    def _look_at_rations(self, now: float) -> float:
        """Of those who have tokens again there are none. Returns in how many seconds to look again."""
        turned = False
        for whose, ration in list(self._rations.items()):
            tokens = self._taken[whose].own if whose else self._taken_elsewhere
            if tokens.there_are(now, AGAIN):
                del self._rations[whose]
                turned = True
            else:
                turned |= ration.look(tokens.pace, now)
        if turned:
            self._turn_valve()
        return min((ration.over(now) for ration in self._rations.values()), default=WINDOW)

    def _turn_valve(self) -> None:
        """As it should be: of many addresses only those that were here last are told apart."""
        rations, others = self._rations, 1.0
        whose = [address for address in reversed(rations) if address]
        if ELSEWHERE in rations:
            others = rations[ELSEWHERE].share
            whose = list(itertools.islice(reversed(self._friends), valve.MOST))
        shares = {address: rations[address].share if address in rations else 1.0 for address in whose[: valve.MOST]}
        code = valve.program(shares, others) if rations else valve.EVERYBODY
        for descriptor in self._listening:
            if (door := duplicate(descriptor)) is not None:
                with door:
                    valve.attach(door, code)

    def _leave(self, descriptor: int) -> str | None:
        """It waits no longer. Returns its address, or None if it did not."""
        address = self._addresses.pop(descriptor, None)
        if address is None:
            return None
        queue = self._queue(address)
        del queue.lines[address][descriptor]
        if not queue.lines[address]:
            del queue.lines[address]
            if not queue.lines:
                del self._busy[queue]
        return address

    def _release(self, connection: socket.socket, address: str, now: float) -> None:
        self.released += 1
        if self._guard.cuts_off(address, now):
            cut_off(connection)
        elif CAN_HOLD:
            hold(connection, 1)

    def _turn_away(self, descriptor: int) -> None:
        address = self._leave(descriptor)
        self.turned_away += 1
        if (connection := _that_of(descriptor, address)) is not None:
            with connection:
                cut_off(connection)


def _that_of(descriptor: int, address: str | None) -> socket.socket | None:
    """A duplicate of it, if it comes from there; else it is another's by now."""
    connection = duplicate(descriptor)
    if connection is not None and address_of(connection) != address:
        connection.close()
        return None
    return connection


def _let(descriptor: int, size: int) -> None:
    connection = duplicate(descriptor)
    if connection is not None:
        with connection:
            hold(connection, size)
