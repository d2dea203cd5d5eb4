"""Threads of simulated processes: one runs at a time, and which one is decided by the simulated clock alone.

A task is a real thread, so that whatever a program does (loops, `with`, handlers that call each other) works in it as
it is. But it runs only while the loop of the network waits for it, and gives control back as soon as it has to wait:

    loop   comes to an event that wakes the task ->  resume: lets the task go, waits
    task   runs until it waits or ends           ->  pause: lets the loop go, waits for the next resume

So two runs with one seed take the same steps. A task whose process was killed ends where it waits, by Killed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from zq.errors import Error

Action = Callable[[], None]

ENDINGS = 100  # times that a task is told to end; one that goes on catching it is left where it is
BUSY = 60.0  # s of real time a task may run without waiting; then the test fails rather than hangs

_here = threading.local()  # .task: of a thread that is one


class Killed(BaseException):
    """Ends the threads of a process that was killed. `finally` runs, as nothing can keep it from doing so; what is
    sent or settled in there never leaves the process."""


class Wake:
    """The token of one wait: woken, or expired, once. `act` is called then."""

    __slots__ = ("_act", "over", "woken")

    def __init__(self, act: Callable[[Wake], None]) -> None:
        self._act = act
        self.woken = False
        self.over = False

    def wake(self) -> bool:
        if self.over:
            return False
        self.woken = self.over = True
        self._act(self)
        return True

    def expire(self) -> None:
        if not self.over:
            self.over = True
            self._act(self)


class Loop(Protocol):
    """What a task needs of the network."""

    def soon(self, action: Action) -> None: ...

    def take_over(self) -> None:
        """The calling thread waits in simulated time from now on."""

    def wait(self, token: Wake, deadline: float | None) -> bool: ...


class Task:
    """One thread of a process. `deliver` says when that can run: now, later if it is stopped, never if it is dead."""

    def __init__(
        self, loop: Loop, deliver: Callable[[Action], None], work: Callable[[], object], name: str = "task"
    ) -> None:
        self.name = name
        self.ended = False
        self._loop = loop
        self._deliver = deliver
        self._work = work
        self._killed = False
        self._awaited: Wake | None = None
        self._joining: list[Wake] = []
        self._error: BaseException | None = None
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __repr__(self) -> str:
        return f"<Task {self.name}: {'ended' if self.ended else 'waiting' if self._awaited else 'running'}>"

    def start(self) -> None:
        self._thread.start()
        self._awaited = self.token()
        self._awaited.wake()

    def join(self) -> None:
        """Waits for its end."""
        while not self.ended:
            task = current()
            token = Wake(lambda _: None) if task is None else task.token()
            self._joining.append(token)
            self._loop.wait(token, None)

    def kill(self) -> None:
        """Ends it, at once if it is the caller. One that has not waited since goes on until it does."""
        self._killed = True
        if current() is self:
            raise Killed(self.name)
        self._loop.soon(self.unwind)

    # --- in the loop

    def token(self) -> Wake:
        return Wake(lambda token: self._loop.soon(lambda: self._deliver(lambda: self._go_on(token))))

    def _go_on(self, token: Wake) -> None:
        if self._awaited is token and not self.ended:
            self._resume()

    def _resume(self) -> None:
        self._awaited = None
        self._go.release()
        if not self._back.acquire(timeout=BUSY):
            raise Error(f"{self!r} has been busy for {BUSY:g} s; only waiting with zq lets simulated time pass")
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def unwind(self) -> None:
        """Ends it where it waits."""
        self._killed = True
        for _ in range(ENDINGS):
            if self.ended:
                return
            self._resume()

    # --- in the thread

    def _run(self) -> None:
        _here.task = self
        self._go.acquire()
        self._loop.take_over()
        try:
            if not self._killed:
                self._work()
        except Killed:
            pass  # as it should
        except BaseException as error:  # noqa: BLE001 - it is raised again in the loop, which is the test
            self._error = error
        finally:
            self.ended = True
            for token in self._joining:
                token.wake()
            self._back.release()

    def pause(self, token: Wake) -> None:
        """Until that token is woken or has expired."""
        self._awaited = token
        self._back.release()
        self._go.acquire()
        if self._killed:
            raise Killed(self.name)


def current() -> Task | None:
    """The task that is calling; None for the test itself."""
    task: Task | None = getattr(_here, "task", None)
    return task
