"""The benchmarks run, say what they found, and leave nothing behind. How fast zq is, is not tested here."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import zmq

from benchmarks import alternatives, bare, budget, command, raw, report, servers
from benchmarks.process import READY, Failed, Running, Say, begin_together, finish, isolated, processor_seconds
from benchmarks.progress import Progress
from benchmarks.workload import (
    QUICK,
    READING,
    Compare,
    Contender,
    Result,
    Scale,
    Target,
    Values,
    Workload,
    measure,
    rates,
)
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 150  # s for a third of the workloads; on two processors that are not busy they take 20


def run_quickly(names: list[str], peers: str) -> tuple[list[dict[str, Any]], str]:
    """What a smoke run of these workloads has measured, and what it printed; it leaves nothing behind."""
    with tempfile.TemporaryDirectory(prefix="zq-") as scratch:
        wanted = Path(scratch) / "figures.json"
        ended = subprocess.run(
            [
                *[sys.executable, "-m", "benchmarks", "--quick", "--json", str(wanted), "--peers", peers],
                *[f"--workload={name}" for name in names],
            ],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": scratch},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        workloads: list[dict[str, Any]] = json.loads(wanted.read_text())["workloads"]
        assert [path.name for path in Path(scratch).iterdir()] == [wanted.name]
    assert [workload["name"] for workload in workloads] == names
    return workloads, ended.stdout


@pytest.mark.timeout(PATIENCE + 20)
@pytest.mark.parametrize("part", range(3))
def test_every_workload_runs_and_is_reported(part: int) -> None:
    ours = {
        name: [contender.name for contender in workload.contenders if contender not in alternatives.ALL]
        for name, workload in command.WORKLOADS.items()
    }
    workloads, said = run_quickly(list(ours)[part::3], ",".join(name for names in ours.values() for name in names))
    for workload in workloads:
        (values,) = workload["rounds"]
        assert set(values) == set(ours[workload["name"]])
        for metrics in values.values():
            for metric, value in metrics.items():
                assert value > 0 or metric == "% CPU", values  # an idle process may use nothing at all
        others = {contender.name for contender in alternatives.ALL}  # they were not asked for
        judged = [target for target in workload["targets"] if not any(name in target["asked"] for name in others)]
        assert all(target["reached"] is not None for target in judged)
        assert f"{workload['name']}: {workload['title']}." in said


def test_a_contender_that_fails_is_named_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def fails(scale: Scale) -> Values:
        asked.append(scale)
        raise Failed("the cable was out")

    workload = Workload(
        name="two",
        title="one of two fails",
        rounds=3,
        contenders=(Contender(name="broken", run=fails), Contender(name="sound", run=lambda scale: {"msg/s": 5.0})),
        targets=(
            Target(contender="broken", metric="msg/s", compare=Compare.RATIO, baseline="sound", limit=1.0),
            Target(contender="sound", metric="msg/s", compare=Compare.VALUE, limit=5.0, at_least=True),
        ),
    )
    monkeypatch.setattr(command, "WORKLOADS", {"two": workload})

    assert command.main(["--quick", "--repeat", "3"]) == 1
    told = capsys.readouterr().out
    assert len(asked) == 1
    assert "failed: broken: the cable was out" in told
    assert "5.00 msg/s" in told

    result = measure(workload, QUICK, lambda what: None)
    assert [result.met(target) for target in workload.targets] == [False, True]


def test_ratios_are_taken_within_a_round() -> None:
    ratio = Target(contender="zq", metric="ms", compare=Compare.RATIO, baseline="raw", limit=2.0)
    excess = Target(contender="zq", metric="ms", compare=Compare.EXCESS, baseline="raw", limit=9.0)
    workload = Workload(name="w", title="t", rounds=3, contenders=(), targets=(ratio, excess))
    result = Result(
        workload=workload,
        rounds=[  # ratios 5, 1 and 2; the ratio of the medians would be 2.5
            {"raw": {"ms": 10.0}, "zq": {"ms": 50.0}},
            {"raw": {"ms": 20.0}, "zq": {"ms": 20.0}},
            {"raw": {"ms": 30.0}, "zq": {"ms": 60.0}},
        ],
    )
    assert result.reached(ratio) == 2.0
    assert result.met(ratio)
    assert result.reached(excess) == 30.0
    assert not result.met(excess)


def test_the_failure_of_one_process_ends_the_wait_for_the_other() -> None:
    with Running(raw.receive, zmq.PULL, 1, 0) as receiver:
        receiver.hear()
        with (
            Running(raw.send, zmq.PUSH, "no endpoint", 1) as sender,
            pytest.raises(Failed, match="send raised") as told,
        ):
            finish(receiver, sender)
        assert "ZMQError" in str(told.value)
        (left,) = multiprocessing.active_children()
        left.kill()
        with pytest.raises(Failed, match="receive died"):
            receiver.result()
    assert not multiprocessing.active_children()


def wait_to_begin(say: Say) -> tuple[float, float]:
    ready = time.monotonic()
    say(READY)
    return ready, time.monotonic()


def test_several_senders_begin_when_all_are_ready() -> None:
    with Running(wait_to_begin, held=True) as first, Running(wait_to_begin, held=True) as second:
        begin_together([first, second])
        times = [first.result(), second.result()]
    assert max(ready for ready, _ in times) <= min(begun for _, begun in times)


def test_leaving_after_an_exception_kills_what_runs() -> None:
    def interrupted() -> None:
        with Running(raw.receive, zmq.PULL, 1, 0) as receiver:
            receiver.hear()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not multiprocessing.active_children()


def test_processor_time_of_another_process_is_read() -> None:
    spinning = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", spinning], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.readline()
        used = processor_seconds(program.pid)
        program.kill()
    assert 0.2 <= used < 5.0


def test_settings_of_the_caller_do_not_reach_a_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZQ_SEEDS", "127.0.0.1:20000")
    monkeypatch.setenv("ZQ_REALM", "mine")
    before = dict(os.environ)
    with isolated():
        inside = {name: value for name, value in os.environ.items() if name.startswith("ZQ_")}
    assert set(inside) == {"ZQ_HOST_DIR", "ZQ_REALM"}
    assert inside["ZQ_REALM"] != "mine"
    assert dict(os.environ) == before
    assert not Path(inside["ZQ_HOST_DIR"]).exists()


def test_a_figure_shows_three_digits() -> None:
    workload = Workload(
        name="w",
        title="t",
        rounds=1,
        contenders=(Contender(name="c", run=lambda scale: {"msg/s": 1_012_345.0, "ms": 12.345}),),
        targets=(),
    )
    told = report.text(report.machine(), [measure(workload, QUICK, lambda what: None)])
    assert "1,010,000 msg/s" in told
    assert "12.3 ms" in told


def test_what_is_not_installed_is_named_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = alternatives.contender("Pigeons", "pigeons", "fly", package="no_such_package")
    here = Contender(name="zq", run=lambda scale: {"msg/s": 5.0})
    workload = Workload(name="two", title="one is not there", rounds=1, contenders=(missing, here), targets=())
    monkeypatch.setattr(command, "WORKLOADS", {"two": workload})
    assert command.main(["--quick"]) == 0
    told = capsys.readouterr().out
    assert "absent: Pigeons: the package no_such_package is not installed: make bench-servers." in told
    assert "5.00 msg/s" in told


def test_a_server_ends_with_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1])))\nwhile True: s.accept()"
    monkeypatch.setattr(
        servers,
        "_SERVERS",
        {
            "toy": (
                sys.executable,
                lambda directory, port: servers.Launch(commands=[[sys.executable, "-c", program, str(port)]]),
            )
        },
    )
    assert servers.is_installed("toy")
    with servers.stopped_at_the_end():
        port = servers.port_of("toy")
        assert servers.port_of("toy") == port
        socket.create_connection((servers.HOST, port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((servers.HOST, port))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process is not told of its parent's end")
def test_a_benchmark_that_is_killed_takes_its_servers_with_it(tmp_path: Path) -> None:
    server = (
        "import signal, sys, socket\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\nwhile True: s.accept()"
    )
    program = f"""
import sys, threading
from benchmarks import servers
launch = lambda directory, port: servers.Launch(commands=[[sys.executable, "-c", {server!r}, str(port)]])
servers._SERVERS = {{"toy": (sys.executable, launch)}}
with servers.stopped_at_the_end():
    print(servers.port_of("toy"), flush=True)
    threading.Event().wait()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)}) as it:
        assert it.stdout is not None
        port = int(it.stdout.readline())
        socket.create_connection((servers.HOST, port)).close()
        it.kill()

    def is_gone() -> bool:
        try:
            socket.create_connection((servers.HOST, port)).close()
        except ConnectionRefusedError:
            return True
        return False

    eventually(is_gone)


def test_a_server_that_ends_at_once_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    launch = servers.Launch(commands=[[sys.executable, "-c", "raise SystemExit('no licence')"]])
    monkeypatch.setattr(servers, "_SERVERS", {"toy": (sys.executable, lambda directory, port: launch)})
    with pytest.raises(Failed, match="no licence"), servers.stopped_at_the_end():
        servers.port_of("toy")


def test_a_backlog_takes_at_most_twice_its_bytes() -> None:
    command = [sys.executable, "-m", "benchmarks.backlog", "200000"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "200,000 messages" in ended.stdout
    assert "flushed in" in ended.stdout


def test_runs_of_one_machine_are_shown_as_one_and_of_two_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = {**report.machine(), "load": 0.5}
    contenders = tuple(Contender(name=name, run=lambda scale: {}) for name in ("pyzmq", "zq"))
    workloads = {
        name: Workload(name=name, title=name, rounds=1, contenders=contenders, targets=rates("zq", {"pyzmq": 1.5}))
        for name in ("first", "second")
    }

    def run(name: str, load: float, **values: float) -> dict[str, Any]:
        result = Result(workload=workloads[name], rounds=[{who: {"msg/s": value} for who, value in values.items()}])
        return report.document({**where, "load": load}, [result])

    runs = [run("second", 0.5, pyzmq=1.0, zq=1.0), run("first", 0.9, zq=4.0), run("second", 0.1, pyzmq=2.0, zq=6.0)]
    together, results = report.merged(runs, workloads)
    assert together == {**where, "load": 0.9}
    assert [result.workload.name for result in results] == ["first", "second"]
    assert [result.reached(result.workload.targets[0]) for result in results] == [None, 2.0]
    assert [report.judged(result) != [] for result in results] == [False, True], "pyzmq was not asked for in the first"
    runs[0]["machine"]["python"] = "2.7"
    with pytest.raises(report.Different, match="python"):
        report.merged(runs, workloads)
    for number, document in enumerate(runs):
        (tmp_path / f"{number}.json").write_text(json.dumps(document))
    with pytest.raises(SystemExit):
        command.main([f"--merge={tmp_path / '0.json'}", f"--merge={tmp_path / '1.json'}"])
    assert "other python" in capsys.readouterr().err


def test_a_terminal_sees_a_bar_and_a_file_sees_lines() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, file = Terminal(), io.StringIO()
    for to in (terminal, file):
        progress = Progress(2, to)
        for step in ("first", "second", ""):
            progress(step)
    assert file.getvalue() == "first\nsecond\n"
    assert "[........................] 0/2 first" in terminal.getvalue()
    assert "[############............] 1/2, 0 s left second" in terminal.getvalue()


@pytest.mark.parametrize("before", [None, "#!/bin/sh\nexit 0\n"])
def test_servers_are_installed_and_not_started(tmp_path: Path, before: str | None) -> None:
    """With commands that only tell what they are asked, and what Debian's packages would have been told."""
    policy, said = tmp_path / "policy-rc.d", tmp_path / "said"
    if before is not None:
        policy.write_text(before)
        policy.chmod(0o755)
    for name, does in {
        "dpkg-query": '[ "$3" = redis-server ] && printf installed || exit 1',
        "apt-get": f'{policy}; echo "apt-get $? $*" >>{said}',
        "update-rc.d": f'echo "update-rc.d $*" >>{said}',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    script = (ROOT / "benchmarks" / "install_servers.sh").read_text().replace("/usr/sbin/policy-rc.d", str(policy))
    subprocess.run(
        ["sh", "-c", script], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=True, timeout=20, stderr=-1
    )
    missing = ["mosquitto", "nats-server", "rabbitmq-server"]
    assert said.read_text().splitlines() == [
        f"apt-get 101 install --yes --no-install-recommends {' '.join(missing)}",
        *(f"update-rc.d {name} disable" for name in missing),
    ]
    assert (policy.read_text() if policy.exists() else None) == before


def test_a_round_trip_is_taken_apart_at_its_marks() -> None:
    """A trip on which something is missing does not count, and nor does what woke somebody for another reason."""
    marks: list[tuple[float, str, str]] = []
    for trip in range(budget.WARM_UP + 3):
        at = trip * 100.0
        for whose, name in budget.WAY:
            if name == "woken":
                marks.append((at, whose, name))  # by something else
                at += 1.0
            if trip != budget.WARM_UP + 1 or (whose, name) != ("echo", "received"):
                marks.append((at, whose, name))
            at += 2.0
    steps = budget.steps_of(marks)
    assert steps["echo: woken"] == 3.0
    assert steps["echo: received"] == 2.0
    assert steps["in all"] == 18.0
    assert list(steps)[-1] == "in all"


def test_what_python_needs_alone_is_for_the_same_messages() -> None:
    assert list(bare.messages(b"".join(bare.pile_up()))) == [READING] * bare.FRAME
