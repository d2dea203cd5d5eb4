"""What cannot be is refused: with the right error, which says what to do, and everything goes on as before."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zq
import zq.aio
from tests.waiting import PATIENCE

TCP: dict[str, Any] = {"insecure": True, "interfaces": ["127.0.0.1"], "discovery": ["host"]}


@pytest.fixture
def peer(clean_environment: None) -> Iterator[zq.Peer]:
    with zq.Peer("alone") as peer:
        yield peer


class Pair:
    """A sender and a receiver within one peer, and proof that they still work."""

    def __init__(self, peer: zq.Peer, kind: str) -> None:
        self.peer = peer
        self.sender: Any = peer.publisher("a/b") if kind == "topic" else peer.pusher("jobs")
        self.receiver: Any = peer.subscriber("a/b") if kind == "topic" else peer.puller("jobs")

    def still_works(self) -> None:
        """Nothing that was refused has been sent, and what is sent now arrives."""
        self.sender.send("fine")
        with self.receiver.receive(timeout=PATIENCE) as message:
            assert message.data == "fine"
        self.sender.flush()
        with pytest.raises(zq.Timeout):
            self.receiver.receive(timeout=0)
        assert self.peer.ledger().balanced


@pytest.fixture(params=["topic", "queue"])
def pair(request: pytest.FixtureRequest, peer: zq.Peer) -> Pair:
    return Pair(peer, request.param)


# --- names


BAD_NAMES = ["", "/", "a/", "/a", "a//b", "a b", "grün", "a\n", "a\0", "*", "a/*", "x" * 256, 7, None, b"a"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
@pytest.mark.parametrize("make", ["publisher", "pusher", "puller"])
def test_bad_names_are_refused(peer: zq.Peer, make: str, name: Any) -> None:
    with pytest.raises(zq.Refused) as caught:
        getattr(peer, make)(name)
    assert isinstance(caught.value, ValueError)
    assert repr(name)[:40] in str(caught.value)
    assert peer.topics() == peer.queues() == []


@pytest.mark.parametrize("name", ["", "a b", None], ids=repr)
def test_bad_names_in_the_shortcuts_are_refused(peer: zq.Peer, name: Any) -> None:
    for shortcut in (peer.publish, peer.push):
        with pytest.raises(zq.Refused):
            shortcut(name, 1)
        with pytest.raises(zq.Refused):
            shortcut(name, 1)  # the second time it is not there either
    assert peer.topics() == peer.queues() == []


def test_the_queue_of_the_dead_is_not_pushed_to(peer: zq.Peer) -> None:
    with pytest.raises(zq.Refused, match=r"\.dead are reserved"):
        peer.pusher("jobs.dead")
    peer.puller("jobs.dead").close()
    with pytest.raises(zq.Refused, match=r"filter 'orders/new\.dead': .*\.dead are reserved"):
        peer.puller("jobs", topics=["orders/new.dead"])


@pytest.mark.parametrize("text", ["", "a//b", "/**", "a**", "a/b*", "***", "a b", "x/" * 200, 7, None], ids=repr)
def test_bad_filters_are_refused(peer: zq.Peer, text: Any) -> None:
    for filters in ((text,), ("good", text)):
        with pytest.raises(zq.Refused):
            peer.subscriber(*filters)
    assert list(peer._engine.node.receptions) == []  # type: ignore[union-attr]


def test_a_subscriber_without_a_filter_is_told_of_the_one_for_all(peer: zq.Peer) -> None:
    with pytest.raises(zq.Refused, match=r"'\*\*' is every topic"):
        peer.subscriber()


@pytest.mark.parametrize("setting", ["name", "realm"])
@pytest.mark.parametrize("value", ["", "a b", "x" * 256, 7])
def test_a_peer_with_a_bad_name_or_realm_is_refused(setting: str, value: Any) -> None:
    with pytest.raises(zq.Refused, match=setting):
        zq.Peer(**{setting: value})


# --- data


def nested(depth: int) -> Any:
    data: Any = 1
    for _ in range(depth):
        data = [data]
    return data


CYCLE: list[Any] = [1]
CYCLE.append(CYCLE)

BAD_DATA = [
    ({"a": [1, {2}]}, r"data\['a'\]\[1\].*use a list"),
    ({1: "x"}, r"keys are str.*use str\(key\)"),
    ({"a": {None: 1}}, r"data\['a'\]"),
    (1 << 64, "64 bit"),
    ([-(1 << 63) - 1], r"data\[0\]"),
    (datetime(2024, 1, 1), "time zone"),  # noqa: DTZ001 - that is what is wrong with it
    (date(2024, 1, 1), "isoformat"),
    (timedelta(1), "total_seconds"),
    (Decimal("1.5"), "use a str"),
    (object(), "object"),
    (print, "cannot be sent"),
    ("\ud800", "surrogate"),
    ({"\ud800": 1}, "surrogate"),
    (nested(33), "32"),
    (CYCLE, "contains itself"),
    (np.array([1, "a", None], dtype=object), "object"),
    ([np.array([object()])], r"data\[0\]"),
    (memoryview(np.arange(3)), "cast"),
    (3j, "complex"),
]


@pytest.mark.parametrize(("data", "says"), BAD_DATA, ids=[says for _, says in BAD_DATA])
def test_data_that_cannot_be_sent_says_where_and_what_to_do(pair: Pair, data: Any, says: str) -> None:
    with pytest.raises(zq.Refused, match=says):
        pair.sender.send(data)
    with pytest.raises(zq.Refused):
        pair.sender.send_many([data])
    pair.still_works()


def test_send_many_sends_what_comes_before_the_bad_item(pair: Pair) -> None:
    with pytest.raises(zq.Refused):
        pair.sender.send_many([1, 2, {3}, 4])
    data = []
    for _ in range(2):
        with pair.receiver.receive(timeout=PATIENCE) as message:
            data.append(message.data)
    assert data == [1, 2]
    pair.still_works()


def test_an_iterator_that_fails_loses_nothing_and_its_exception_passes(pair: Pair) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pair.sender.send_many(items())
    with pair.receiver.receive(timeout=PATIENCE) as message:
        assert message.data == 1
    pair.still_works()


def test_data_that_is_too_large_is_refused(pair: Pair) -> None:
    part = bytes(64 << 20)
    with pytest.raises(zq.Refused, match="268,435,456"):
        pair.sender.send([part] * 5)
    with pytest.raises(zq.Refused, match="268,435,456"):
        pair.sender.send({"a": part, "b": [part] * 4})
    pair.still_works()


@pytest.mark.parametrize(
    "options",
    [
        {"headers": "text"},
        {"headers": {"a": 1}},
        {"headers": {1: "a"}},
        {"headers": [("a", "b")]},
        {"headers": {"a": "x" * 10_000}},
        {"headers": {f"h{number}": "" for number in range(100)}},
        {"headers": {"a": "\ud800"}},
        {"id": 7},
        {"id": "x" * 300},
    ],
    ids=lambda options: repr(options)[:40],
)
def test_bad_headers_and_ids_are_refused(pair: Pair, options: dict[str, Any]) -> None:
    with pytest.raises(zq.Refused):
        pair.sender.send(1, **options)
    pair.still_works()


# --- times and numbers


BAD_TIMES = [-1, -0.001, float("nan"), float("-inf"), "1", True, timedelta(seconds=1)]


@pytest.mark.parametrize("timeout", BAD_TIMES, ids=repr)
def test_bad_timeouts_are_refused_everywhere(peer: zq.Peer, timeout: Any) -> None:
    publisher, pusher = peer.publisher("a"), peer.pusher("b")
    subscriber, puller = peer.subscriber("a"), peer.puller("b", topics=["c"])
    for call in (
        lambda: publisher.send(1, timeout=timeout),
        lambda: publisher.send_many([1], timeout=timeout),
        lambda: publisher.flush(timeout=timeout),
        lambda: publisher.wait_for_subscribers(timeout=timeout),
        lambda: publisher.close(timeout=timeout),
        lambda: pusher.send(1, timeout=timeout),
        lambda: pusher.flush(timeout=timeout),
        lambda: pusher.wait_for_pullers(timeout=timeout),
        lambda: subscriber.receive(timeout=timeout),
        lambda: subscriber.receive_many(1, timeout=timeout),
        lambda: puller.receive(timeout=timeout),
        lambda: puller.close(timeout=timeout),
        lambda: puller.unbind(timeout=timeout),
        lambda: peer.publish("a", 1, timeout=timeout),
        lambda: peer.push("b", 1, timeout=timeout),
        lambda: peer.wait_for_peers(1, timeout=timeout),
        lambda: peer.settle(timeout=timeout),
        lambda: list(peer.watch(timeout=timeout)),
        lambda: peer.ledger(realm=True, timeout=timeout),
        lambda: peer.strangers(ask=timeout),
        lambda: peer.close(timeout=timeout),
        lambda: zq.Peer("other").open(timeout=timeout),
    ):
        with pytest.raises(zq.Refused, match="seconds >= 0"):
            call()
    assert peer.ledger().held[0].taken == peer.ledger().published[0].published == 0
    publisher.send(1)
    pusher.send(2)
    assert subscriber.receive(timeout=PATIENCE).data == 1
    puller.receive(timeout=PATIENCE).ack()


@pytest.mark.parametrize(
    ("make", "options"),
    [
        ("publisher", {"patience": -1}),
        ("publisher", {"patience": "long"}),
        ("publisher", {"patience": float("nan")}),
        ("subscriber", {"patience": -1}),
        ("subscriber", {"patience": "long"}),
        ("subscriber", {"slow": "never"}),
        ("subscriber", {"slow": None}),
        ("pusher", {"window": 0}),
        ("pusher", {"window": -5}),
        ("pusher", {"window": 1.5}),
        ("pusher", {"window_bytes": 0}),
        ("puller", {"prefetch": 0}),
        ("puller", {"prefetch": "all"}),
        ("puller", {"prefetch_bytes": 0}),
        ("puller", {"prefetch_bytes": None}),
    ],
    ids=repr,
)
def test_options_that_cannot_be_are_refused(peer: zq.Peer, make: str, options: dict[str, Any]) -> None:
    with pytest.raises(zq.Refused, match=next(iter(options))):
        getattr(peer, make)("name", **options)
    assert peer.topics() == peer.queues() == []
    getattr(peer, make)("name").close()


@pytest.mark.parametrize("most", [0, -1])
def test_receiving_less_than_one_message_is_refused(pair: Pair, most: int) -> None:
    with pytest.raises(zq.Refused, match="at least 1"):
        pair.receiver.receive_many(most)
    pair.still_works()


@pytest.mark.parametrize("delay", BAD_TIMES[:5], ids=repr)
def test_a_bad_delay_settles_nothing(peer: zq.Peer, delay: Any) -> None:
    pair = Pair(peer, "queue")
    pair.sender.send(1)
    with pair.receiver.receive(timeout=PATIENCE) as message, pytest.raises(zq.Refused, match="delay"):
        message.nack(delay=delay)
    pair.sender.flush()
    assert peer.ledger().held[0].acked == 1


def test_flush_until_something_else_is_refused(peer: zq.Peer) -> None:
    with pytest.raises(zq.Refused, match="processed"):
        peer.pusher("jobs").flush(until="delivered")  # type: ignore[arg-type]


# --- where it is used


def test_a_peer_of_another_loop_is_refused_and_still_works_in_its_own() -> None:
    async def main() -> None:
        async with zq.aio.Peer("alone") as peer:
            subscriber, publisher = peer.subscriber("a"), peer.publisher("a")

            async def elsewhere() -> None:
                for call in (peer.peers, peer.topics, lambda: peer.publisher("b"), lambda: peer.subscriber("b")):
                    with pytest.raises(zq.Refused, match="event loop it was opened in"):
                        call()
                for wait in (
                    peer.publish("a", "elsewhere"),
                    peer.wait_for_peers(1),
                    peer.ledger(),
                    publisher.send("elsewhere"),
                    publisher.flush(),
                    subscriber.receive(),
                    peer.close(),
                ):
                    with pytest.raises(zq.Refused, match="event loop it was opened in"):
                        await wait

            await asyncio.to_thread(asyncio.run, elsewhere())
            await publisher.send("here")
            assert (await subscriber.receive(timeout=PATIENCE)).data == "here"

    asyncio.run(main())


def test_a_peer_is_refused_in_a_later_loop_of_the_same_thread() -> None:
    async def open_one() -> tuple[zq.aio.Peer, zq.aio.Publisher]:
        peer = await zq.aio.Peer("alone").open()
        return peer, peer.publisher("a")

    async def use(publisher: zq.aio.Publisher) -> None:
        with pytest.raises(zq.Refused, match="event loop it was opened in"):
            await publisher.send("elsewhere")

    with asyncio.Runner() as own:
        peer, publisher = own.run(open_one())
        asyncio.run(use(publisher))
        own.run(peer.close())


@pytest.mark.parametrize("option", [{"retain": True}, {"patience": None}])
def test_options_that_differ_say_what_is_open(peer: zq.Peer, option: dict[str, Any]) -> None:
    pair = Pair(peer, "topic")
    with pytest.raises(zq.Refused, match=r"a/b is open with .*share one stream"):
        peer.publisher("a/b", **option)
    pair.still_works()


# --- where it lives


def refused_directory(directory: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ZQ_HOST_DIR", str(directory))
    with pytest.raises(zq.AccessDenied) as caught:
        zq.Peer("alone").open()
    assert str(directory) in str(caught.value)
    return str(caught.value)


def test_a_host_directory_that_others_can_enter(host_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_to_all = host_directory / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o755)
    assert "chmod 700" in refused_directory(open_to_all, monkeypatch)
    assert list(open_to_all.iterdir()) == []
    open_to_all.chmod(0o700)
    with zq.Peer("alone"):
        pass


def test_a_host_directory_that_is_a_link(host_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (host_directory / "real").mkdir(mode=0o700)
    (host_directory / "link").symlink_to("real")
    assert "symbolic link" in refused_directory(host_directory / "link", monkeypatch)


def test_a_host_directory_that_is_a_file(host_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (host_directory / "file").touch()
    assert "no directory" in refused_directory(host_directory / "file", monkeypatch)


def test_a_host_directory_where_none_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "ZQ_HOST_DIR" in refused_directory(Path("/proc/nowhere/zq"), monkeypatch)


@pytest.mark.root
def test_a_host_directory_of_somebody_else(host_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = host_directory / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 4711, 4711)
    assert "belongs to user 4711" in refused_directory(theirs, monkeypatch)


def test_a_host_directory_that_cannot_be_written(host_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    assert "chmod 700" in refused_directory(host_directory, monkeypatch)


def test_a_host_directory_with_too_long_a_path(host_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZQ_HOST_DIR", str(host_directory / ("x" * 100)))
    with pytest.raises(zq.Refused, match="shorter path"):
        zq.Peer("alone").open()


@pytest.mark.parametrize("interface", ["no-such0", "203.0.113.77"])
def test_an_interface_that_is_not_there(interface: str) -> None:
    with pytest.raises(zq.Refused, match=interface):
        zq.Peer("alone", insecure=True, interfaces=[interface], discovery=["host"]).open()


def test_a_port_in_use_says_which() -> None:
    with socket.socket() as ours:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that who asks for it may listen
        ours.bind(("127.0.0.1", 0))
        port = ours.getsockname()[1]
        says = f"port {port} is in use on 127.0.0.1; choose another port"
        with socket.create_server(("127.0.0.1", port)), pytest.raises(zq.Refused, match=says):
            zq.Peer("alone", port=port, **TCP).open()
        with zq.Peer("alone", port=port, **TCP):
            pass


def test_a_range_of_ports_that_is_full_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("ZQ_PORTS", f"{port}-{port}")
        with pytest.raises(zq.Refused, match=r"in use on 127\.0\.0\.1; choose another ports"):
            zq.Peer("alone", **TCP).open()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"interfaces": ["127.0.0.1"]}, "insecure"),
        ({"port": 20_000}, "insecure"),
        ({"insecure": True, "port": 0}, "65535"),
        ({"discovery": ["pigeon"]}, "mdns"),
        ({"discovery": ["dir:/mnt"]}, "insecure"),
        ({"insecure": True, "discovery": ["dir:mnt"]}, "absolute path"),
        ({"seeds": ["gateway:20000"]}, "insecure"),
        ({"insecure": True, "seeds": ["gateway"]}, "not host:port"),
    ],
    ids=repr,
)
def test_settings_that_contradict_or_do_not_exist(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(zq.Refused, match=says):
        zq.Peer("alone", **settings)
