"""The demo as a user runs it, without a terminal and with Ctrl-C; and its oracle, which has to be able to say no."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from examples.host_monitor.journal import Account, Accounts, Journal, in_hand
from examples.host_monitor.readings import ENOUGH, Machine, Threshold
from examples.host_monitor.report import report

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "examples.host_monitor"]


def numbers_of(row: str, output: str) -> list[str]:
    """The cells of one row of the final account."""
    found = re.search(rf"^{row} +(.*)$", output, re.MULTILINE)
    assert found, output
    return found[1].split()


@pytest.mark.timeout(90)
def test_the_demo_loses_nothing_although_a_worker_is_killed() -> None:
    run = subprocess.run([*COMMAND, "--duration", "6"], cwd=ROOT, capture_output=True, text=True, timeout=80)
    assert run.returncode == 0, run.stdout + run.stderr
    sent, delivered, _, _, lost = numbers_of("readings", run.stdout)
    assert int(sent) > 20
    assert delivered == sent
    assert lost == "0"
    sent, delivered, acked, redelivered, lost = numbers_of("alarms", run.stdout)
    assert int(sent) > 0
    assert acked == sent
    assert int(delivered) >= int(sent)
    assert int(redelivered) >= 1
    assert lost == "0"
    killed = re.search(r"kill -9 \d+ \((worker-\d), alarm (\d+) in hand\)", run.stdout)
    assert killed, run.stdout
    survivor = {"worker-1": "worker-2", "worker-2": "worker-1"}[killed[1]]
    assert f"alarm {killed[2]} went to {survivor}" in run.stdout
    for name in ("sensor", "worker-1", "worker-2"):
        assert re.search(rf"found {name} .*\bby\b", run.stdout)
    assert "the host directory" in run.stdout
    assert "mDNS" in run.stdout
    assert "; balanced" in run.stdout
    assert "\x1b" not in run.stdout  # plain lines without a terminal


@pytest.mark.timeout(90)
def test_ctrl_c_ends_every_process_and_shows_the_account_so_far() -> None:
    with subprocess.Popen(
        [*COMMAND, "--duration", "60"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if re.search(r"cpu \d", line):  # the first readings are shown
                break
        others = psutil.Process(demo.pid).children(recursive=True)
        assert len(others) == 4
        demo.send_signal(signal.SIGINT)
        rest, errors = demo.communicate(timeout=60)
    assert demo.returncode == 0, rest + errors
    assert numbers_of("readings", rest)[-1] == "0"
    assert not any(process.is_running() for process in others)


@pytest.mark.timeout(90)
def test_ctrl_c_right_after_the_start_is_a_clean_end_too() -> None:
    with subprocess.Popen(
        [*COMMAND, "--duration", "60"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline().startswith("Five processes")
        demo.send_signal(signal.SIGINT)
        rest, errors = demo.communicate(timeout=60)
    assert (demo.returncode, errors) == (0, ""), rest
    assert numbers_of("readings", rest)[-1] == "0"  # and most likely none was sent


@pytest.mark.parametrize("duration", ["abc", "-3", "0", "nan", "inf"])
def test_a_duration_that_is_none_is_wrong_usage(duration: str) -> None:
    run = subprocess.run([*COMMAND, f"--duration={duration}"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert run.returncode == 2
    assert "invalid seconds value" in run.stderr


@pytest.mark.timeout(90)
def test_a_killed_launcher_leaves_no_process_behind(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # for the notes, which nobody is left to remove
    with subprocess.Popen(
        [*COMMAND, "--duration", "60"], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "found" in line:
                break
        others = psutil.Process(demo.pid).children(recursive=True)
        demo.kill()
        demo.stdout.close()
    _, alive = psutil.wait_procs(others, timeout=40)
    for process in alive:
        process.kill()
    assert not alive


@pytest.mark.timeout(90)
def test_a_terminal_gets_a_live_table() -> None:
    ours, theirs = pty.openpty()
    demo = subprocess.Popen(
        [*COMMAND, "--duration", "3"], cwd=ROOT, stdout=theirs, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # how Linux says that the other end of a terminal is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert demo.wait(30) == 0, shown.decode()
    assert b"last 8 s" in shown
    assert b"\x1b[" in shown


def test_what_nobody_has_processed_is_lost() -> None:
    account = Account.of(sent=["1", "2", "3"], delivered=["1", "2", "2", "3"], processed=["1", "2", "2"])
    assert account == Account(sent=3, delivered=4, again=1, lost=1)


def test_a_run_that_loses_something_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Journal(tmp_path / "sensor.journal") as sensor, Journal(tmp_path / "worker-1.journal") as worker:
        sensor.add("published", "cpu:1")
        sensor.add("pushed", 1)
        worker.add("began", 1)
    accounts = Accounts.of(tmp_path)
    assert accounts.lost == 2  # the reading nobody received and the alarm nobody finished
    assert in_hand(tmp_path / "worker-1.journal") == "1"
    report(tmp_path, accounts)
    shown = capsys.readouterr().out
    assert numbers_of("readings", shown)[-1] == "1"
    assert numbers_of("alarms", shown)[-1] == "1"


def test_a_threshold_is_relative_to_what_came_before() -> None:
    threshold = Threshold("cpu")
    assert [threshold.judge(20.0) for _ in range(ENOUGH)] == [None] * ENOUGH
    assert threshold.judge(20.5) is None
    alarm = threshold.judge(30.0)
    assert alarm is not None
    assert alarm.value == 30.0
    assert alarm.average == pytest.approx(20.08)


def test_readings_are_of_this_machine() -> None:
    reading = Machine().read()
    assert set(reading) == {"cpu", "memory", "disk", "network"}
    assert reading["disk"] == pytest.approx(psutil.disk_usage("/").percent, abs=1.0)
    assert 0.0 < reading["memory"] <= 100.0
