"""Publishers that live for a moment: whoever subscribed before gets all of it, and nothing of them stays behind."""

from __future__ import annotations

import signal

import pytest

from tests.processes.conftest import Options, Start
from tests.waiting import eventually

MESSAGES = 1_000
ROUNDS = ["local", "tcp"] * 5


@pytest.mark.parametrize("options", ROUNDS, indirect=True)
def test_all_that_is_published_right_after_the_start_arrives(start: Start, options: Options) -> None:
    subscriber = start("subscribe", options, "numbers", MESSAGES)
    assert subscriber.hear() == "subscribed"
    publisher = start("publish", options, "numbers", MESSAGES)
    assert publisher.wait() == 0, publisher.errors()
    assert subscriber.hear() == list(range(MESSAGES))
    assert publisher.errors() == ""


@pytest.mark.parametrize("options", ROUNDS, indirect=True)
def test_all_that_is_published_right_before_the_end_arrives(start: Start, options: Options) -> None:
    """The publisher was first. It stands still while the subscriber comes, so that it has heard of nobody when it sends
    and leaves at once."""
    publisher = start("publish", options, "numbers", MESSAGES, True)
    assert publisher.hear() == "open"
    publisher.send_signal(signal.SIGSTOP)
    subscriber = start("subscribe", options, "numbers", MESSAGES)
    assert subscriber.hear() == "subscribed"
    publisher.tell()
    publisher.send_signal(signal.SIGCONT)
    assert publisher.wait() == 0, publisher.errors()
    assert subscriber.hear() == list(range(MESSAGES))
    assert publisher.errors() == ""


@pytest.mark.parametrize("options", ["local", "tcp"], indirect=True)
def test_a_publisher_does_not_leave_before_it_has_heard_everybody(start: Start, options: Options) -> None:
    """They know each other when one subscribes, and it takes a moment until the other is told."""
    subscriber = start("subscribe_and_stop", options, "numbers", MESSAGES)
    assert subscriber.hear() == "open"
    publisher = start("publish", options, "numbers", MESSAGES, True)
    assert publisher.hear() == "open"
    subscriber.tell()
    subscriber.wait_until_stopped()
    publisher.tell()
    assert publisher.hear() == "sent"
    assert publisher.is_running_after(0.3)
    subscriber.send_signal(signal.SIGCONT)
    assert publisher.wait() == 0, publisher.errors()
    assert subscriber.hear() == list(range(MESSAGES))


def test_publishers_that_come_and_go_leave_nothing_behind(start: Start, options: Options) -> None:
    subscriber = start("observe", options, "**")
    subscriber.hear()

    def publish(peers: int) -> dict[str, int]:
        publisher = start("publish_one_after_another", options, "numbers", peers, 5)
        subscriber.tell(peers * 5)
        received, taken = subscriber.hear(60.0)
        assert received == [[peer, number] for peer in range(peers) for number in range(5)]
        assert publisher.hear() == "published"
        assert publisher.wait() == 0
        return taken

    def at_rest() -> dict[str, int]:
        subscriber.tell(0)
        footprint: dict[str, int] = subscriber.hear()[1]
        return footprint

    before = publish(20)  # what is allocated once is
    after = publish(200)
    # ZeroMQ's own threads close what belonged to them when they come to it.
    eventually(lambda: at_rest()["descriptors"] <= before["descriptors"])
    assert at_rest()["threads"] <= before["threads"]
    assert after["bytes"] - before["bytes"] < 4 << 20  # 20 KB a peer


def test_every_one_of_many_short_processes_is_heard(start: Start, local: Options) -> None:
    subscriber = start("observe", local, "**")
    subscriber.hear()
    publishers = [start("publish", local, f"numbers/{index}", 5) for index in range(20)]
    subscriber.tell(len(publishers) * 5)
    received, _ = subscriber.hear()
    assert sorted(received) == sorted(list(range(5)) * len(publishers))
    assert [publisher.wait() for publisher in publishers] == [0] * len(publishers)
