"""The network that a test talks to: makes peers, lets time pass, breaks things."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from zq.errors import Error
from zq.handles.steps import Wait, waiting
from zq.info import EventKind, PeerInfo
from zq.testing.faults import SimulatedNetwork
from zq.testing.network import START, Weather
from zq.testing.peer import SimulatedPeer
from zq.testing.process import Peer
from zq.testing.tasks import Wake, current
from zq.wire.names import check_name

LOOK_AROUND = 1.0  # s between two looks of discovery, which finds everybody who can be reached
FOREVER = 600.0  # s of simulated time that the test itself waits at most: what has not come by then never will


class Network:
    """A realm in memory, with a clock of its own. All that happens is decided by `seed`.

    Time passes while the test waits (`receive`, `flush`, `run`, `sleep`), and never otherwise. Use it in a `with`, in
    one thread; meanwhile real peers cannot be opened in that thread.
    """

    def __init__(
        self, seed: int = 0, *, weather: Weather | None = None, trace: Callable[[str], None] | None = None
    ) -> None:
        self.carrier = SimulatedNetwork(
            seed, weather, on_event=self._on_event, after_turn=self._after_turn, trace=trace
        )
        self.peers: list[Peer] = []
        self._by_process: dict[SimulatedPeer, Peer] = {}
        self._before: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        if waiting.simulated:
            raise Error("one simulated network a thread at a time")
        self._before = dict(vars(waiting))
        self.take_over()
        self._look_around()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"zq: and at its end a thread raised {failure!r}")

    def close(self) -> None:
        """Ends every process and its threads; raises what one of them raises on its way out. Idempotent."""
        if self._before is None:
            return
        failures: list[BaseException] = []
        for peer in self.peers:
            for task in peer.tasks:
                try:
                    task.unwind()
                except BaseException as failure:  # noqa: BLE001 - it is raised when all have ended
                    failures.append(failure)
            peer._simulated.end()
        vars(waiting).clear()
        vars(waiting).update(self._before)
        self._before = None
        if failures:
            raise failures[0]

    def __repr__(self) -> str:
        return f"<Network: {len(self.peers)} peers, {self.now:g} s>"

    # --- peers

    def peer(self, name: str) -> Peer:
        """A new process, found by everybody who can be reached."""
        if self._before is None:
            raise Error("the network is not open; use `with`")
        check_name(name, "peer")
        process = self.carrier.peer(name)
        peer = self._by_process[process] = Peer(self, process)
        self.peers.append(peer)
        self.carrier.introduce()
        return peer

    def _look_around(self) -> None:
        self.carrier.introduce()
        self.carrier.after(LOOK_AROUND, self._look_around)

    def _on_event(self, process: SimulatedPeer, kind: EventKind, info: PeerInfo) -> None:
        self._by_process[process]._simulated.heard(kind, info)

    def _after_turn(self, process: SimulatedPeer) -> None:
        self._by_process[process]._simulated.turned()

    # --- time

    @property
    def now(self) -> float:
        """Seconds since the network was made."""
        return self.carrier.now - START

    def run(self, seconds: float, until: Callable[[], object] = lambda: False) -> bool:
        """Lets time pass, `seconds` of it or until something holds; returns whether it does. Called by the test."""
        if current() is not None:
            raise Error("a thread of a simulated process does not run the network; it may sleep()")
        return self.carrier.run(seconds, lambda: bool(until()))

    def sleep(self, seconds: float) -> None:
        """Like time.sleep, in simulated time: for programs and handlers that take their time, and for the test."""
        self.wait(self._token(), self.carrier.now + seconds)

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Does it when `seconds` have passed: `network.after(0.5, worker.kill)`."""

        def act() -> None:
            action()

        self.carrier.after(seconds, act)

    # --- what can happen between processes

    @property
    def weather(self) -> Weather:
        """What the network does to frames from now on: latency, loss, duplicates, overtaking. Can be set."""
        return self.carrier.weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self.carrier.weather = weather

    def sever(self, one: Peer, other: Peer, *, one_way: bool = False) -> None:
        """A partition: nothing comes from `one` to `other` any more, nor back unless it is `one_way`."""
        self.carrier.sever(one.process, other.process, one_way=one_way)

    def heal(self, one: Peer, other: Peer) -> None:
        self.carrier.heal(one.process, other.process)

    def slow(self, one: Peer, other: Peer, latency: float) -> None:
        """Frames between the two take up to `latency` seconds longer."""
        self.carrier.slow(one.process, other.process, latency)

    def reset(self, one: Peer, other: Peer) -> None:
        """Every connection between the two is reset, as by a firewall; some of what is under way is lost."""
        for connection in self.carrier.connections():
            if {connection.dialler, connection.acceptor} == {one.process, other.process}:
                self.carrier.reset(connection)

    # --- how its threads wait: see zq.handles.steps and zq.testing.tasks

    def take_over(self) -> None:
        waiting.simulated = True
        waiting.now = lambda: self.carrier.now
        waiting.random = self.carrier.random.random
        waiting.sleep = self._sleep

    def soon(self, action: Callable[[], None]) -> None:
        self.carrier.after(self.carrier.random.uniform(0, self.carrier.weather.lag), action)

    @staticmethod
    def _token() -> Wake:
        task = current()
        return Wake(lambda _: None) if task is None else task.token()

    def _sleep(self, wait: Wait) -> bool:
        """What `zq.handles.steps` does with a thread, done with time."""
        token = self._token()
        wait.waiters.add(token)
        try:
            if wait.ready():
                return True
            return self.wait(token, wait.deadline) or bool(wait.ready())
        except BaseException:
            if not wait.waiters.leave(token):
                wait.waiters.wake()  # the wake was for somebody who will not look any more
            raise
        finally:
            wait.waiters.leave(token)

    def wait(self, token: Wake, deadline: float | None) -> bool:
        """Until that token is woken; False at the deadline."""
        remaining = FOREVER if deadline is None else deadline - self.carrier.now
        task = current()
        if task is None:
            if not self.carrier.run(max(remaining, 0.0), lambda: token.woken) and deadline is None:
                raise Error(f"the test waits for ever: nothing has come in {FOREVER:g} s of simulated time")
        else:
            if deadline is not None:
                self.carrier.after(max(remaining, 0.0), token.expire)
            task.pause(token)
        return token.woken
