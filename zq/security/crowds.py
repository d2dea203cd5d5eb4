"""Who comes faster than anybody should, and how many of them are let through.

Being taken costs something, whatever is said afterwards. Each address has CROWD tokens, and one more each STEP seconds,
and all where nobody has been let in have four times as many together. Of these one address takes no more than of its
own, however many come from there before the valve is closed: so there have to be several.

    free       there are tokens
    rationed   they were used up: the `valve` lets only a share of those from there pass, chosen anew each WINDOW so
               that as many come as there are new tokens; free again when enough have been saved or given back

A connection that is gone before it can be asked where it came from is counted for the address that most came from
lately, if that is more than a few, or else for all where nobody has been let in.
"""

from __future__ import annotations

import itertools
import sys
from collections import OrderedDict
from typing import Any

from zq.security import valve
from zq.security.guard import ADDRESSES
from zq.security.taken import UNKNOWN, duplicate
from zq.security.tokens import Tokens

CROWD = 64  # connections taken at once
STEP = 0.1  # s from one of those tokens to the next
AGAIN = 1 / 2  # of the tokens that there are at most: with so many the valve is opened
SUSPECT = 1 / 4  # of them: who has used so many lately is counted for those who are gone before they can be asked
WINDOW = 0.25  # s over which those who come are counted while they are rationed
SURPLUS = 16  # that come in a window: so many are not waited for
FIRST, LEAST = 1 / 256, 1 / 4_096  # shares that pass; a process that does nothing else comes 10,000 times a second
NARROWER, WIDER = 1 / 16, 4.0  # at most at a time
ELSEWHERE = ""  # all addresses where nobody has been let in
CAN_RATION = sys.platform == "linux"


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


class Crowds:
    """At all doors of a peer. Belongs to the engine's thread."""

    def __init__(self, friends: OrderedDict[str, Any]) -> None:
        self._friends = friends  # the addresses where somebody has been let in; those that were used last are last
        self.doors: dict[int, str] = {}  # the descriptors that listen, and where
        self._taken: OrderedDict[str, Crowd] = OrderedDict()  # by address; those that were used last are last
        self._taken_elsewhere = Tokens(4 * CROWD, STEP / 4, 0.0)
        self._rations: dict[str, Ration] = {}  # of addresses, or ELSEWHERE
        self._suspect = UNKNOWN  # the address that most came from
        self.shut_out = 0  # how often somebody was put on rations

    def __bool__(self) -> bool:
        """Whether anybody is on rations."""
        return bool(self._rations)

    def opened(self, descriptor: int, endpoint: str) -> None:
        """Of a door: people come in there from now on."""
        self.doors[descriptor] = endpoint
        if self.shut_out:
            self.turn_valve()

    def forget(self, endpoint: str) -> None:
        """Nobody listens there any more."""
        self.doors = {descriptor: each for descriptor, each in self.doors.items() if each != endpoint}

    def admitted(self, address: str) -> None:
        """Somebody from there, who may be the first, has shown the key and gives back what he took."""
        if (taken := self._taken.get(address)) is not None:
            taken.own.give_back()
        if address not in self._friends:
            self._taken_elsewhere.give_back()

    def count(self, address: str, now: float) -> None:
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
            self.turn_valve()

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
        if tokens.there_are(now) or not CAN_RATION:
            return False
        self._rations[whose] = Ration(now)
        self.shut_out += 1
        return True

    def look(self, now: float) -> float:
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
            self.turn_valve()
        return min((ration.over(now) for ration in self._rations.values()), default=WINDOW)

    def turn_valve(self) -> None:
        """As it should be: of many addresses only those that were here last are told apart."""
        rations, others = self._rations, 1.0
        whose = [address for address in reversed(rations) if address]
        if ELSEWHERE in rations:
            others = rations[ELSEWHERE].share
            whose = list(itertools.islice(reversed(self._friends), valve.MOST))
        shares = {address: rations[address].share if address in rations else 1.0 for address in whose[: valve.MOST]}
        code = valve.program(shares, others) if rations else valve.EVERYBODY
        for descriptor in self.doors:
            if (door := duplicate(descriptor)) is not None:
                with door:
                    valve.attach(door, code)
