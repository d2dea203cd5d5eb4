"""What is sent is what arrives: values, large buffers, arrays, headers, ids, times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

import zq
from tests.contract.faces import PATIENCE, Face

MIB = 1 << 20


@pytest.fixture(params=["topic", "queue"])
def pair(request: pytest.FixtureRequest, face: Face) -> tuple[Any, Any]:
    sender, receiver = face.peer("sender"), face.peer("receiver")
    if request.param == "topic":
        ends = sender.publisher("news"), receiver.subscriber("news")
        ends[0].wait_for_subscribers()
    else:
        ends = sender.pusher("jobs"), receiver.puller("jobs")
    return ends


def carried(pair: tuple[Any, Any], data: Any, **options: Any) -> zq.Message:
    sender, receiver = pair
    sender.send(data, **options)
    message: zq.Message = receiver.receive(timeout=PATIENCE)
    message.ack()
    return message


@pytest.mark.parametrize(
    "data",
    [
        None,
        True,
        0,
        -(1 << 63),
        (1 << 64) - 1,
        0.1,
        "",
        "grüße",
        b"",
        b"\0\xff",
        [],
        {},
        {"a": [1, {"b": None}], "c": b"x"},
        datetime(2024, 2, 29, 12, 30, 15, 123456, UTC),
    ],
    ids=repr,
)
def test_plain_values_arrive_as_they_are(face: Face, data: Any) -> None:
    peer = face.peer("alone")
    pair = peer.pusher("jobs"), peer.puller("jobs")
    arrived = carried(pair, data).data
    assert (arrived, type(arrived)) == (data, type(data))


def test_tuples_arrive_as_lists_and_times_as_utc(pair: tuple[Any, Any]) -> None:
    noon = datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    arrived = carried(pair, (1, (2, 3), noon)).data
    assert arrived == [1, [2, 3], noon]
    assert arrived[2].tzinfo is UTC


@pytest.mark.parametrize("size", [100, MIB, 16 * MIB])
def test_buffers_arrive_as_what_was_sent(pair: tuple[Any, Any], size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    array = np.frombuffer(data, dtype=np.uint8)
    arrived = carried(pair, {"bytes": data, "view": memoryview(data), "array": array}).data
    assert type(arrived["bytes"]) is bytes
    assert arrived["bytes"] == data
    assert type(arrived["view"]) is memoryview
    assert arrived["view"].readonly
    assert arrived["view"] == data
    assert type(arrived["array"]) is np.ndarray
    assert np.array_equal(arrived["array"], array)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_keep_type_shape_and_order(pair: tuple[Any, Any], order: Any) -> None:
    array = np.asarray(np.arange(128 * 1024, dtype="<f8").reshape(128, 1024), order=order)
    arrived = carried(pair, array).data
    assert (arrived.dtype, arrived.shape) == (array.dtype, array.shape)
    assert arrived.flags[f"{order}_CONTIGUOUS"]
    assert np.array_equal(arrived, array)


def test_what_is_written_to_a_buffer_after_send_does_not_arrive(pair: tuple[Any, Any]) -> None:
    sender, receiver = pair
    array = np.zeros(MIB, dtype=np.uint8)
    sender.send(array)
    array[:] = 1
    message = receiver.receive(timeout=PATIENCE)
    message.ack()
    assert not message.data.any()


def test_small_and_large_messages_stay_in_order(pair: tuple[Any, Any]) -> None:
    sender, receiver = pair
    data = [number if number % 3 else bytes([number]) * 100_000 for number in range(60)]
    sender.send_many(data)
    arrived = []
    while len(arrived) < 60:
        message = receiver.receive(timeout=PATIENCE)
        message.ack()
        arrived.append(message.data)
    assert arrived == data


def test_headers_and_an_id_arrive(pair: tuple[Any, Any]) -> None:
    message = carried(pair, 1, headers={"traceparent": "00-ab", "content-type": "x/y"}, id="order-17")
    assert dict(message.headers) == {"traceparent": "00-ab", "content-type": "x/y"}
    assert message.id == "order-17"
    assert dict(carried(pair, 2).headers) == {}


def test_an_id_names_its_origin_and_every_message_has_another(pair: tuple[Any, Any]) -> None:
    messages = [carried(pair, number) for number in range(50)]
    assert len({message.id for message in messages}) == 50
    sender = messages[0].sender
    assert {message.sender for message in messages} == {sender}
    assert all(message.id.startswith(f"{sender.hex()}-") for message in messages)


def test_sent_at_is_when_it_was_taken_by_the_senders_clock(pair: tuple[Any, Any]) -> None:
    before = datetime.now(UTC)
    message = carried(pair, 1)
    assert before - timedelta(milliseconds=1) <= message.sent_at <= datetime.now(UTC)
    assert message.sent_at.tzinfo is UTC


def test_a_message_shows_itself(pair: tuple[Any, Any]) -> None:
    message = carried(pair, {"celsius": 21.4})
    assert repr(message) == f"<Message {message.topic or message.queue}: {{'celsius': 21.4}}>"
