"""`zq spool ls|show|export|purge|verify|cursors` with `--dir`: what is printed, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zq as zq_module
from tests.cli.patient import ZQ
from tests.spool.test_shelf import Made
from tests.spool.tree import tree
from tests.waiting import eventually
from zq.spool.journal import Journal
from zq.spool.store import TOPIC

DEADLINE = 30  # s for any one command; they take well under one


def zq(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*ZQ, "spool", *arguments], capture_output=True, text=True, timeout=DEADLINE)


def lines(output: str) -> list[Any]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A stopped spool: 100 messages of jobs, 10 of them settled."""
    made = Made(tmp_path / "spool")
    made.add(100)
    made.journal.settle(1, 10)
    stream, disk = made.store.stream(TOPIC, "sensors/**")
    journal = Journal(disk, stream.uuid)
    journal.open()
    journal.move("dashboard", 1)
    journal.close()
    made.close()
    return made


def test_ls_tells_depth_bytes_age_and_lag(made: Made) -> None:
    listed = zq("ls", "--dir", str(made.directory))
    assert (listed.returncode, listed.stderr) == (0, "")
    title, jobs, sensors = listed.stdout.splitlines()
    assert title.split() == ["kind", "name", "depth", "bytes", "oldest", "lag", "cursors", "damaged"]
    assert jobs.split()[:4] == ["queue", "jobs", "90", f"{made.log.size:,}"]
    assert jobs.split()[-3:] == ["90", "0", "-"]
    assert sensors.split() == ["topic", "sensors/**", "0", "0", "0", "1", "-"]
    row, _ = lines(zq("ls", "--dir", str(made.directory), "--json").stdout)
    assert (row["name"], row["depth"], row["lag"], row["first"], row["last"]) == ("jobs", 90, 90, 11, 100)
    assert row["oldest"] > 0
    assert row["damaged"] == row["problems"] == []


def test_show_prints_the_oldest_for_people_and_programs(made: Made) -> None:
    shown = zq("show", "jobs", "-n", "2", "--dir", str(made.directory))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert len(shown.stdout.splitlines()) == 4
    assert '"number": 11' in shown.stdout
    rows = lines(zq("show", "jobs", "--from", "98", "--json", "--dir", str(made.directory)).stdout)
    assert [row["number"] for row in rows] == [98, 99, 100]
    assert [row["data"]["number"] for row in rows] == [98, 99, 100]
    assert {"id", "headers", "sent_at", "stored_at", "attempt", "key", "lane", "ttl", "delay", "origin"} <= set(rows[0])


def test_export_is_all_of_it_one_object_a_line_and_changes_nothing(made: Made) -> None:
    before = tree(made.directory)
    exported = zq("export", "jobs", "--dir", str(made.directory))
    assert (exported.returncode, exported.stderr) == (0, "zq: 90 messages exported\n")
    assert [row["data"]["number"] for row in lines(exported.stdout)] == list(range(11, 101))
    exported = zq("export", "jobs", "--settled", "--dir", str(made.directory))
    assert [row["number"] for row in lines(exported.stdout)] == list(range(1, 101))
    assert tree(made.directory) == before


def test_verify_ends_with_1_and_names_file_bytes_and_messages(made: Made) -> None:
    whole = zq("verify", "--dir", str(made.directory))
    assert (whole.returncode, whole.stdout) == (0, "")
    assert "no damage" in whole.stderr
    made.flip(1, 2_000)
    damaged = zq("verify", "--dir", str(made.directory))
    assert damaged.returncode == 1
    [line] = damaged.stdout.splitlines()
    assert line.startswith(f"{made.inner}/0000000000000001.log from byte ")
    assert "lost: messages " in line
    [problem] = lines(zq("verify", "--json", "--dir", str(made.directory)).stdout)
    assert problem["last"] - problem["first"] == 9
    exported = zq("export", "jobs", "--dir", str(made.directory))
    assert exported.returncode == 1
    assert f"messages {problem['first']} to {problem['last']} are damaged and lost" in exported.stderr
    assert len(exported.stdout.splitlines()) == 80


def test_purge_empties_a_queue_and_cursors_are_listed_and_forgotten(made: Made) -> None:
    purged = zq("purge", "jobs", "--dir", str(made.directory))
    assert (purged.returncode, purged.stderr) == (0, "zq: 90 messages purged\n")
    assert lines(zq("purge", "jobs", "--json", "--dir", str(made.directory)).stdout) == [{"count": 0}]
    [row] = lines(zq("cursors", "--json", "--dir", str(made.directory)).stdout)
    assert (row["stream"], row["cursor"], row["position"], row["lag"]) == ("sensors/**", "dashboard", 1, 0)
    assert "dashboard" in zq("cursors", "--dir", str(made.directory)).stdout
    forgotten = zq("cursors", "--forget", "sensors/**", "dashboard", "--dir", str(made.directory))
    assert (forgotten.returncode, forgotten.stderr) == (0, "zq: dashboard is forgotten\n")
    assert "there are no cursors in" in zq("cursors", "--dir", str(made.directory)).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "nope"], 2, "no queue or topic 'nope'; it has jobs, sensors/**"),
        (["show", "jobs", "--from", "101"], 2, "jobs has no message 101; the newest is 100"),
        (["cursors", "--forget", "sensors/**", "nope"], 2, "no cursor 'nope'; there are 'dashboard'"),
        (["purge", "sensors/**"], 2, "trimmed by age and size"),
    ],
)
def test_what_is_not_there_is_named_and_nothing_is_touched(
    made: Made, arguments: list[str], code: int, said: str
) -> None:
    before = tree(made.directory)
    ended = zq(*arguments, "--dir", str(made.directory))
    assert ended.returncode == code
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert tree(made.directory) == before


def test_options_of_a_command_stand_behind_it(made: Made) -> None:
    ended = zq("--dir", str(made.directory), "ls")
    assert (ended.returncode, "stand behind it" in ended.stderr) == (2, True)
    ended = zq("--dir", str(made.directory))
    assert (ended.returncode, "needs --dir, and --queue or --topic" in ended.stderr) == (2, True)


@pytest.mark.parametrize("command", ["", "ls", "show", "export", "purge", "verify", "cursors"])
def test_every_command_has_help(command: str) -> None:
    ended = zq(*command.split(), "--help")
    assert ended.returncode == 0
    assert "--dir" in ended.stdout


def read_all(terminal: int) -> str:
    text = b""
    with contextlib.suppress(OSError):  # the other end of a terminal is closed
        while chunk := os.read(terminal, 4_096):
            text += chunk
    return text.decode()


def test_a_terminal_sees_progress_and_a_pipe_only_data(made: Made) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*ZQ, "spool", "export", "jobs", "--dir", str(made.directory)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
        text=True,
    ) as process:
        os.close(theirs)
        assert process.stdout is not None
        assert len(lines(process.stdout.read())) == 90
        seen = read_all(ours)
    os.close(ours)
    assert "export jobs" in seen
    assert "100%" in seen


def test_an_interrupt_ends_an_export_in_order(tmp_path: Path) -> None:
    """In the middle of it: a reader takes some and no more, then Ctrl-C comes."""
    made = Made(tmp_path / "spool")
    made.add(2_000, size=2_000)
    made.close()
    before = tree(made.directory)
    process = subprocess.Popen(
        [*ZQ, "spool", "export", "jobs", "--dir", str(made.directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert said == "zq: interrupted\n"
    assert json.loads(first)["number"] == 1
    assert len(rest.splitlines()) < 1_999
    assert tree(made.directory) == before


@pytest.fixture
def running(tmp_path: Path, clean_environment: None) -> Iterator[Path]:
    """The directory of a spool that runs, with 1,000 messages of jobs."""
    directory = tmp_path / "spool"
    command = [*ZQ, "spool", "--queue", "jobs", "--dir", str(directory), "--name", "keeper"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "is open" in process.stderr.readline()
            numbers = "".join(f"{number}\n" for number in range(1_000))
            subprocess.run([*ZQ, "push", "jobs"], input=numbers, text=True, check=True, timeout=DEADLINE)
            yield directory
        finally:
            process.terminate()
            process.communicate(timeout=DEADLINE)


def test_those_that_run_are_asked(running: Path) -> None:
    listed = zq("ls")
    assert (listed.returncode, listed.stderr) == (0, "")
    jobs = listed.stdout.splitlines()[1].split()
    assert (jobs[:3], jobs[-1]) == (["queue", "jobs", "1,000"], "keeper")
    [row, _] = lines(zq("ls", "--json").stdout)
    assert (row["depth"], row["holder"]) == (1_000, "keeper")
    exported = zq("export", "jobs")
    assert (exported.returncode, exported.stderr) == (0, "zq: 1,000 messages exported\n")
    assert [row["data"] for row in lines(exported.stdout)] == [str(number) for number in range(1_000)]
    assert [row["number"] for row in lines(zq("show", "jobs", "--json", "-n", "2", "--from", "7").stdout)] == [7, 8]
    verified = zq("verify")
    assert (verified.returncode, verified.stdout) == (0, "")
    assert "no damage" in verified.stderr
    assert "there are no cursors in realm" in zq("cursors").stderr
    beside = zq("export", "jobs", "--dir", str(running))
    assert beside.stdout.splitlines()[-1].count('"data": "999"') == 1
    refused = zq("purge", "jobs", "--dir", str(running))
    assert refused.returncode == 1
    assert "is open in process" in refused.stderr
    assert "leave out --dir" in refused.stderr
    purged = zq("purge", "jobs")
    assert (purged.returncode, purged.stderr) == (0, "zq: 1,000 messages purged\n")
    assert lines(zq("ls", "--json").stdout)[0]["depth"] == 0


def test_a_running_one_does_not_purge_what_is_in_flight(running: Path) -> None:
    with subprocess.Popen([*ZQ, "reply", "unused", "--", "true"], stderr=subprocess.DEVNULL) as stranger:
        try:
            with zq_module.Peer("worker") as worker, worker.puller("jobs", prefetch=5) as puller:
                message = puller.receive(timeout=DEADLINE)
                refused = zq("purge", "jobs")
                assert refused.returncode == 1
                assert "keeper: " in refused.stderr
                assert "in flight, at worker" in refused.stderr
                assert "purge again when all is settled" in refused.stderr
                assert lines(zq("ls", "--json").stdout)[0]["depth"] == 1_000
                message.ack()
        finally:
            stranger.terminate()


def test_a_name_that_nobody_has_is_refused(running: Path) -> None:
    for arguments in (["show", "nope"], ["export", "nope"], ["purge", "nope"], ["cursors", "--forget", "jobs", "nope"]):
        ended = zq(*arguments)
        assert ended.returncode == 2, arguments
        assert "nope" in ended.stderr


def test_topics_and_their_cursors_are_told_of_one_that_runs_and_of_one_that_is_stopped(
    tmp_path: Path, clean_environment: None
) -> None:
    directory = str(tmp_path / "spool")
    command = [*ZQ, "spool", "--topic", "sensors/**", "--dir", directory, "--name", "keeper"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "is open" in process.stderr.readline()
            numbers = [str(number) for number in range(100)]
            subprocess.run([*ZQ, "pub", "sensors/hall", *numbers], check=True, timeout=DEADLINE)
            read = ["sub", "sensors/**", "--durable", "dashboard", "--since", "beginning", "-n", "30"]
            subprocess.run([*ZQ, *read], check=True, timeout=DEADLINE, stdout=subprocess.DEVNULL)
            looked = zq_module.SpoolDirectory(directory)
            eventually(lambda: [row.position for row in looked.cursors()] == [31])  # written down when it has time
            for place in ([], ["--dir", directory]):
                [row] = lines(zq("ls", "--json", *place).stdout)
                assert (row["kind"], row["name"], row["depth"], row["lag"], row["cursors"]) == (
                    "topic", "sensors/**", 100, 70, 1
                )  # fmt: skip
                [row] = lines(zq("cursors", "--json", *place).stdout)
                assert (row["cursor"], row["position"], row["lag"]) == ("dashboard", 31, 70)
                exported = lines(zq("export", "sensors/**", *place).stdout)
                assert [(row["data"], row["topic"]) for row in exported] == [(n, "sensors/hall") for n in numbers]
                assert zq("verify", *place).returncode == 0
            refused = zq("cursors", "--forget", "sensors/**", "nope")
            assert refused.returncode != 0
            assert "no cursor 'nope'" in refused.stderr
        finally:
            process.terminate()
            process.communicate(timeout=DEADLINE)
    assert [row["position"] for row in lines(zq("cursors", "--json", "--dir", directory).stdout)] == [31]
    assert zq("verify", "--dir", directory).returncode == 0
    assert zq("cursors", "--forget", "sensors/**", "dashboard", "--dir", directory).returncode == 0
    assert zq("cursors", "--json", "--dir", directory).stdout == ""
    assert len(lines(zq("export", "sensors/**", "--dir", directory).stdout)) == 100


BROKEN = """
import zq
from zq.cli import main, spool

opened = zq.Peer.spool

def open_and_break(peer, *arguments, **options):
    running = opened(peer, *arguments, **options)

    def turn(*_):
        raise RuntimeError("on purpose")

    spool.note = lambda text: (setattr(peer._engine.node, "turn", turn), peer._engine.wake())
    return running

zq.Peer.spool = open_and_break
spool.EVERY = 0.01
main()
"""


def test_a_spool_whose_engine_fails_ends_and_says_so(tmp_path: Path, clean_environment: None) -> None:
    """Whoever has started it can start it again; a process that keeps nothing is worse than none."""
    arguments = ["spool", "--queue", "jobs", "--dir", str(tmp_path / "spool")]
    run = subprocess.run([sys.executable, "-c", BROKEN, *arguments], capture_output=True, text=True, timeout=DEADLINE)
    assert run.returncode == 1, run.stderr
    assert "on purpose" in run.stderr


INTERRUPTED = """
import os, signal
from zq.cli import main, spool

said = spool.note

def say_and_interrupt(text):
    said(text)
    if "is open" in text:
        os.kill(os.getpid(), signal.SIGTERM)

spool.note = say_and_interrupt
main()
"""


def test_a_spool_that_is_interrupted_as_soon_as_it_is_open_ends_in_order(
    tmp_path: Path, clean_environment: None
) -> None:
    arguments = ["spool", "--queue", "jobs", "--dir", str(tmp_path / "spool")]
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *arguments], capture_output=True, text=True, timeout=DEADLINE
    )
    assert (run.returncode, run.stderr.splitlines()[1:]) == (0, ["zq: interrupted"])
