"""The servers that some alternatives need: each on a free port of 127.0.0.1 when first asked for, stopped at the end.

Nothing of them outlives the benchmark: data, logs and settings are in a directory on the disk, and the processes are
ours. Each is set up as its documentation recommends for throughput, without limits that would drop messages.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks import place
from benchmarks.process import Failed, processor_seconds

HOST = "127.0.0.1"
READY = 60.0  # s a server may take until its port answers; RabbitMQ needs 6 to 15
END = 10.0  # s it has to end when asked to
PR_SET_PDEATHSIG = 1
LOOK = 0.05  # s between looks at the port: a server has no other way to tell us

_running: dict[str, Server] = {}  # by name
_ending: contextlib.ExitStack | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to run for one server, in order; the last one is the server itself."""

    commands: Sequence[Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)


class Server(NamedTuple):
    """One that runs."""

    port: int
    pid: int


def _nats(directory: Path, port: int) -> Launch:
    settings = directory / "nats.conf"
    # 1 GiB a client: a subscriber that is behind is not cut off
    store = f'jetstream {{ store_dir: "{directory}" }}'
    settings.write_text(f"listen: {HOST}:{port}\nmax_pending: 1073741824\n{store}\n")
    return Launch(commands=[["nats-server", "-c", str(settings)]])


def _redis(directory: Path, port: int) -> Launch:
    options = ["--bind", HOST, "--port", str(port), "--dir", str(directory), "--save", "", "--appendonly", "no"]
    unlimited = ["--client-output-buffer-limit", "pubsub 0 0 0"]
    return Launch(commands=[["redis-server", *options, *unlimited]])


def _redis_durable(directory: Path, port: int) -> Launch:
    options = ["--bind", HOST, "--port", str(port), "--dir", str(directory), "--save", ""]
    return Launch(commands=[["redis-server", *options, "--appendonly", "yes", "--appendfsync", "always"]])


def _mosquitto(directory: Path, port: int) -> Launch:
    settings = directory / "mosquitto.conf"
    settings.write_text(
        f"listener {port} {HOST}\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n"
        f"persistence false\nset_tcp_nodelay true\n"
    )
    return Launch(commands=[["mosquitto", "-c", str(settings)]])


def _rabbitmq(directory: Path, port: int) -> Launch:
    settings = directory / "rabbitmq.conf"
    settings.write_text(f"listeners.tcp.1 = {HOST}:{port}\n")
    (directory / "plugins").write_text("[].\n")
    names = free_port()
    environment = {
        "RABBITMQ_NODENAME": "zq-bench@localhost",
        "RABBITMQ_CONFIG_FILE": str(settings),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_PID_FILE": str(directory / "pid"),
        "HOME": str(directory),
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": HOST,
    }
    epmd = ["epmd", "-address", HOST, "-port", str(names)]
    return Launch(commands=[epmd, ["/usr/lib/rabbitmq/bin/rabbitmq-server"]], environment=environment)


_SERVERS: Mapping[str, tuple[str, Callable[[Path, int], Launch]]] = {
    "nats": ("nats-server", _nats),
    "redis": ("redis-server", _redis),
    "redis-durable": ("redis-server", _redis_durable),
    "mosquitto": ("mosquitto", _mosquitto),
    "rabbitmq": ("/usr/lib/rabbitmq/bin/rabbitmq-server", _rabbitmq),
}


def is_installed(name: str) -> bool:
    return shutil.which(_SERVERS[name][0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def version(program: str, option: str) -> str:
    """What an installed server calls itself: the first thing with a dot in what it prints; empty if it is not there."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        return ""
    told = subprocess.run([found, option], capture_output=True, text=True, timeout=READY, check=False).stdout
    return next((word.removeprefix("v=").removeprefix("v") for word in told.split() if "." in word), "")


@contextlib.contextmanager
def stopped_at_the_end() -> Iterator[None]:
    """Servers that are asked for inside end with it."""
    global _ending
    with contextlib.ExitStack() as stack:
        _ending = stack
        try:
            yield
        finally:
            _ending = None
            _running.clear()


def port_of(name: str) -> int:
    """The port of that server on 127.0.0.1; starts it the first time. Raises `Failed`."""
    if name not in _running:
        assert _ending is not None, "servers run inside `stopped_at_the_end`"
        _running[name] = _ending.enter_context(_started(name))
    return _running[name].port


def processor_seconds_of(name: str) -> float:
    """The processor time that a server which runs has taken so far."""
    return processor_seconds(_running[name].pid)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _started(name: str) -> Iterator[Server]:
    with place.scratch(f"zq-bench-{name}-") as directory:
        port = free_port()
        launch = _SERVERS[name][1](directory, port)
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", **launch.environment}
        processes: list[subprocess.Popen[bytes]] = []
        with (directory / "output").open("wb") as output:
            try:
                for command in launch.commands:
                    process = subprocess.Popen(
                        command,
                        env=environment,
                        cwd=directory,
                        stdout=output,
                        stderr=output,
                        start_new_session=True,
                        preexec_fn=_end_with_the_benchmark,  # noqa: PLW1509 - it runs no Python of another thread
                    )
                    processes.append(process)
                _wait_until_it_answers(name, processes[-1], port, directory / "output")
                yield Server(port, processes[-1].pid)
            finally:
                for process in reversed(processes):
                    _end(process)


def _end_with_the_benchmark() -> None:
    """In the server's process: a benchmark that is killed takes its servers with it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_until_it_answers(name: str, process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    deadline = time.monotonic() + READY
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failed(f"{name} ended with {process.returncode}:\n{output.read_text(errors='replace')[-2_000:]}")
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1.0):
            return
        time.sleep(LOOK)
    raise Failed(f"{name} did not answer within {READY:g} s:\n{output.read_text(errors='replace')[-2_000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
