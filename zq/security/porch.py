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
connections are closed without a handshake. Who has the key and sends what makes no sense costs his address turns to
come: see `offenders`.

Being taken at all costs something, too: see `crowds`.

Descriptors are those of libzmq; one may be another's by now, and a release means nothing to it. On Linux only (since
4.18 a release is signalled at once; before, who is held fails after 3 s and tries again).
"""

from __future__ import annotations

import socket
import sys
from collections import OrderedDict

from zq.security import valve
from zq.security.crowds import WINDOW, Crowds
from zq.security.guard import ADDRESSES, Guard
from zq.security.overfill import ENOUGH
from zq.security.taken import UNKNOWN, address_of, cut_off, duplicate, hold
from zq.security.tokens import Tokens

HELD = ENOUGH  # bytes; who has sent more is cut off
BURST = 8  # handshakes at once of those who share tokens: some 2 ms of the I/O thread
PACE = 0.2  # s from one token to the next: less than a hundredth of the messages a second meets a stranger's handshake
MOST = 1_024  # connections of one address that wait; the oldest are closed
CAN_HOLD = sys.platform == "linux"


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
        self._is_shut = False
        self._elsewhere = Queue(0.0)  # from addresses where nobody has been let in
        self._friends: OrderedDict[str, Queue] = OrderedDict()  # by address; those that were used last are last
        self._busy: dict[Queue, None] = {}  # where somebody waits
        self._crowds = Crowds(self._friends)
        self._addresses: dict[int, str] = {}  # of those who wait
        self.held = 0  # that had to wait, in all
        self.released = 0  # that were given a turn, in all
        self.turned_away = 0  # since too many of their address waited

    def __bool__(self) -> bool:
        """Whether anybody waits, here or outside."""
        return bool(self._addresses or self._crowds)

    @property
    def shut_out(self) -> int:
        """How often somebody had to wait outside."""
        return self._crowds.shut_out

    # --- doors

    def opened(self, descriptor: int, endpoint: str) -> None:
        """Of a door: people come in there from now on."""
        self._crowds.opened(descriptor, endpoint)
        if self._is_shut:
            _let(descriptor, HELD)

    def forget(self, endpoint: str) -> None:
        """Nobody listens there any more."""
        self._crowds.forget(endpoint)

    def shut(self, guard: Guard) -> None:
        """Everybody who comes from now on is held until he is `taken`, and `guard` may still refuse him."""
        self._guard = guard
        self._is_shut = CAN_HOLD
        if CAN_HOLD:
            for descriptor in self._crowds.doors:
                _let(descriptor, HELD)

    # --- who comes there

    def taken(self, descriptor: int, connection: socket.socket, address: str, now: float) -> None:
        """Releases it or lets it wait. `connection` is a duplicate of `descriptor`."""
        self.closed(descriptor)  # its end may not have been heard yet
        if self._crowds.shut_out:
            valve.detach(connection)  # it has that of its door
        self._crowds.count(address, now)
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
        self._crowds.admitted(address)
        if queue is None:
            queue = self._friends[address] = Queue(now)
            self._move(address, self._elsewhere, queue)
            if len(self._friends) > ADDRESSES:
                oldest, forgotten = self._friends.popitem(last=False)
                self._move(oldest, forgotten, self._elsewhere)
            if self._crowds:
                self._crowds.turn_valve()
        self._friends.move_to_end(address)

    def fined(self, address: str, turns: int, now: float) -> None:
        """Somebody from there has the key and sends what makes no sense: those who come next wait so much longer."""
        if turns and (queue := self._friends.get(address)) is not None:
            queue.turns.there_are(now)
            queue.turns.fine(turns)

    def missed(self, now: float, address: str = UNKNOWN) -> None:
        """One was taken and is gone, and perhaps nobody knows where it came from."""
        self._crowds.count(address, now)

    def closed(self, descriptor: int) -> None:
        """It has ended. If that was said of another door's, and the number is in use again, that one is let go."""
        if self._leave(descriptor) is not None:
            _let(descriptor, 1)

    def look(self, now: float) -> float:
        """Releases those whose turn it is. Returns for how many seconds to sleep at most, if anybody waits."""
        sleep = self._crowds.look(now) if self._crowds else WINDOW
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
