"""A simulated process as a program sees it: `zq.Peer`, and what can happen to a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, Self, cast

from zq.blocking.peer import Peer as BlockingPeer
from zq.engine.engine import Engine
from zq.options import Settings
from zq.testing.engine import SimulatedEngine
from zq.testing.peer import SimulatedPeer
from zq.testing.tasks import Task, current

if TYPE_CHECKING:
    from zq.testing.realm import Network

P = ParamSpec("P")


class Peer(BlockingPeer):
    """A `zq.Peer` on a simulated network: the same handles, calls, defaults and errors; made by `Network.peer`, open
    from the start. Whoever waits lets simulated time pass instead of sleeping.

    Every peer is a process on a machine of its own.
    """

    def __init__(self, network: Network, process: SimulatedPeer) -> None:
        super().__init__(process.name)
        self.id = process.id
        self.process = process
        self.tasks: list[Task] = []
        self._network = network
        self._simulated = SimulatedEngine(process, self._task)
        self._engine = cast("Engine", self._simulated)

    @staticmethod
    def _load(settings: Mapping[str, Any]) -> Settings:
        """Nothing outside the test has a say."""
        return Settings(name=settings["name"], realm="simulated", discovery=())

    def open(self, *, timeout: float | None = 10.0) -> Self:
        """It is open already."""
        self._running()
        return self

    @property
    def alive(self) -> bool:
        """Neither killed nor closed."""
        return not self._simulated.closed

    def start(self, program: Callable[P, object], *arguments: P.args, **options: P.kwargs) -> Task:
        """Calls it in a thread of this process, as soon as simulated time passes: `peer.start(puller.run, handler)`.

        An exception that leaves it is raised in the test, by whatever call lets time pass then.
        """
        task = self._task(lambda: program(*arguments, **options), getattr(program, "__name__", "task"))
        task.start()
        return task

    def _task(self, work: Callable[[], object], name: str) -> Task:
        self._running()
        self.tasks = [task for task in self.tasks if not task.ended]
        task = Task(self._network, self.process.deliver, work, f"{self.name}: {name}")
        self.tasks.append(task)
        return task

    # --- what can happen to a process

    def kill(self, *, vanish: bool = False) -> None:
        """kill -9: what it has not sent is gone; its threads end where they wait, the calling one at once. With
        `vanish` its machine loses power: nobody is told, the others notice by its silence."""
        if self.alive:
            self._simulated.killed = True
            self._network.carrier.kill(self.process, vanish=vanish)
            self._simulated.end()
            mine = current()
            for task in self.tasks:
                if task is not mine:
                    task.kill()
            if mine in self.tasks:
                mine.kill()

    def freeze(self) -> None:
        """SIGSTOP: it does nothing until `go_on`, while its kernel still takes what is sent to it."""
        self._network.carrier.stop(self.process)

    def go_on(self) -> None:
        """SIGCONT."""
        self._network.carrier.go_on(self.process)
