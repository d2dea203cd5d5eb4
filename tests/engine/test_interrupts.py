"""KeyboardInterrupt at every step of send and receive at which the interpreter delivers one.

CPython looks for signals when a function begins, when a loop goes back and when a call has returned. A tracer counts
these places in zq's own frames and calls SIGINT's handler at the n-th, as CPython would; n goes on until the call ends
without having got that far.
After each interrupt everything must be accounted for and nothing may be stuck.
"""

from __future__ import annotations

import contextlib
import dis
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import zq
from tests.waiting import PATIENCE, eventually
from zq.handles import incoming

# Messages that an interrupt takes out of the program's hands are given back, and say so.
# Nothing but the next call helps what an interrupt has left: a caller that is stuck does not come back.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*without being settled:ResourceWarning"),
    pytest.mark.usefixtures("unhelped"),
]

ZQ = str(Path(zq.__file__).parent)
DELIVERS = {"RESUME", "JUMP_BACKWARD", "CALL", "CALL_KW", "CALL_FUNCTION_EX"}
TOOL = 4  # an id of sys.monitoring that nobody has by custom
SAFE = ("/wire/",)  # packs and unpacks values; changes nothing


class Interrupter:
    """Raises KeyboardInterrupt at the n-th place within zq, in this thread."""

    def __init__(self, place: int) -> None:
        self._left = place
        self._last: dict[FrameType, str] = {}
        self._thread = threading.get_ident()
        self.raised = False

    def _step(self, frame: FrameType, offset: int) -> None:
        """The frame is about to execute what stands there."""
        before = self._last.get(frame)
        step = self._last[frame] = dis.opname[frame.f_code.co_code[offset]]
        if before in DELIVERS and step != "PUSH_EXC_INFO":  # there the call has not returned but raised
            if self._left == 0:
                self.raised = True
                self._left = -1
                signal.getsignal(signal.SIGINT)(signal.SIGINT, frame)  # type: ignore[operator,misc]
            self._left -= 1

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not is_watched(frame.f_code):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            self._step(frame, frame.f_lasti)
        return self._trace

    def _instruct(self, code: CodeType, offset: int) -> None:
        if threading.get_ident() == self._thread and is_watched(code):
            self._step(sys._getframe(1), offset)

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        if sys.version_info < (3, 12):
            before = sys.gettrace()
            sys.settrace(self._trace)
            try:
                yield
            finally:
                sys.settrace(before)
        else:  # there a tracer is told of a function's opcodes only when the function runs the next time
            monitoring = sys.monitoring
            monitoring.use_tool_id(TOOL, "interrupter")
            monitoring.register_callback(TOOL, monitoring.events.INSTRUCTION, self._instruct)
            monitoring.set_events(TOOL, monitoring.events.INSTRUCTION)
            try:
                yield
            finally:
                monitoring.set_events(TOOL, 0)
                monitoring.free_tool_id(TOOL)

    def run(self, call: Callable[[], Any]) -> Any:
        """What `call` returns, or None if it was interrupted."""
        try:
            with self._watching():
                return call()
        except KeyboardInterrupt:
            return None
        finally:
            self._last.clear()


def is_watched(code: CodeType) -> bool:
    return code.co_filename.startswith(ZQ) and not any(part in code.co_filename for part in SAFE)


def each_place(call: Callable[[], Any], prepare: Callable[[], Any] | None = None) -> Iterator[tuple[bool, Any]]:
    """Interrupts `call` at each place in turn; yields whether it was and what it returned, for the test to check."""
    place = 0
    while True:
        if prepare is not None:
            prepare()
        interrupter = Interrupter(place)
        result = interrupter.run(call)
        yield interrupter.raised, result
        if not interrupter.raised:
            assert place > 3, "the tracer has seen nothing"
            return
        place += 1


def received_until(receiver: Any, last: object) -> list[Any]:
    """The data of all messages up to `last`, without repetitions."""
    data: list[Any] = []
    while last not in data:
        with receiver.receive(timeout=PATIENCE) as message:
            if message.data not in data:
                data.append(message.data)
    return data


@pytest.fixture
def peer(clean_environment: None) -> Iterator[zq.Peer]:
    with zq.Peer("alone") as peer:
        yield peer


def rest_of(pusher: zq.Pusher, puller: zq.Puller) -> set[Any]:
    """The data of all that comes until everything is settled; some twice: given back while they were made ready."""
    data: set[Any] = set()

    def confirmed() -> bool:
        try:
            while True:
                data.add(take_one(puller))
        except zq.Timeout:
            pass
        try:
            pusher.flush(timeout=0.05)
        except zq.Undelivered:
            return False
        return True

    eventually(confirmed)
    return data


def take_one(puller: zq.Puller) -> Any:
    with puller.receive(timeout=0) as message:
        return message.data


class Source:
    """Sends two messages before each call, so that all calls find the same: both here, or nothing until they wait."""

    def __init__(self, sender: Any, receiver: Any, *, late: bool) -> None:
        self._sender, self._receiver, self._late = sender, receiver, late
        self._thread: threading.Thread | None = None
        self.sent = 0

    def prepare(self) -> None:
        inbox = self._receiver._inbox
        assert not inbox.arrived
        assert not inbox.handing.ready
        if self._late:
            self._thread = threading.Thread(target=self._send_late, args=(time.monotonic() + 0.01,))
            self._thread.start()
        else:
            self._send()
            eventually(lambda: inbox.arrived)

    def _send_late(self, deadline: float) -> None:
        eventually(lambda: self._receiver._waiters or time.monotonic() > deadline)
        self._send()

    def _send(self) -> None:
        self._sender.send_many([self.sent, self.sent + 1])
        self.sent += 2

    def finish(self) -> None:
        if self._thread is not None:
            self._thread.join()


@pytest.mark.parametrize(
    ("most", "late", "chunk"),
    [(1, False, 32), (3, False, 32), (3, False, 1), (1, True, 32), (3, True, 32)],
    ids=["one", "both", "both, decoded one by one", "one, late", "both, late"],
)
def test_an_interrupted_receive_of_a_queue_loses_nothing(
    peer: zq.Peer, most: int, late: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "CHUNK", chunk)
    pusher, puller = peer.pusher("a"), peer.puller("a")
    source = Source(pusher, puller, late=late)
    got: set[int] = set()

    def receive() -> list[zq.Message]:
        return [puller.receive()] if most == 1 else puller.receive_many(most, timeout=PATIENCE)

    pusher.wait_for_pullers()
    for _, result in each_place(receive, source.prepare):
        source.finish()
        for message in result or []:
            message.ack()
            got.add(message.data)
        del result
        got |= rest_of(pusher, puller)
        assert len(got) == source.sent
    assert got == set(range(source.sent))
    ledger = peer.ledger()
    assert ledger.balanced
    assert ledger.held[0].acked == source.sent


@pytest.mark.parametrize("late", [False, True], ids=["here", "late"])
def test_an_interrupted_receive_of_a_topic_loses_at_most_what_it_had_in_hand(peer: zq.Peer, late: bool) -> None:
    publisher, subscriber = peer.publisher("a"), peer.subscriber("a")
    source = Source(publisher, subscriber, late=late)
    lost = places = 0
    publisher.wait_for_subscribers()
    for interrupted, message in each_place(lambda: subscriber.receive(timeout=PATIENCE), source.prepare):
        source.finish()
        first = source.sent - 2
        publisher.send("marker")
        got = ([] if message is None else [message.data]) + received_until(subscriber, "marker")
        assert got in ([first, first + 1, "marker"], [first + 1, "marker"])
        lost += len(got) < 3
        places += interrupted
        assert interrupted or len(got) == 3
    assert lost < places / 4  # it has one in hand only at the end
    eventually(lambda: peer.ledger().subscribed[0].queued == 0)
    assert peer.ledger().balanced


@pytest.mark.parametrize("kind", ["topic", "queue"])
def test_an_interrupted_send_has_sent_or_not_and_nothing_is_stuck(peer: zq.Peer, kind: str) -> None:
    sender: Any = peer.publisher("a") if kind == "topic" else peer.pusher("a")
    receiver: Any = peer.subscriber("a") if kind == "topic" else peer.puller("a")
    number = 0

    def send() -> bool:
        sender.send(number)
        return True

    for interrupted, done in each_place(send):
        sender.send(f"after {number}")
        data = received_until(receiver, f"after {number}")
        assert data in ([number, f"after {number}"], [f"after {number}"])
        assert interrupted or (done and len(data) == 2)
        number += 1
    assert peer.ledger().balanced


def test_an_interrupted_send_of_something_large_leaves_room_and_lock_as_they_were(peer: zq.Peer) -> None:
    pusher, puller = peer.pusher("a"), peer.puller("a")
    large = bytes(100_000)
    for _ in each_place(lambda: pusher.send(large)):
        pusher.send("after")
        assert received_until(puller, "after")[-1] == "after"
    pusher.flush()
    assert pusher._outgoing.large_in == pusher._outgoing.large_out


def test_an_interrupted_send_many_has_sent_a_beginning(peer: zq.Peer) -> None:
    pusher, puller = peer.pusher("a"), peer.puller("a")
    for turn, _ in enumerate(each_place(lambda: pusher.send_many(range(20)))):
        pusher.send(f"after {turn}")
        data = received_until(puller, f"after {turn}")
        assert data[:-1] == list(range(len(data) - 1))
    pusher.flush()


@pytest.mark.parametrize("settle", ["ack", "nack", "reject", "give_back"])
def test_an_interrupted_settling_is_done_or_not_and_never_forgotten(peer: zq.Peer, settle: str) -> None:
    """Where it was not done the message is given back when it is collected."""
    pusher, puller = peer.pusher("a"), peer.puller("a")
    arguments = ("no",) if settle == "reject" else ()

    pusher.wait_for_pullers()
    messages: list[zq.Message] = []

    def prepare() -> None:
        pusher.send("work")
        messages[:] = [puller.receive(timeout=PATIENCE)]

    for _ in each_place(lambda: getattr(messages.pop(), settle)(*arguments), prepare):
        rest_of(pusher, puller)
    assert peer.ledger().balanced


def test_ctrl_c_wakes_a_waiting_receive_and_what_comes_then_is_for_the_next(peer: zq.Peer) -> None:
    pusher, puller = peer.pusher("a"), peer.puller("a")
    for number in range(20):

        def interrupt(number: int = number) -> None:
            eventually(lambda: puller._waiters)
            pusher.send(number)  # at the same time as the interrupt
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            message = puller.receive(timeout=PATIENCE)
            thread.join()
            eventually(lambda: False, timeout=PATIENCE)
        except KeyboardInterrupt:
            thread.join()
        try:
            message.ack()
        except UnboundLocalError:
            message = puller.receive(timeout=PATIENCE)
            message.ack()
        assert message.data == number
        del message


def test_ctrl_c_ends_a_send_that_waits_for_room(peer: zq.Peer) -> None:
    pusher = peer.pusher("a", window=1)
    pusher.send(0)
    assert peer._engine is not None
    eventually(lambda: pusher._outgoing.limit == 0)

    def interrupt() -> None:
        eventually(lambda: pusher._stream.room)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        pusher.send(1)
    thread.join()
    assert not pusher._stream.room
    puller = peer.puller("a")
    assert received_until(puller, 0) == [0]
    pusher.send(2)
    assert received_until(puller, 2) == [2]
