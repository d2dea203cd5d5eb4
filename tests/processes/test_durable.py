"""`zq spool --topic` and its readers killed at random: nothing that a publisher's flush has confirmed is lost."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import zq
from tests.cli.patient import ZQ
from tests.processes.spools import DEADLINE, Start, kill, spools
from tests.waiting import eventually

ROUNDS = 6  # kills under load


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def start(directory: Path, clean_environment: None) -> Iterator[Start]:
    """Starts `zq spool` of the topics sensors/**; returns when it is open."""
    with spools(directory, "--topic", "sensors/**") as begin:
        yield begin


def run(*arguments: str, given: str | None = None) -> str:
    ended = subprocess.run([*ZQ, *arguments], input=given, capture_output=True, text=True, timeout=DEADLINE)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def written(directory: Path) -> list[int]:
    """Where the spool's cursors stand as its files have it; what is in its memory alone a kill takes."""
    return [row.position for row in zq.SpoolDirectory(directory).cursors()]


def test_what_was_published_survives_a_kill_and_a_cursor_goes_on_where_it_stood(start: Start, directory: Path) -> None:
    spool = start()
    numbers = "".join(f"{number}\n" for number in range(1, 20_001))
    run("pub", "sensors/a", given=numbers)
    first = run("sub", "sensors/**", "--durable", "dashboard", "--since", "beginning", "-n", "5000", "--raw")
    eventually(lambda: written(directory) == [5_001])
    kill(spool)
    start()
    second = run("sub", "sensors/**", "--durable", "dashboard", "-n", "15000", "--raw")
    assert first + second == numbers
    assert run("sub", "sensors/**", "--durable", "dashboard", "--timeout", "1") == ""
    assert run("sub", "sensors/**", "--since", "-3", "-n", "3", "--raw") == "19998\n19999\n20000\n"


def test_spool_and_readers_killed_again_and_again_under_load_lose_nothing_confirmed(start: Start) -> None:
    """A publisher flushes now and then; what it has confirmed is with the cursor in the end, and repeats say so."""
    draw = random.Random(7)
    spool = start()
    stop = threading.Event()
    confirmed: list[int] = []
    problems: list[BaseException] = []

    def publish() -> None:
        try:
            with zq.Peer("publisher") as peer, peer.publisher("sensors/a") as publisher:
                publisher.wait_for_subscribers(timeout=DEADLINE)
                number = 0
                while not stop.is_set():
                    publisher.send_many(range(number, number + 200))
                    number += 200
                    publisher.flush(timeout=DEADLINE)
                    confirmed.append(number)
                    time.sleep(0.005)  # load, not a wait: the kills set the pace
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    seen: dict[int, list[bool]] = defaultdict(list)

    def read(peer: zq.Peer, seconds: float, wanted: int | None = None) -> None:
        """Some of it without acknowledgement, as a killed reader leaves it."""
        until = time.monotonic() + seconds
        with peer.subscriber("sensors/**", durable="dashboard", since="beginning") as subscriber:
            while time.monotonic() < until and (wanted is None or len(seen) < wanted):
                try:
                    with subscriber.receive(timeout=0.2) as message:
                        seen[message.data].append(message.redelivered)
                except zq.Timeout:
                    pass

    with zq.Peer("reader") as reader:
        for _ in range(ROUNDS):
            read(reader, draw.uniform(0.1, 0.8))
            kill(spool)
            spool = start()
        eventually(lambda: len(confirmed) > ROUNDS or problems, DEADLINE)
        stop.set()
        thread.join(DEADLINE)
        assert problems == []
        assert not thread.is_alive()
        read(reader, DEADLINE, confirmed[-1])
    assert [number for number in range(confirmed[-1]) if number not in seen] == []
    assert [number for number, marks in seen.items() if marks.count(False) > 1] == []
    fresh = [number for number, marks in seen.items() if not marks[0]]
    assert fresh == sorted(fresh)


def test_a_reader_that_is_killed_leaves_what_it_had_not_settled_to_the_next(start: Start) -> None:
    start()
    run("pub", "sensors/a", given="".join(f"{number}\n" for number in range(3_000)))
    with subprocess.Popen(
        [*ZQ, "sub", "sensors/**", "--durable", "dashboard", "--since", "beginning", "--raw"],
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        first = [int(reader.stdout.readline()) for _ in range(100)]
        kill(reader)
        first += [int(line) for line in reader.stdout]
    with zq.Peer("reader") as peer, peer.subscriber("sensors/**", durable="dashboard") as subscriber:
        seen = list(first)
        while len(set(seen)) < 3_000:
            with subscriber.receive(timeout=DEADLINE) as message:
                number = int(message.data)
                if number in first:
                    assert message.redelivered
                seen.append(number)
    assert sorted(set(seen)) == list(range(3_000))


def test_an_interrupted_spool_of_topics_ends_in_order(start: Start) -> None:
    spool = start()
    run("pub", "sensors/a", "1", "2", "3")
    spool.send_signal(signal.SIGTERM)
    assert spool.wait(DEADLINE) == 0
    start()
    with zq.Peer("reader") as peer, peer.subscriber("sensors/**", durable="d", since="beginning") as subscriber:
        for number in (1, 2, 3):
            with subscriber.receive(timeout=DEADLINE) as message:
                assert (message.data, message.redelivered) == (str(number), False)
