"""Who does the engine's work: its thread, or a caller that waits anyway (the leader/followers pattern).

A message that wakes a sleeping caller through the engine's thread costs two changes of threads, 30 to 50 us each. So
a caller that is about to wait takes the lead: it polls the sockets and does the turns itself until what it waits for
is there. One at a time leads, whoever holds `lock`; all others wait as before, with a token.

    thread leads   a caller asks (`wanted`, and the bell) ->  the thread lets go after its turn and parks
    caller leads   it has what it waited for, or its time is up ->  nobody leads
    nobody leads   a caller takes the lead at once; the first thing the last leader then leaves for the engine, in
                   the same thread, it does itself in a turn of its own (an answer to what it received goes out
                   directly); anything more (`called`), or PARK seconds without a leader: the thread leads again

The thread parks without a limit only while somebody leads: whoever ends leading ends that sleep. If somebody else
waits for the engine at that moment, the thread leads at once, since only it or another caller would read for them.

Steps of an interrupt (KeyboardInterrupt and whatever else a signal handler raises come only in the main thread):
there `signals.Deferral` keeps handlers waiting from before the lock is asked for until it has been given back.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

from zq.engine.signals import Deferral
from zq.engine.wake import ThreadToken

WORTH_IT = 0.001  # s; who waits less does not lead, since changing the leader takes a tenth of that
SOON = 300e-6  # s; after a wait no longer than that the next one is not expected to be longer
SEVERAL = (os.cpu_count() or 1) > 1  # with one processor nobody else works while we stay awake
PARK = 0.002  # s without a leader until the engine's thread leads again: how late what comes meanwhile may be


class Work(Protocol):
    """What there is to lead."""

    def read(self, token: CallerToken | None) -> None:
        """Takes in what has come, but no more once `token` is woken."""

    def turn(self) -> None:
        """Everything that is to be done now."""

    def serve(self) -> None:
        """Only what callers have left; the rest is due at the next turn."""

    def sleep(self, until: float | None, *, awake: bool = False) -> None:
        """Until there is something to do, or that time (monotonic seconds) at the latest.

        `awake`: that will be soon, and the processor should not go to sleep.
        """

    def rest(self) -> bool:
        """Nobody leads for now, and whoever leaves something has to call; False if it cannot be left alone."""

    @property
    def over(self) -> bool:
        """Nobody needs to lead any more."""

    def fail(self, error: BaseException) -> None:
        """Something of the above has raised."""


class CallerToken(ThreadToken):
    """For a thread that leads while it waits, if it can."""

    __slots__ = ("_leader", "woken")

    def __init__(self, leader: Leader) -> None:
        super().__init__()
        self._leader = leader
        self.woken = False

    def wake(self) -> bool:
        self.woken = True
        leader = self._leader
        if leader.leading is not self:
            return super().wake()
        if not leader.is_me():  # else it looks at `woken` next
            leader.ring()
        return True

    def wait(self, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        if timeout is None or timeout >= WORTH_IT:
            woken = self._leader.lead(self, deadline)
            if woken is not None:
                return woken
        return super().wait(None if deadline is None else deadline - time.monotonic())


class Leader:
    """`lead`, `act` and `call` are for callers, `run` is the engine's thread."""

    def __init__(self, work: Work, ring: Callable[[], object]) -> None:
        self._work = work
        self.ring = ring  # ends the sleep of whoever leads
        self.lock = threading.Lock()
        self._chair = threading.Lock()  # of the one caller that may lead
        self._wanted = False  # a caller has the chair and wants the lock
        self.leading: CallerToken | None = None  # of the caller who leads
        self._led = 0  # how often one has
        self._undone = False  # the last turn was cut short, or brief: whoever leads next begins with the rest
        self._called = False  # the thread is to lead
        self._parked = False  # without a limit
        self._park = ThreadToken()
        self.nobody = False  # nobody leads, and the thread is parked
        self._answered = False  # the last leader has acted since, so that it may expect an answer
        self._quick = False  # the last wait was short
        self._last = 0  # the thread that has just led, and may act
        self._owner = 0  # the thread that is in a turn
        self._deferral = Deferral(ring)
        self._main = threading.main_thread().ident

    def is_me(self) -> bool:
        """Whether this thread is in a turn."""
        return self._owner == threading.get_ident()

    # --- the engine's thread

    def run(self) -> None:
        """Leads, or is parked while callers do, until the work is over; holds the lock then."""
        work = self._work
        self._owner = threading.get_ident()
        self.lock.acquire()
        while not work.over:
            work.read(None)
            work.turn()
            self._undone = False
            if not self._wanted:
                work.sleep(None)
            if self._wanted and not work.over:
                self._called = False  # whoever called before had its turn
                self._owner = 0
                self.lock.release()
                self._stand_by()
                self.lock.acquire()
                self._owner = threading.get_ident()
                self.nobody = False

    def _stand_by(self) -> None:
        """Parked until nobody has led for PARK seconds or it is called."""
        while not (self._called or self._work.over):
            led = self._led
            if self.leading or self._wanted:
                self._parked = True
                if self.leading or self._wanted:
                    self._park.wait(None)
                self._parked = False
            elif not self._park.wait(PARK) and led == self._led and not (self.leading or self._wanted):
                return

    # --- callers

    def call(self) -> None:
        """The thread is to lead: there is something to do, and it may be that nobody leads."""
        self._called = True
        self._park.wake()

    def act(self) -> bool:
        """Does in this thread, if it has just led, what it has left; False when somebody else has to do it."""
        me = threading.get_ident()
        if self._last != me:
            return False
        self._last = 0
        deferral = self._deferral if me == self._main else None
        try:
            if deferral is not None:
                deferral.begin()
            if self._work.over or not (self.nobody and self.lock.acquire(False)):
                return False
            self._owner = me
            try:
                self._undone = True
                self._work.serve()
            except BaseException as error:  # noqa: BLE001 - everybody hears of it, this caller too
                self._work.fail(error)
            self._owner = 0
            if self._quick:
                os.sched_yield()  # to ZeroMQ's thread, which is to send it and may have no other processor
            self._answered = True
            self._let_go()
        finally:
            if deferral is not None:
                deferral.end()
        return True

    def lead(self, token: CallerToken, deadline: float | None) -> bool | None:
        """Does the engine's work until `token` is woken (True) or the time has come (False).

        None: another caller leads, or the work is over; the caller has to wait as others do.
        """
        if self._work.over:
            return None
        me = threading.get_ident()
        deferral = self._deferral if me == self._main else None
        try:
            if deferral is not None:
                deferral.begin()
            while True:
                if not self._chair.acquire(False):
                    return None
                self._lead(token, deadline, deferral, me)
                if token.woken:
                    return True
                if deferral is None or not deferral.noted:
                    return None if self._work.over else False
                deferral.end()  # a handler that does not raise is no reason to end the wait
                deferral.begin()
        finally:
            if deferral is not None:
                deferral.end()

    def _lead(self, token: CallerToken, deadline: float | None, deferral: Deferral | None, me: int) -> None:
        """Until there is a reason to stop, which may be that the work is over."""
        work = self._work
        if not self.lock.acquire(False):
            self._wanted = True
            self.ring()
            self.lock.acquire()  # after the turn that is under way at the latest
        started = time.monotonic()
        awake_until = started + SOON if self._answered and self._quick and SEVERAL else 0.0
        self.leading = token
        self._wanted = self.nobody = False
        self._led += 1
        try:
            self._owner = me
            if self._undone and not work.over:  # it may have ended while we waited for the lock
                self._undone = False
                work.turn()
            self._owner = 0
            while not (token.woken or work.over):
                if deferral is not None and deferral.noted:
                    break
                if deadline is not None and time.monotonic() >= deadline:
                    break
                work.sleep(deadline, awake=awake_until > 0.0 and time.monotonic() < awake_until)
                self._owner = me
                work.read(token)
                self._undone = token.woken  # the rest comes when the program has what it waits for
                if not self._undone:
                    work.turn()
                self._owner = 0
        except BaseException as error:  # noqa: BLE001 - everybody hears of it, this caller too
            work.fail(error)
        finally:
            self._owner = 0
            self._last = me
            self._answered = False
            self._quick = token.woken and time.monotonic() - started < SOON
            self.leading = None
            self._let_go()
            self._chair.release()

    def _let_go(self) -> None:
        self.nobody = True
        at_rest = self._work.rest()
        self.lock.release()
        if not at_rest:
            self.call()
        elif self._parked:
            self._park.wake()

    def abandon(self) -> None:
        """In a forked child. Another thread may have led."""
        self._deferral.abandon()
