"""`zq request` and `zq reply` between real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

import zq
from tests.cli.patient import ZQ

DEADLINE = 30  # s for any one command; they take well under one

Start = Callable[..., "subprocess.Popen[str]"]


def run(*arguments: str, text: str = "") -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    done = subprocess.run([*ZQ, *arguments], input=text, capture_output=True, text=True, timeout=DEADLINE)
    return done.returncode, done.stdout, done.stderr


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=DEADLINE)
    return process.returncode, output, errors


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `zq reply` with these arguments; returns when it can be asked."""
    running: list[subprocess.Popen[str]] = []

    def begin(service: str, *arguments: str, count: int = 1) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*ZQ, "reply", service, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        with zq.Peer("test") as peer:
            peer.wait_for_repliers(service, count, timeout=DEADLINE)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()


def test_what_the_command_prints_is_the_reply(start: Start) -> None:
    replier = start("upper", "tr a-z A-Z", "-n", "3")
    assert run("request", "upper", "hello") == (0, "HELLO\n", "")
    assert run("request", "upper", "-", text="one\ntwo\n") == (0, "ONE\nTWO\n", "")
    assert ended(replier) == (0, "", "")


def test_json_goes_in_and_comes_out(start: Start) -> None:
    start("echo", "cat")
    code, output, errors = run("request", "echo", '{"a": [1, 2]}', "--json")
    assert (code, errors) == (0, "")
    row = json.loads(output)
    assert (row["service"], row["data"]) == ("echo", {"a": [1, 2]})
    assert run("request", "echo", "007", "--format", "{service}={data}") == (0, "echo=007\n", "")


def test_json_of_a_command_is_what_it_says(start: Start) -> None:
    start("count", "wc -c", "--json")
    assert json.loads(run("request", "count", "hello", "--json")[1])["data"] == 6  # the line end is one
    assert run("request", "count")[1] == "0\n"  # no data is nothing


def test_raw_bytes_come_back_as_they_are(start: Start) -> None:
    start("camera", r"printf '\211PNG\r\n'", "--raw")
    done = subprocess.run([*ZQ, "request", "camera", "--raw"], capture_output=True, timeout=DEADLINE)
    assert done.stdout == b"\x89PNG\r\n"


def test_a_command_that_fails_is_the_requesters_error(start: Start) -> None:
    replier = start("bad", "echo out; echo no such account >&2; exit 3", "-n", "1")
    code, output, errors = run("request", "bad")
    assert (code, output) == (1, "")
    assert errors == "zq: exit 3: no such account\n"
    assert ended(replier)[0] == 0


def test_a_command_that_is_killed_says_by_what(start: Start) -> None:
    start("killed", "kill -9 $$")
    assert run("request", "killed")[2] == "zq: exit 137\n"


def test_a_command_that_prints_no_json_although_it_should(start: Start) -> None:
    start("bad", "echo '{'")
    code, _, errors = run("request", "bad")
    assert code == 1
    assert errors.startswith("zq: BadReply: not JSON")


def test_one_failure_costs_no_other_request(start: Start) -> None:
    start("half", "read -r x; echo $((10 / x))")
    code, output, errors = run("request", "half", "2", "0", "5")
    assert (code, output) == (1, "5\n2\n")
    assert errors.startswith("zq: argument 2: exit ")


def test_nobody_replies_is_an_error_and_no_reply_in_time_a_timeout(start: Start) -> None:
    code, output, errors = run("request", "nobody")
    assert (code, output) == (1, "")
    assert "nobody in the realm replies to nobody" in errors
    start("slow", "sleep 5")
    code, _, errors = run("request", "slow", "--timeout", "0.2")
    assert code == 3
    assert "no reply from slow within 0.2 s" in errors


def test_all_repliers_are_asked(start: Start) -> None:
    start("who", "echo first")
    start("who", "echo second", count=2)
    code, output, _ = run("request", "who", "--all")
    assert (code, sorted(output.split())) == (0, ["first", "second"])
    assert run("request", "who", "--all", "-n", "3")[0] == 3


@pytest.mark.parametrize(
    "arguments",
    [("request", "a b"), ("request", "who", "-n", "1"), ("reply", "who"), ("reply", "who", "cat", "--json", "--raw")],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert run(*arguments)[0] == 2


def test_an_interrupt_ends_a_replier_normally(start: Start) -> None:
    replier = start("who", "echo me")
    for _ in range(2):
        assert run("request", "who")[1] == "me\n"
    os.kill(replier.pid, signal.SIGTERM)
    code, output, errors = ended(replier)
    assert (code, output) == (0, "")
    # The reply to the last may be there before the replier has counted it.
    assert errors in ("zq: interrupted after 1 request\n", "zq: interrupted after 2 requests\n")
