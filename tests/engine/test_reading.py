"""In which order an engine reads its sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from zq.core.port import Kind, Parts
from zq.engine.leader import CallerToken, Leader
from zq.engine.sockets import Events, Sockets
from zq.engine.wake import Bell


class Nobody:
    """Work that nobody does."""


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    bell = Bell()
    sockets = Sockets(Events(), bell)
    yield sockets
    sockets.close(0.0)
    bell.close()


def test_mailboxes_are_read_first_and_whole_messages_one_by_one(sockets: Sockets) -> None:
    """A caller that leads and has its message reads no further ones; what peers say of themselves is not held up."""
    satisfied = CallerToken(Leader(Nobody(), lambda: None))  # type: ignore[arg-type]
    satisfied.wake()
    seen: list[str] = []

    def received(kind: Kind, parts: Parts, connection: int | None) -> None:
        seen.append(f"{kind.value} {bytes(parts[0]).decode()}")

    sockets._events.received = received
    doors = {
        "inproc://work": sockets.listeners.work,
        "inproc://mailbox": sockets.listeners.mailbox,
    }  # these are there as soon as sent
    for door, socket in doors.items():
        socket.bind(door)
        sender = sockets._factory.context.socket(zmq.PUSH)
        with sender.connect(door):
            for number in (b"1", b"2", b"3"):
                sender.send(number)
        sender.close()
    sockets.read(satisfied)
    assert seen == ["mailbox 1", "mailbox 2", "mailbox 3", "work 1"]
    sockets.read(satisfied)
    assert seen[4:] == ["work 2"]


def test_who_publishes_and_comes_again_soon_looks_for_subscriptions_all_the_same(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal of one may be gone: publishing reads what connections have told, and the poller never hears of it."""
    monkeypatch.setattr("zq.engine.sockets.FEED", 600.0)
    fenced: list[bytes] = []
    sockets._events.fenced = fenced.append
    sockets.listeners.feed.bind("inproc://feed")
    with sockets._factory.context.socket(zmq.SUB) as subscriber:
        subscriber.connect("inproc://feed")
        assert not sockets.has_more(soon=True), "nothing was published"
        subscriber.subscribe(b"first")
        sockets.publish((b"message",))
        assert sockets.has_more(soon=True)
        sockets.read()
        assert fenced == [b"\x01first"]

        subscriber.subscribe(b"second")
        sockets.publish((b"message",))
        assert not sockets.has_more(soon=True), "it has looked just now"
        assert sockets.has_more(), "before it sleeps it looks in any case"
        sockets.read()
        assert fenced == [b"\x01first", b"\x01second"]

        monkeypatch.setattr(sockets, "_feed_at", 0.0)  # as if FEED had passed
        subscriber.subscribe(b"third")
        sockets.publish((b"message",))
        assert sockets.has_more(soon=True)
