"""Requests of peers that lie: each costs at most that peer."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import zq
from tests.test_bad_frames import TCP, Stranger, still_works
from tests.waiting import PATIENCE, eventually
from zq.wire.frames import Inquiry, Missing
from zq.wire.requests import (
    FAILED,
    REPLIED,
    RequestFrame,
    decode_reply,
    decode_request,
    encode_failure,
    encode_reply,
    encode_request,
)


@pytest.fixture
def liar() -> Iterator[tuple[zq.Peer, Stranger]]:
    """A peer, and a stranger that can say anything to it."""
    with zq.Peer("victim", **TCP) as victim:
        stranger = Stranger(victim)
        yield victim, stranger
        stranger.close()


def hear(stranger: Stranger, kind: bytes) -> list[bytes]:
    """The next frame of this kind, with its parts."""
    while stranger.mailbox.poll(int(PATIENCE * 1000)):
        parts = stranger.mailbox.recv_multipart()
        if parts[0][:1] == kind:
            return parts
    raise AssertionError(f"no frame of kind {kind!r} has come")


def ask(victim: zq.Peer, stranger: Stranger, replier: bytes, number: int, item: bytes = b"\x01", **rest: Any) -> None:
    fields: dict[str, Any] = {"floor": 0, "patience": 5.0, "time": 1.0} | rest
    stranger.to_mailbox.send(encode_request(victim.id, stranger.id, replier, number=number, item=item, **fields)[0])


def test_a_requester_that_lies_hurts_itself_only(liar: tuple[zq.Peer, Stranger]) -> None:
    victim, stranger = liar
    replier = victim.replier("sum")
    id = replier._core.id
    stranger.meet()
    for number in (1, 1, (1 << 64) - 1, 5, 5):
        ask(victim, stranger, id, number, floor=(1 << 64) - 1 if number > 5 else 0)
    ask(victim, stranger, id, 7, patience=math.inf, item=b"\xc1")  # does not decode
    ask(victim, stranger, bytes(16), 8)  # nobody
    ask(victim, stranger, id, 9, patience=0.0)
    stranger.tell(Inquiry(list(range(100_000))))
    stranger.tell(Missing([1, 2, 3, 1 << 62], [1, 2, 3]))
    for outcome, item in ((REPLIED, b"\x01"), (FAILED, encode_failure("x", "y"))):
        reply = encode_reply(victim.id, stranger.id, request=3, number=1, time=math.inf, outcome=outcome, item=item)
        stranger.to_work.send(reply[0])
    data = []
    while not data or data[-1] != 1:
        with replier.receive(timeout=PATIENCE) as request:
            data.append(request.data)
    still_works(victim)
    (row,) = victim.ledger().replied
    assert row.received == row.replied + row.failed + row.dropped + row.held
    assert len(data) <= 3


def test_a_request_that_does_not_decode_fails_and_reaches_no_program(liar: tuple[zq.Peer, Stranger]) -> None:
    victim, stranger = liar
    replier = victim.replier("sum")
    stranger.meet()
    ask(victim, stranger, replier._core.id, 1, item=b"\xc1")
    eventually(lambda: replier._inbox.arrived)
    with pytest.raises(zq.Timeout):
        replier.receive(timeout=0.3)
    reply = decode_reply(hear(stranger, b"q"))
    assert (reply.outcome, reply.failure()[0]) == (FAILED, "Malformed")


def answered(victim: zq.Peer, stranger: Stranger, **change: Any) -> RequestFrame:
    """Answers the victim's next request with these lies."""
    request = decode_request(hear(stranger, b"Q"))
    fields: dict[str, Any] = {"request": request.number, "number": 1, "time": 1.0, "outcome": REPLIED, "item": b"\x07"}
    stranger.to_mailbox.send(encode_reply(victim.id, stranger.id, **fields | change)[0])
    return request


def test_a_replier_that_lies_hurts_whoever_asks_it_only(liar: tuple[zq.Peer, Stranger]) -> None:
    victim, stranger = liar
    stranger.meet()
    entry = stranger.entry(2)
    stranger.tell(type(entry)(*list(vars(entry).values())[:6], [["sum", bytes(16)], ["sum", bytes(16)]]))
    victim.wait_for_repliers("sum", timeout=PATIENCE)
    outcomes: list[Any] = []

    def request() -> None:
        try:
            outcomes.append(victim.request("sum", timeout=PATIENCE).data)
        except zq.Error as error:
            outcomes.append(error)

    for change in ({"item": b"\xc1"}, {"time": -1e300}, {"outcome": 2, "item": encode_failure("Closed", "")}):
        thread = threading.Thread(target=request)
        thread.start()
        answered(victim, stranger, **change)
        thread.join(PATIENCE)
    assert isinstance(outcomes[0], zq.RemoteError)
    assert outcomes[0].type == "Malformed"
    assert outcomes[1] == 7
    assert isinstance(outcomes[2], zq.NoPeer)
    eventually(lambda: victim.ledger().balanced)
    still_works(victim)
