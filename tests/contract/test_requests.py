"""Requests: one replier, at most once, and every way in which one can end."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

import zq
from tests.contract.faces import PATIENCE, Face, eventually

Serve = Callable[[Any, Callable[[Any], object]], Any]


@pytest.fixture
def asker(face: Face) -> Any:
    return face.peer("asker")


@pytest.fixture
def server(face: Face) -> Any:
    return face.peer("server")


@pytest.fixture
def serve(face: Face, asker: Any) -> Serve:
    """Opens a replier that answers with `handler`, for as long as it is open."""

    def begin(peer: Any, handler: Callable[[Any], object], service: str = "sum", **options: Any) -> Any:
        replier = peer.replier(service)
        face.background(replier.run, face.handler(handler), **options)
        asker.wait_for_repliers(service, timeout=PATIENCE)
        return replier

    return begin


def later(face: Face, call: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
    return face.background(call, *arguments, **options)


def requested(peer: Any) -> zq.RequestedService:
    (row,) = peer.ledger().requested
    assert row.balanced
    return row


def test_a_request_gets_the_reply_of_its_replier(face: Face, asker: Any, server: Any) -> None:
    with server.replier("sum") as replier:
        asker.wait_for_repliers("sum", timeout=PATIENCE)
        reply = later(face, asker.request, "sum", [1, 2], headers={"trace": "1"})
        request = replier.receive(timeout=PATIENCE)
        assert (request.data, dict(request.headers), request.service) == ([1, 2], {"trace": "1"}, "sum")
        assert (request.sender, request.topic, request.queue, request.attempt) == (asker.id, None, None, 1)
        request.reply(3, headers={"took": "0"})
        message = reply.result(PATIENCE)
    assert (message.data, dict(message.headers), message.service) == (3, {"took": "0"}, "sum")
    assert message.sender == server.id
    assert message.id != request.id
    assert message.id.startswith(server.id.hex())


def test_iterating_yields_every_request(face: Face, asker: Any, server: Any) -> None:
    replier = server.replier("sum")
    asker.wait_for_repliers("sum", timeout=PATIENCE)

    def serve() -> int:
        served = 0
        for request in replier:
            with request:
                request.reply(request.data + 1)
            served += 1
        return served

    served = face.background(serve)
    assert [asker.request("sum", number).data for number in range(20)] == list(range(1, 21))
    replier.close()
    assert served.result(PATIENCE) == 20


def test_a_peer_answers_itself(asker: Any, serve: Serve) -> None:
    serve(asker, lambda request: request.data * 2)
    assert asker.request("sum", 21).data == 42


def test_many_requests_at_once_get_their_own_replies(face: Face, asker: Any, server: Any, serve: Serve) -> None:
    serve(server, lambda request: request.data * 2, concurrency=4)
    calls = [later(face, asker.request, "sum", number) for number in range(200)]
    assert [call.result(PATIENCE).data for call in calls] == [2 * number for number in range(200)]
    assert (requested(asker).replied, requested(asker).sent) == (200, 0)


@pytest.mark.parametrize("size", [100, 70_000, 3_000_000])
def test_data_of_any_size_goes_both_ways(asker: Any, server: Any, serve: Serve, size: int) -> None:
    serve(server, lambda request: request.data)
    text = "x" * size
    assert asker.request("sum", text, timeout=PATIENCE).data == text
    sent = {"bytes": bytes(size), "memory": memoryview(bytes(size)), "list": [text[: size // 2]] * 2}
    got = asker.request("sum", sent, timeout=PATIENCE).data
    assert got == sent
    assert [type(value) for value in got.values()] == [bytes, memoryview, list]


def test_arrays_go_both_ways(asker: Any, server: Any, serve: Serve) -> None:
    numpy = pytest.importorskip("numpy")
    serve(server, lambda request: {"doubled": request.data["array"] * 2})
    array = numpy.arange(100_000, dtype="f4").reshape(100, 1_000)
    reply = asker.request("sum", {"array": array}, timeout=PATIENCE)
    assert reply.data["doubled"].dtype == array.dtype
    assert (reply.data["doubled"] == array * 2).all()


def test_what_a_handler_raises_is_the_requesters_error(
    face: Face, asker: Any, server: Any, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(request: Any) -> None:
        raise KeyError(f"no account {request.data}")

    serve(server, handler)
    with pytest.raises(zq.RemoteError) as caught:
        asker.request("sum", 7)
    assert (caught.value.type, caught.value.text) == ("KeyError", "'no account 7'")
    assert "Traceback" not in str(caught.value)
    assert "failed with" in caplog.text


def test_fail_says_type_and_text(face: Face, asker: Any, server: Any, serve: Serve) -> None:
    serve(server, lambda request: request.fail("no such thing", type="NotFound"))
    with pytest.raises(zq.RemoteError, match="NotFound: no such thing") as caught:
        asker.request("sum")
    assert (caught.value.type, caught.value.text) == ("NotFound", "no such thing")


def test_a_with_block_replies_none_or_fails_with_what_leaves_it(face: Face, asker: Any, server: Any) -> None:
    replier = server.replier("sum")
    asker.wait_for_repliers("sum", timeout=PATIENCE)
    calls = [later(face, asker.request, "sum", number) for number in range(2)]
    with replier.receive(timeout=PATIENCE):
        pass
    with pytest.raises(ZeroDivisionError), replier.receive(timeout=PATIENCE):
        1 / 0  # noqa: B018
    done = {type(call.exception(PATIENCE)) for call in calls}
    assert done == {type(None), zq.RemoteError}


def test_a_reply_that_cannot_be_sent_is_refused_and_another_can_be_given(face: Face, asker: Any, server: Any) -> None:
    replier = server.replier("sum")
    asker.wait_for_repliers("sum", timeout=PATIENCE)
    call = later(face, asker.request, "sum")
    request = replier.receive(timeout=PATIENCE)
    with pytest.raises(zq.Refused):
        request.reply({1, 2})
    assert not request.answered
    request.reply([1, 2])
    assert call.result(PATIENCE).data == [1, 2]


def test_what_a_handler_returns_that_cannot_be_sent_is_the_requesters_error(
    asker: Any, server: Any, serve: Serve
) -> None:
    serve(server, lambda request: object())
    with pytest.raises(zq.RemoteError) as caught:
        asker.request("sum")
    assert caught.value.type == "Refused"


def test_of_several_answers_the_first_counts(asker: Any, server: Any, serve: Serve) -> None:
    def handler(request: Any) -> int:
        request.reply(1)
        request.reply(2)
        request.fail("no")
        request.ack()
        return 3

    serve(server, handler)
    assert [asker.request("sum").data for _ in range(3)] == [1, 1, 1]


def test_nobody_replies(asker: Any, server: Any) -> None:
    asker.wait_for_peers(1, timeout=PATIENCE)
    started = time.monotonic()
    with pytest.raises(zq.NoPeer, match="nobody in the realm replies to sum"):
        asker.request("sum", timeout=PATIENCE)
    with pytest.raises(zq.NoPeer):
        list(asker.request_all("sum"))
    assert time.monotonic() - started < PATIENCE / 2
    assert (requested(asker).asked, requested(asker).nobody) == (1, 1)


def test_a_queue_is_no_service(asker: Any, server: Any) -> None:
    server.puller("jobs")
    eventually(lambda: [queue for queue in asker.queues() if queue.name == "jobs"])
    with pytest.raises(zq.Refused, match="jobs is a queue, not a service; push to it"):
        asker.request("jobs")


@pytest.mark.parametrize("name", ["", "a b", "a//b", "x" * 256, 7])
def test_bad_names_are_refused(asker: Any, name: Any) -> None:
    for call in (asker.request, asker.replier, asker.wait_for_repliers):
        with pytest.raises(zq.Refused):
            call(name)
    with pytest.raises(zq.Refused):
        list(asker.request_all(name))


def test_data_and_times_that_cannot_be_are_refused(asker: Any) -> None:
    with pytest.raises(zq.Refused):
        asker.request("sum", {1, 2})
    with pytest.raises(zq.Refused):
        asker.request("sum", headers={"a": 1})
    for timeout in (-1, float("nan"), "1", True):
        with pytest.raises(zq.Refused):
            asker.request("sum", timeout=timeout)
    assert asker.ledger().requested == ()


def test_a_timeout_is_kept_and_a_late_reply_is_counted_and_dropped(face: Face, asker: Any, server: Any) -> None:
    replier = server.replier("sum")
    asker.wait_for_repliers("sum", timeout=PATIENCE)
    started = time.monotonic()
    call = later(face, asker.request, "sum", timeout=4.0)  # time enough to reach the program even on a bad day
    request = replier.receive(timeout=PATIENCE)
    with pytest.raises(zq.Timeout, match=r"no reply from sum within 4\.0 s"):
        call.result(PATIENCE)
    assert time.monotonic() - started >= 4.0
    request.reply("too late")
    eventually(lambda: requested(asker).late == 1)
    (row,) = server.ledger().replied
    assert (row.received, row.replied, row.dropped, row.held) == (1, 1, 0, 0)


def test_what_has_been_given_up_is_not_begun(face: Face, asker: Any, server: Any) -> None:
    busy, quick = server.replier("sum"), face.peer("quick").replier("sum")
    asker.wait_for_repliers("sum", 2, timeout=PATIENCE)
    replies = asker.request_all("sum", "given up", timeout=PATIENCE)
    first = later(face, next, replies)
    quick.receive(timeout=PATIENCE).reply("enough")
    assert first.result(PATIENCE).data == "enough"
    eventually(lambda: server.ledger().replied[0].received == 1)
    replies.close()  # long before its patience has passed
    quick.close()
    eventually(lambda: requested(asker).abandoned == 1)
    call = later(face, asker.request, "sum", "wanted", timeout=PATIENCE)
    eventually(lambda: server.ledger().replied[0].received == 2)
    request = busy.receive(timeout=PATIENCE)
    assert request.data == "wanted"
    request.reply("done")
    assert call.result(PATIENCE).data == "done"
    (row,) = server.ledger().replied
    assert (row.received, row.replied, row.dropped, row.held) == (2, 1, 1, 0)


def test_a_replier_that_closes_fails_what_it_has(face: Face, asker: Any, server: Any) -> None:
    replier = server.replier("sum")
    asker.wait_for_repliers("sum", timeout=PATIENCE)
    calls = [later(face, asker.request, "sum", number, timeout=PATIENCE) for number in range(3)]
    request = replier.receive(timeout=PATIENCE)
    eventually(lambda: server.ledger().replied[0].received == 3)
    replier.close()
    errors = sorted(type(call.exception(PATIENCE)).__name__ for call in calls)
    assert errors == ["NoPeer", "NoPeer", "RemoteError"]
    request.reply("too late")
    with pytest.raises(zq.NoPeer):
        asker.request("sum", timeout=PATIENCE)


def test_what_a_closing_replier_had_not_begun_goes_to_another(
    face: Face, asker: Any, server: Any, serve: Serve
) -> None:
    idle = server.replier("sum")
    asker.wait_for_repliers("sum", timeout=PATIENCE)
    call = later(face, asker.request, "sum", 7, timeout=PATIENCE)
    eventually(lambda: server.ledger().replied[0].received == 1)
    serve(face.peer("another"), lambda request: request.data)
    asker.wait_for_repliers("sum", 2, timeout=PATIENCE)
    idle.close()
    assert call.result(PATIENCE).data == 7


def test_a_peer_that_closes_fails_what_its_repliers_have(face: Face, asker: Any, server: Any) -> None:
    replier = server.replier("sum")
    asker.wait_for_repliers("sum", timeout=PATIENCE)
    call = later(face, asker.request, "sum", timeout=PATIENCE)
    request = replier.receive(timeout=PATIENCE)
    server.close()
    error = call.exception(PATIENCE)
    assert isinstance(error, zq.RemoteError)
    assert error.type == "Closed"
    request.reply(1)


def test_a_request_that_waits_when_its_own_peer_closes_ends(face: Face, server: Any) -> None:
    replier = server.replier("sum")
    peer = face.peer("short-lived")
    peer.wait_for_repliers("sum", timeout=PATIENCE)
    call = later(face, peer.request, "sum", timeout=None)
    request = replier.receive(timeout=PATIENCE)
    peer.close()
    assert isinstance(call.exception(PATIENCE), zq.Closed)
    request.reply(1)


@pytest.mark.filterwarnings("always::ResourceWarning")
def test_a_request_that_is_collected_unanswered_warns_and_fails(face: Face, asker: Any, server: Any) -> None:
    replier = server.replier("sum")
    asker.wait_for_repliers("sum", timeout=PATIENCE)
    call = later(face, asker.request, "sum", timeout=PATIENCE)

    def take_and_forget(warned: pytest.WarningsRecorder) -> None:
        replier.receive(timeout=PATIENCE)
        gc.collect()
        eventually(lambda: warned.list)  # a thread that has handed it over may hold it for another moment

    with pytest.warns(ResourceWarning, match="collected without an answer") as warned:
        take_and_forget(warned)
    error = call.exception(PATIENCE)
    assert isinstance(error, zq.RemoteError)
    assert error.type == "Unanswered"


def test_requests_go_to_who_has_the_fewest(face: Face, asker: Any, server: Any) -> None:
    busy, free = server.replier("sum"), face.peer("another").replier("sum")
    asker.wait_for_repliers("sum", 2, timeout=PATIENCE)
    calls = [later(face, asker.request, "sum", number, timeout=PATIENCE) for number in range(2)]
    held, other = busy.receive(timeout=PATIENCE), free.receive(timeout=PATIENCE)
    other.reply("free")
    eventually(lambda: requested(asker).sent == 1)
    for _ in range(3):
        calls.append(later(face, asker.request, "sum", timeout=PATIENCE))
        free.receive(timeout=PATIENCE).reply("free")
        calls[-1].result(PATIENCE)
    held.reply("busy")
    assert sorted(call.result(PATIENCE).data for call in calls) == ["busy", "free", "free", "free", "free"]


def test_request_all_asks_every_replier_and_ends_with_the_last(
    face: Face, asker: Any, server: Any, serve: Serve
) -> None:
    serve(server, lambda request: f"server {request.data}")
    serve(asker, lambda request: f"asker {request.data}")
    asker.wait_for_repliers("sum", 2, timeout=PATIENCE)
    started = time.monotonic()
    replies = [reply.data for reply in asker.request_all("sum", 7, timeout=PATIENCE)]
    assert sorted(replies) == ["asker 7", "server 7"]
    assert time.monotonic() - started < PATIENCE / 2


def test_request_all_passes_over_failures_and_ends_at_its_timeout(
    face: Face, asker: Any, server: Any, serve: Serve
) -> None:
    serve(server, lambda request: request.fail("no"))
    serve(server, lambda request: 1)
    server.replier("sum")  # nobody serves it
    asker.wait_for_repliers("sum", 3, timeout=PATIENCE)
    started = time.monotonic()
    assert [reply.data for reply in asker.request_all("sum", timeout=4.0)] == [1]  # time enough for those who answer
    assert 4.0 <= time.monotonic() - started < 2 * PATIENCE
    row = requested(asker)
    assert (row.replied, row.failed, row.abandoned) == (1, 1, 1)


def test_request_all_can_be_left_early(asker: Any, server: Any, serve: Serve) -> None:
    serve(server, lambda request: 1)
    server.replier("sum")
    asker.wait_for_repliers("sum", 2, timeout=PATIENCE)
    replies = asker.request_all("sum", timeout=PATIENCE)
    assert next(replies).data == 1
    replies.close()
    eventually(lambda: requested(asker).abandoned == 1)


def test_repliers_are_listed_and_waited_for(asker: Any, server: Any) -> None:
    with pytest.raises(zq.Timeout, match="fewer than 1 repliers of sum"):
        asker.wait_for_repliers("sum", timeout=0.05)
    server.replier("sum")
    asker.wait_for_repliers("sum", timeout=PATIENCE)
    (info,) = [info for info in asker.peers() if info.id == server.id]
    assert info.replies == ("sum",)


def test_a_replier_receives_like_a_puller(asker: Any, server: Any) -> None:
    replier = server.replier("sum")
    with pytest.raises(zq.Timeout):
        replier.receive(timeout=0)
    assert "sum" in repr(replier)
    replier.close()
    replier.close()
    with pytest.raises(zq.Closed):
        replier.receive()


def test_threads_share_a_replier(face: Face, asker: Any, server: Any, serve: Serve) -> None:
    both = threading.Barrier(2, timeout=PATIENCE)

    def handler(request: Any) -> int:
        return both.wait()

    serve(server, handler, concurrency=2)
    calls = [later(face, asker.request, "sum", timeout=PATIENCE) for _ in range(2)]
    assert sorted(call.result(PATIENCE).data for call in calls) == [0, 1]


def test_the_ledger_balances_on_both_sides(face: Face, asker: Any, server: Any, serve: Serve) -> None:
    serve(server, lambda request: 1 // request.data, concurrency=2)
    calls = [later(face, asker.request, "sum", number % 3, timeout=PATIENCE) for number in range(60)]
    while not all(call.done() for call in calls):
        assert asker.ledger().balanced
        assert server.ledger().balanced
    assert (requested(asker).replied, requested(asker).failed) == (40, 20)
    (row,) = server.ledger().replied
    assert (row.received, row.replied, row.failed) == (60, 40, 20)
    (other,) = asker.ledger(realm=True).others
    assert other.replied == (row,)
