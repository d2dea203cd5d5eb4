"""The command line between real processes: formats, exit codes, and what happens to messages when one of them ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import zq
from tests.cli.patient import ZQ
from tests.waiting import eventually

DEADLINE = 30  # s for any one command; they take well under one

Shell = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts a `zq` first that is patient with others."""
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "zq").write_text(f'#!/bin/sh\nexec {shlex.join(ZQ)} "$@"\n')
    (directory / "zq").chmod(0o700)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def shell(path: None) -> Shell:
    """Runs a line of shell to its end."""

    def run(line: str, *, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], input=text, capture_output=True, text=True, timeout=DEADLINE
        )

    return run


@pytest.fixture
def start(path: None) -> Iterator[Start]:
    """Starts a line of shell in the background; what is left of it at the end of the test is killed."""
    running: list[subprocess.Popen[str]] = []

    def begin(line: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", line if "|" in line else f"exec {line}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.communicate()


def wait_for_subscriber(topic: str) -> None:
    """Returns when somebody subscribes to `topic`."""
    with zq.Peer("test") as peer, peer.publisher(topic) as publisher:
        publisher.wait_for_subscribers(timeout=DEADLINE)


def wait_for_puller(queue: str) -> None:
    """Returns when somebody pulls from `queue`."""
    with zq.Peer("test") as peer, peer.pusher(queue) as pusher:
        pusher.wait_for_pullers(timeout=DEADLINE)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Waits for the end: exit code, standard output, standard error."""
    output, errors = process.communicate(timeout=DEADLINE)
    return process.returncode, output, errors


# Topics


def test_what_is_published_is_printed_in_order(shell: Shell, start: Start) -> None:
    sub = start("zq sub 'sensors/**' -n 4")
    wait_for_subscriber("sensors/kitchen")
    assert shell("""echo '{"celsius": 21.4}' | zq pub sensors/kitchen""").returncode == 0
    assert shell("zq pub sensors/cellar 007 null '[1, 2]'").returncode == 0
    code, output, errors = ended(sub)
    assert (code, errors) == (0, "")
    assert output.splitlines() == [
        'sensors/kitchen {"celsius": 21.4}',
        "sensors/cellar 007",
        "sensors/cellar null",
        "sensors/cellar [1, 2]",
    ]


def test_json_on_both_ends_keeps_the_types(shell: Shell, start: Start) -> None:
    sub = start("zq sub readings --json -n 3")
    wait_for_subscriber("readings")
    assert shell("zq pub readings --json", text='007\n1.5\nnull\n{"a": [true]}\n').returncode == 1
    code, output, _ = ended(sub)
    assert code == 0
    assert [json.loads(line)["data"] for line in output.splitlines()] == [1.5, None, {"a": [True]}]
    first = json.loads(output.splitlines()[0])
    assert first["topic"] == "readings"
    assert len(first["sender"]) == 32
    assert re.fullmatch(r"[0-9a-f]+-\d+", first["id"])


def test_a_format_chooses_what_is_printed(shell: Shell, start: Start) -> None:
    sub = start(r"zq sub 'sensors/*' -n 1 --format '{topic}\t{data[celsius]:.1f}'")
    wait_for_subscriber("sensors/kitchen")
    shell("""zq pub sensors/kitchen '{"celsius": 21.44}'""")
    assert ended(sub)[:2] == (0, "sensors/kitchen\t21.4\n")


def test_raw_bytes_come_out_as_they_went_in(start: Start) -> None:
    sub = start("zq sub camera --raw -n 1 | od -An -tx1")
    with zq.Peer("camera") as peer, peer.publisher("camera") as publisher:
        publisher.wait_for_subscribers(timeout=DEADLINE)
        publisher.send(b"\x89PNG\r\n\x00")
    assert ended(sub)[1].split() == ["89", "50", "4e", "47", "0d", "0a", "00"]


def test_publishing_to_nobody_succeeds_and_says_so(shell: Shell) -> None:
    pub = shell("zq pub sensors/kitchen hello")
    assert (pub.returncode, pub.stdout) == (0, "")
    assert "nobody subscribes to sensors/kitchen" in pub.stderr


def test_publishing_to_somebody_says_nothing(shell: Shell, start: Start) -> None:
    sub = start("zq sub sensors/kitchen -n 1")
    wait_for_subscriber("sensors/kitchen")
    pub = shell("zq pub sensors/kitchen hello")
    assert (pub.returncode, pub.stdout, pub.stderr) == (0, "", "")
    assert ended(sub)[0] == 0


def test_a_bad_line_is_named_and_costs_no_other(shell: Shell, start: Start) -> None:
    sub = start("zq sub log -n 2")
    wait_for_subscriber("log")
    pub = shell("zq pub log", text="one\n{bad\nthree\n")
    assert pub.returncode == 1
    assert re.search(r"^zq: line 2: not JSON", pub.stderr)
    assert ended(sub)[1] == "log one\nlog three\n"


def test_a_line_is_published_when_it_is_written(start: Start) -> None:
    sub = start("zq sub clock -n 2")
    wait_for_subscriber("clock")
    pub = start("zq pub clock")
    assert pub.stdin is not None
    assert sub.stdout is not None
    for line in ("tick\n", "tock\n"):
        pub.stdin.write(line)
        pub.stdin.flush()
        assert sub.stdout.readline() == f"clock {line}"


def test_fewer_than_asked_for_is_exit_code_3(start: Start) -> None:
    with zq.Peer("test") as peer, peer.publisher("topic") as publisher:
        sub = start("zq sub topic -n 2 --timeout 5")
        publisher.wait_for_subscribers(timeout=DEADLINE)
        publisher.send("one")
        code, output, errors = ended(sub)
    assert (code, output) == (3, "topic one\n")
    assert "1 message of 2" in errors


def test_silence_ends_a_run_that_asked_for_no_number(shell: Shell) -> None:
    run = shell("zq sub topic --timeout 0.2")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_subscription_quietly(name: str, start: Start) -> None:
    sub = start("zq sub topic")
    with zq.Peer("test") as peer, peer.publisher("topic") as publisher:
        publisher.wait_for_subscribers(timeout=DEADLINE)
        publisher.send("one")
        assert sub.stdout is not None
        assert sub.stdout.readline() == "topic one\n"  # so it is waiting, not just about to
        sub.send_signal(signal.Signals[name])
        code, output, errors = ended(sub)
    assert (code, output) == (0, "")
    # The message may be there before it has been counted.
    assert errors in ("zq: interrupted after 0 messages\n", "zq: interrupted after 1 message\n")


# Queues


def test_a_thousand_lines_pass_a_queue_whole_and_in_order(shell: Shell, start: Start) -> None:
    pull = start("zq pull jobs -n 1000")
    assert shell("seq 1000 | zq push jobs").returncode == 0
    code, output, errors = ended(pull)
    assert (code, errors) == (0, "")
    assert output.split() == [str(number) for number in range(1, 1001)]


def test_two_services_each_get_what_is_published_and_one_that_comes_again_goes_on(shell: Shell, start: Start) -> None:
    mailer, audit = (
        start(f"zq pull {name} --topic 'orders/**' --topic bills -n 2 --json") for name in ("mailer", "audit")
    )
    with zq.Peer("test") as peer, peer.publisher("orders/new") as publisher, peer.publisher("bills") as bills:
        publisher.wait_for_subscribers(2, timeout=DEADLINE)
        publisher.send("one")
        bills.send("two")
        for pull in (mailer, audit):
            code, output, errors = ended(pull)
            assert (code, errors) == (0, "")
            rows = {
                (row["topic"], row["queue"] in ("mailer", "audit"), row["data"])
                for row in map(json.loads, output.splitlines())
            }
            assert rows == {("orders/new", True, "one"), ("bills", True, "two")}  # of two topics in any order
        publisher.send("three")
        for name in ("mailer", "audit"):
            assert shell(f"zq pull {name} --topic 'orders/**' --topic bills -n 1").stdout == "three\n"


def test_a_topic_that_is_none_is_a_usage_error(shell: Shell) -> None:
    pull = shell("zq pull mailer --topic 'orders/'")
    assert pull.returncode == 2
    assert "filter 'orders/'" in pull.stderr


def test_push_waits_for_a_puller_that_comes_later(shell: Shell, start: Start) -> None:
    push = start("zq push jobs a b c")
    assert push.stderr is not None
    assert "3 messages for jobs, waiting for somebody" in push.stderr.readline()
    assert shell("zq pull jobs -n 3").stdout == "a\nb\nc\n"
    assert push.wait(DEADLINE) == 0


def test_push_without_a_puller_says_how_many_are_undelivered(shell: Shell) -> None:
    push = shell("seq 12 | zq push jobs --timeout 0.5")
    assert push.returncode == 3
    assert "12 messages not confirmed" in push.stderr


def test_push_asks_for_a_lane_a_key_a_delay_and_a_time_to_live(shell: Shell, start: Start) -> None:
    assert shell("zq push jobs 'too late' --ttl 0.05").returncode == 0, "it expired, so nothing is undelivered"
    begun = [start("zq push jobs low --lane low --key k"), start("zq push jobs high --lane high --ttl 60")]
    assert shell("zq push jobs later --delay 0.3 --timeout 0.1").returncode == 3
    for push in begun:
        assert push.stderr is not None
        assert "waiting for somebody" in push.stderr.readline()
    pulled = shell("zq pull jobs -n 2 --format '{data} {key}'")
    assert sorted(pulled.stdout.splitlines()) == ["high ", "low k"]
    assert shell("zq push jobs x --ttl 1 --delay 2").returncode != 0
    assert shell("zq push jobs x --lane urgent").returncode == 2


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_push_says_how_many_are_undelivered(name: str, start: Start) -> None:
    push = start("zq push jobs a b")
    assert push.stderr is not None
    assert "2 messages" in push.stderr.readline()
    push.send_signal(signal.Signals[name])
    code, _, errors = ended(push)
    assert code == 3
    assert "2 messages not confirmed" in errors
    assert "Traceback" not in errors


def test_a_closed_pipe_gives_back_what_was_not_written(shell: Shell, start: Start) -> None:
    pull = start("zq pull jobs | { head -n 1; exec <&-; echo closed; }; echo ended $? >&2")
    assert shell("zq push jobs first").returncode == 0
    assert pull.stdout is not None
    assert pull.stdout.readline() == "first\n"
    assert pull.stdout.readline() == "closed\n"
    push = start("zq push jobs second")  # goes to the pull whose pipe is closed
    assert ended(pull)[2] == "ended 0\n"
    again = shell("zq pull jobs -n 1 --json")
    assert json.loads(again.stdout)["data"] == "second"
    assert (json.loads(again.stdout)["attempt"], json.loads(again.stdout)["redelivered"]) == (1, True)
    assert push.wait(DEADLINE) == 0


def test_a_killed_pull_loses_nothing(shell: Shell, start: Start) -> None:
    pull = start("zq pull jobs")
    wait_for_puller("jobs")
    push = start("zq push jobs")
    assert push.stdin is not None
    assert pull.stdout is not None
    push.stdin.write("one\n")
    push.stdin.flush()
    assert pull.stdout.readline() == "one\n"
    pull.kill()
    push.stdin.write("two\n")
    push.stdin.close()
    push.stdin = None
    heir = start("zq pull jobs")
    assert heir.stdout is not None
    got = heir.stdout.readline()
    if got == "one\n":  # its receipt may have come too late
        got = heir.stdout.readline()
    assert got == "two\n"
    assert push.wait(DEADLINE) == 0


# Dead letters


def bury(peer: zq.Peer, *values: object, max_attempts: int = 1) -> None:
    """`peer` has pushed `values` to jobs, and each failed as often as it may."""
    pusher = peer.pusher("jobs", max_attempts=max_attempts)
    with zq.Peer("worker") as worker, worker.puller("jobs") as puller:
        for number, value in enumerate(values, 1):
            pusher.send(value, id=f"order-{number}")
            for _ in range(max_attempts):
                with contextlib.suppress(ValueError), puller.receive(timeout=DEADLINE):
                    raise ValueError("no such order")
        pusher.flush()


def test_dead_letters_are_listed_shown_retried_and_purged(shell: Shell) -> None:
    with zq.Peer("orders") as peer:
        bury(peer, {"order": 1}, "second", "third", max_attempts=2)
        listed = shell("zq dead ls jobs")
        assert listed.returncode == 0, listed.stderr
        title, *rows = listed.stdout.splitlines()
        assert title.split()[:3] == ["queue", "id", "died"]
        assert [row.split()[1] for row in rows] == ["order-1", "order-2", "order-3"]
        assert all("2 attempts failed" in row and row.endswith("orders") for row in rows)
        shown = shell("zq dead show jobs --id order-1").stdout
        assert shown.splitlines()[0] == "order-1 of jobs, kept by orders"
        assert shown.count("nacked at worker") == 2
        assert "ValueError: no such order" in shown
        assert '{"order": 1}' in shown
        objects = [json.loads(line) for line in shell("zq dead show jobs --json").stdout.splitlines()]
        assert [(row["id"], row["data"]) for row in objects] == [
            ("order-1", {"order": 1}),
            ("order-2", "second"),
            ("order-3", "third"),
        ]
        assert objects[0]["history"][0]["outcome"] == "nacked"
        assert "1 message pushed again" in shell("zq dead retry jobs --id order-2").stderr
        again = shell("zq pull jobs -n 1 --json")
        assert [json.loads(again.stdout)[name] for name in ("id", "data", "attempt")] == ["order-2", "second", 1]
        purged = shell("zq dead purge jobs --json")
        assert json.loads(purged.stdout) == {"count": 2, "unknown": [], "problems": []}
        nothing = shell("zq dead ls")
        assert (nothing.returncode, nothing.stdout) == (0, "")
        assert "no dead letters" in nothing.stderr


def test_the_dead_of_a_queue_can_be_pulled(shell: Shell) -> None:
    with zq.Peer("orders") as peer:
        bury(peer, "first")
        got = shell("zq pull jobs.dead -n 1 --json")
        assert json.loads(got.stdout)["headers"]["dead-queue"] == "jobs"


def test_an_id_that_is_not_among_the_dead_is_an_error(shell: Shell) -> None:
    shown = shell("zq dead show jobs --id nonsense")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "not among them: nonsense" in shown.stderr


def test_push_names_what_nobody_could_process(shell: Shell, start: Start) -> None:
    with zq.Peer("worker") as worker, worker.puller("jobs") as puller:
        push = start("zq push jobs first second --max-attempts 1")
        for message in (puller.receive(timeout=DEADLINE), puller.receive(timeout=DEADLINE)):
            if message.data == "first":
                message.nack()
            else:
                message.ack()
        code, _, errors = ended(push)
    assert code == 1
    assert "nobody could process" in errors
    assert "first: 1 attempt failed" in errors
    assert "second" not in errors


@pytest.mark.parametrize(
    "line",
    [
        "zq push jobs x --max-attempts 0",
        "zq push jobs x --ttl 1 --delay 5",
        "zq pull jobs --work-timeout 0",
        "zq dead ls jobs.dead",
        "zq dead purge",
    ],
)
def test_wrong_usage_of_attempts_and_dead_letters(shell: Shell, line: str) -> None:
    assert shell(line).returncode == 2


def test_a_full_disk_gives_back_what_was_not_written(shell: Shell, start: Start) -> None:
    full = start("bash -c 'exec zq pull jobs > /dev/full'")
    push = start("zq push jobs one")
    code, _, errors = ended(full)
    assert code == 1
    assert "No space left" in errors
    assert shell("zq pull jobs -n 1").stdout == "one\n"
    assert push.wait(DEADLINE) == 0


@pytest.mark.parametrize(
    ("line", "code", "errors"),
    [
        ("zq pub topic <&-", 0, "nobody subscribes to topic"),
        ("zq push jobs <&-", 0, ""),
        ("zq sub topic --timeout 0.1 >&-", 1, "standard output is closed"),
        ("zq pull jobs --timeout 0.1 >&-", 1, "standard output is closed"),
        ("zq config >&-", 1, "standard output is closed"),
    ],
)
def test_closed_standard_streams_are_said(line: str, code: int, errors: str, shell: Shell) -> None:
    run = shell(line)
    assert (run.returncode, run.stdout) == (code, "")
    assert errors in run.stderr
    assert "Traceback" not in run.stderr


# Listings


def test_the_listings_show_who_does_what(shell: Shell, start: Start) -> None:
    sub = start("zq sub 'sensors/**' --name reader")
    wait_for_subscriber("sensors/kitchen")
    push = start("zq push jobs a b --name producer")
    assert push.stderr is not None
    assert "2 messages" in push.stderr.readline()
    peers = {row["name"]: row for row in map(json.loads, shell("zq peers --json").stdout.splitlines())}
    assert set(peers) == {"reader", "producer"}
    assert peers["reader"]["subscribes"] == ["sensors/**"]
    assert peers["reader"]["found_by"] == ["host"]
    assert peers["reader"]["pid"] == sub.pid
    assert peers["producer"]["pushes"] == ["jobs"]
    assert re.search(r"^reader .* up .* host .* sub sensors/\*\*", shell("zq peers").stdout, re.MULTILINE)

    def queues() -> list[tuple[object, ...]]:
        rows = [json.loads(line) for line in shell("zq queues --json").stdout.splitlines()]
        return [(row["name"], row["pushers"], row["pullers"], row["depth"]) for row in rows]

    eventually(lambda: queues() == [("jobs", 1, 0, 2)], DEADLINE)  # counts of others are up to 2 s old
    assert re.search(r"^jobs +1 +0 +2 ", shell("zq queues").stdout, re.MULTILINE)
    with zq.Peer("thermometer") as peer, peer.publisher("sensors/kitchen") as publisher:
        publisher.send(21.4)
        publisher.flush()
        topics = [json.loads(line) for line in shell("zq topics --json").stdout.splitlines()]
        assert [(row["name"], row["publishers"], row["subscribers"]) for row in topics] == [("sensors/kitchen", 1, 1)]
        ledgers = shell("zq ledger --json")
        by_name = {row["name"]: row for row in map(json.loads, ledgers.stdout.splitlines())}
        assert ledgers.returncode == 0
        assert by_name["producer"]["held"][0]["taken"] == 2
        assert by_name["thermometer"]["published"][0]["published"] == 1
        assert by_name["reader"]["subscribed"][0]["expected"] == 1
        assert all(row["balanced"] for row in by_name.values())
        assert "producer" in shell("zq ledger").stdout


def test_a_ledger_names_who_does_not_answer(start: Start) -> None:
    frozen = start("zq sub topic --name frozen")
    with zq.Peer("test") as peer:
        peer.wait_for_peers(1, timeout=DEADLINE)
        frozen.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, frozen.pid, os.WSTOPPED | os.WNOWAIT)
        ledger = peer.ledger(realm=True, timeout=0.3)
        frozen.send_signal(signal.SIGCONT)
        assert (ledger.unknown, ledger.others) == (("frozen",), ())
        assert ledger.balanced
        assert peer.ledger(realm=True, timeout=DEADLINE).unknown == ()


def test_who_has_what_was_dropped_and_what_is_missing_is_named(shell: Shell, start: Start) -> None:
    push = start("zq push jobs a b c d --name producer")
    with zq.Peer("worker") as peer, peer.puller("jobs", prefetch=3) as puller:
        puller.receive(timeout=DEADLINE).reject("broken")
        message = puller.receive(timeout=DEADLINE)

        def told() -> bool:
            return bool(re.search(r"^jobs +1 +1 +3 .* 1 rejected +worker 3", shell("zq queues").stdout, re.MULTILINE))

        eventually(told, DEADLINE)
        row, dead = [json.loads(line) for line in shell("zq queues --json").stdout.splitlines()]
        assert (dead["name"], dead["depth"], dead["dropped"]) == ("jobs.dead", 1, {})
        assert row["dropped"] == {"rejected": 1}
        assert [(consumer["name"], consumer["lag"]) for consumer in row["consumers"]] == [("worker", 3)]
        *_, realm = map(json.loads, shell("zq ledger --json").stdout.splitlines())
        assert (realm["peer"], realm["name"], realm["balanced"]) == (None, "default", True)
        told_of = [(row["queue"], row["taken"], row["in_flight"], row["orphaned"]) for row in realm["queues"]]
        assert told_of == [("jobs", 4, 3, 0), ("jobs.dead", 1, 0, 0)]
        assert [(row["why"], row["first"], row["last"]) for row in realm["missing"]] == [("rejected", 1, 1)]
        table = shell("zq ledger").stdout
        assert re.search(r"^jobs +4 +0 +1 rejected +0 +0 +3 +0 +producer$", table, re.MULTILINE)
        assert re.search(r"^jobs +\w{8} +1 to 1 +1 +rejected +producer +producer$", table, re.MULTILINE)

        push.kill()
        push.wait()
        eventually(lambda: peer.peers() == [], DEADLINE)
        *_, realm = map(json.loads, shell("zq ledger --json").stdout.splitlines())
        assert [(row["orphaned"], row["holders"]) for row in realm["queues"]] == [(3, ["worker"])]
        assert [(row["queue"], row["count"], row["why"], row["holder"]) for row in realm["missing"]] == [
            ("jobs.dead", 1, "unknown", "producer")
        ], "all else that it held is here"
        assert [(gone.name, gone.held) for gone in peer.ledger().departed] == [
            ("producer", {"jobs": 3, "jobs.dead": 1})
        ]
        message.ack()
        for _ in range(2):
            puller.receive(timeout=DEADLINE).ack()


def test_an_empty_realm_is_said_and_is_no_error(shell: Shell) -> None:
    for command in ("peers", "topics", "queues", "ledger"):
        listing = shell(f"zq {command}")
        assert (listing.returncode, listing.stdout) == (0, "")
        assert "in realm default" in listing.stderr
        assert shell(f"zq {command} --json").stdout == ""


def test_watch_shows_who_comes_and_goes(start: Start) -> None:
    watch = start("zq peers --watch --json")
    assert watch.stdout is not None
    with zq.Peer("visitor"):
        joined = json.loads(watch.stdout.readline())
    assert (joined["kind"], joined["peer"]["name"]) == ("joined", "visitor")
    while (event := json.loads(watch.stdout.readline()))["kind"] != "left":
        assert event["kind"] in ("changed", "suspect")
    watch.send_signal(signal.SIGINT)
    assert ended(watch)[0] == 0


def test_realms_do_not_see_each_other(shell: Shell, start: Start) -> None:
    start("zq sub topic --realm one")
    with zq.Peer("test", realm="one") as peer:
        peer.wait_for_peers(1, timeout=DEADLINE)
    assert shell("zq peers --json --realm one").stdout.count("\n") == 1
    assert shell("zq peers --json --realm two").stdout == ""


# Settings and usage


def test_config_says_where_each_value_comes_from(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZQ_REALM", "plant")
    rows = {row["name"]: row for row in map(json.loads, shell("zq config --json --name me").stdout.splitlines())}
    assert rows["realm"] == {"name": "realm", "value": "plant", "origin": "ZQ_REALM"}
    assert rows["name"] == {"name": "name", "value": "me", "origin": "argument"}
    assert rows["host_dir"] == {"name": "host_dir", "value": os.environ["ZQ_HOST_DIR"], "origin": "ZQ_HOST_DIR"}
    assert rows["insecure"] == {"name": "insecure", "value": False, "origin": "default"}
    table = shell("zq config").stdout
    assert re.search(r"^realm +plant +ZQ_REALM$", table, re.MULTILINE)
    assert re.search(r"^ports +20000-32767 +default$", table, re.MULTILINE)


@pytest.mark.parametrize(
    "line",
    [
        "zq nope",
        "zq sub",
        "zq sub topic --json --raw",
        "zq sub topic --format '{nope}'",
        "zq sub topic -n 0",
        "zq sub topic --timeout -1",
        "zq sub 'a//b'",
        "zq pub 'sensors/*' hello",
        "zq push 'a b' hello",
        "zq pub topic hello --realm 'a b'",
        "zq pub topic hello --interfaces 127.0.0.1",
        "zq pub topic hello --insecure --interfaces nope0",
    ],
)
def test_wrong_usage_is_exit_code_2_and_one_explanation(line: str, shell: Shell) -> None:
    run = shell(line)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr
    assert "Traceback" not in run.stderr


def test_an_unknown_variable_is_not_ignored(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZQ_RELAM", "plant")
    run = shell("zq pub topic hello")
    assert run.returncode == 2
    assert "ZQ_REALM" in run.stderr


def test_a_host_directory_that_is_open_to_others_is_one_line(shell: Shell, host_directory: Path) -> None:
    host_directory.chmod(0o755)
    run = shell("zq pub topic hello")
    assert (run.returncode, run.stdout) == (1, "")
    assert "chmod 700" in run.stderr
    assert run.stderr.count("\n") == 1


def test_version(shell: Shell) -> None:
    assert re.fullmatch(r"zq \d+\.\d+\.\d+\n", shell("zq --version").stdout)


def test_a_missing_extra_is_one_clear_line() -> None:
    for package in ("click", "rich"):
        without = (
            f"import sys; sys.modules[{package!r}] = None; sys.stdout.isatty = lambda: True\n"
            "import zq.cli; zq.cli.main()"
        )
        run = subprocess.run(
            [sys.executable, "-c", without, "config"], capture_output=True, text=True, timeout=DEADLINE
        )
        assert run.returncode == 1
        assert run.stderr == f"zq: the command line needs {package}; run: pip install 'zq-toolkit[cli]'\n"


def test_pub_loads_nothing_slow(host_directory: Path) -> None:
    """`zq pub` in a shell loop pays for its imports every time."""
    program = (
        "import sys, zq.cli\n"
        "try:\n    zq.cli.main()\n"
        "except SystemExit as end:\n"
        "    slow = {'asyncio', 'rich', 'zeroconf', 'numpy', 'importlib.metadata'} & set(sys.modules)\n"
        "    sys.exit(str(slow) if slow else end.code)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, "pub", "topic", "hello"], capture_output=True, text=True, timeout=DEADLINE
    )
    assert run.returncode == 0, run.stderr


def test_an_outbox_takes_what_nobody_is_there_for_and_lets_it_go_later(
    shell: Shell, start: Start, tmp_path: Path
) -> None:
    directory = tmp_path / "outbox"
    first = shell(f"seq 1000 | zq push jobs --outbox {directory}")
    assert (first.returncode, first.stdout) == (0, "")
    assert first.stderr.startswith(f"zq: 1000 stored in {directory}\n")
    assert f"zq: 1000 messages of jobs wait in the outbox {directory}" in first.stderr
    bad = shell(f"zq push jobs --outbox {directory} '{{' good")
    assert bad.returncode == 1
    assert "1 stored in" in bad.stderr
    pull = start("zq pull jobs -n 1001")
    wait_for_puller("jobs")
    rest = shell(f"zq push jobs --outbox {directory} --timeout 10 < /dev/null")
    assert (rest.returncode, rest.stderr) == (0, "")
    assert ended(pull)[:2] == (0, "".join(f"{number}\n" for number in range(1, 1_001)) + "good\n")
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "mine" / "letter").write_text("dear")
    refused = shell(f"zq push jobs x --outbox {tmp_path / 'mine'}")
    assert refused.returncode == 2
    assert "holds other things" in refused.stderr


def test_the_package_runs_as_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "zq", "--version"], capture_output=True, text=True, timeout=DEADLINE)
    assert done.stdout == f"zq {zq.__version__}\n"
    wrong = subprocess.run([sys.executable, "-m", "zq", "nothing"], capture_output=True, text=True, timeout=DEADLINE)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("zq: ") or "Usage: zq" in wrong.stderr
