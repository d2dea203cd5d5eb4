"""`zq spool` killed and started again: nothing that it has confirmed is lost."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import zq
from tests.cli.patient import ZQ
from tests.processes.spools import DEADLINE, Start, kill, spools
from tests.waiting import eventually
from zq.spool.disk import DirectoryDisk
from zq.spool.log import Log
from zq.spool.record import Record
from zq.spool.store import open_store


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def start(directory: Path, clean_environment: None) -> Iterator[Start]:
    """Starts `zq spool` of the queue jobs; returns when it is open."""
    with spools(directory, "--queue", "jobs") as begin:
        yield begin


def test_what_was_stored_survives_a_kill_and_comes_once_and_in_order(start: Start) -> None:
    spool = start()
    numbers = "".join(f"{number}\n" for number in range(1, 30_001))
    pushed = subprocess.run([*ZQ, "push", "jobs"], input=numbers, capture_output=True, text=True, timeout=DEADLINE)
    assert (pushed.returncode, pushed.stdout) == (0, "")
    assert pushed.stderr.splitlines()[-1] == "zq: 30000 stored"  # and before, if a disk was slow, that it waits
    kill(spool)
    start()
    pulled = subprocess.run([*ZQ, "pull", "jobs", "-n", "30000"], capture_output=True, text=True, timeout=DEADLINE)
    assert pulled.returncode == 0
    assert pulled.stdout == numbers
    rest = subprocess.run([*ZQ, "pull", "jobs", "--timeout", "1"], capture_output=True, text=True, timeout=DEADLINE)
    assert rest.stdout == ""


def test_an_interrupted_spool_ends_in_order_and_marks_nothing_as_redelivered(start: Start) -> None:
    spool = start()
    with zq.Peer("sender") as sender:
        sender.pusher("jobs").send_many(range(100))
    spool.send_signal(signal.SIGTERM)
    assert spool.wait(DEADLINE) == 0
    start()
    with zq.Peer("receiver") as receiver, receiver.puller("jobs") as puller:
        for number in range(100):
            with puller.receive(timeout=DEADLINE) as message:
                assert (message.data, message.redelivered) == (number, False)


def test_dead_letters_survive_a_kill_of_the_spool_and_are_shown_retried_and_pulled(start: Start) -> None:
    """With reason and history, on the command line as well; the first spool is killed as soon as there are letters."""

    def run(*arguments: str) -> str:
        ended = subprocess.run([*ZQ, *arguments], capture_output=True, text=True, timeout=DEADLINE)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    spool = start()
    run("push", "jobs", *[f"order-{number}" for number in range(100)])
    with zq.Peer("receiver") as receiver:
        with receiver.puller("jobs") as puller:
            for _ in range(100):
                message = puller.receive(timeout=DEADLINE)
                message.reject(f"no {message.data}")
            eventually(lambda: receiver.dead_letters("jobs").count > 0)
            kill(spool)
        start()
        with receiver.puller("jobs") as puller:  # whatever was not settled yet comes again, those with a letter too
            while depths(receiver, "jobs") != [0]:
                try:
                    message = puller.receive(timeout=0.2)
                except zq.Timeout:
                    continue
                assert message.redelivered
                message.reject(f"no {message.data}")
        letters = receiver.dead_letters("jobs").letters
        assert {letter.data for letter in letters} == {f"order-{number}" for number in range(100)}
        assert all(letter.reason == f"no {letter.data}" for letter in letters)
        assert all([failed.outcome for failed in letter.history] == ["rejected"] for letter in letters)
    shown = run("dead", "show", "jobs", "--id", letters[7].id)
    assert letters[7].reason in shown
    run("dead", "retry", "jobs", "--id", letters[7].id)
    again = [letter.data for letter in letters if letter.id == letters[7].id]  # twice if it died before and after
    assert run("pull", "jobs", "-n", str(len(again))).split() == again
    rest = [letter.data for letter in letters if letter.id != letters[7].id]
    assert sorted(run("pull", "jobs.dead", "-n", str(len(rest))).split()) == sorted(rest)
    assert run("dead", "ls", "jobs") == ""


def depths(peer: zq.Peer, queue: str) -> list[int]:
    """Messages of it that are not settled, in each spool that has answered."""
    return [row.depth for row in peer.spooled_streams().rows if row.name == queue]


def stored_twice(directory: Path) -> list[tuple[bytes, int]]:
    """What the closed spool's one queue has more than once, by origin and number."""
    store = open_store(directory)
    (name,) = [stream.uuid for stream in store.streams() if stream.name == "jobs"]
    log = Log(DirectoryDisk(directory / name.hex()), name, wall=time.time)
    log.open()
    counts: Counter[tuple[bytes, int]] = Counter()
    at = log.first
    while items := log.read(at):
        for item in items:
            assert isinstance(item, Record)
            counts.update((run.origin, run.first + place) for run in item.runs for place in range(run.length))
            at = item.last + 1
    log.close()
    store.close()
    assert counts
    return [number for number, count in counts.items() if count > 1]


def test_a_spool_killed_again_and_again_under_load_loses_nothing(start: Start, directory: Path) -> None:
    """Pushed all the time, pulled all the time; whatever comes twice says so the second time, and nothing is stored
    twice."""
    spool = start()
    seen: Counter[int] = Counter()
    unmarked: list[int] = []
    over = threading.Event()
    sent = 0

    def pull() -> None:
        with zq.Peer("receiver") as receiver, receiver.puller("jobs") as puller:
            while not over.is_set():
                try:
                    message = puller.receive(timeout=0.2)
                except zq.Timeout:
                    continue
                if seen[message.data] and not message.redelivered:
                    unmarked.append(message.data)
                seen[message.data] += 1
                message.ack()

    puller = threading.Thread(target=pull)
    puller.start()
    try:
        with zq.Peer("sender") as sender:
            pusher = sender.pusher("jobs")
            for _ in range(6):
                until = time.monotonic() + 0.7
                while time.monotonic() < until:
                    sent += pusher.send_many(range(sent, sent + 100))
                kill(spool)
                spool = start()
            pusher.flush(timeout=DEADLINE)
        eventually(lambda: len(seen) == sent, timeout=DEADLINE)
    finally:
        over.set()
        puller.join()
    assert sorted(seen) == list(range(sent))
    assert unmarked == []
    kill(spool)
    assert stored_twice(directory) == []
