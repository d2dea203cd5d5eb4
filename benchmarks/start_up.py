"""Starting: what `import zq` costs, and how long after its exec a program's first message is with a subscriber.

The subscriber is open and waiting before the program starts. Both read CLOCK_MONOTONIC, which all processes of a
Linux machine share; the time includes fork and exec, the interpreter's own start and everything imported.
"""

from __future__ import annotations

import compileall
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import zq
from benchmarks import raw
from benchmarks.process import DEADLINE, Failed, Running, Say
from benchmarks.workload import Compare, Contender, Scale, Target, Values, Workload

TOPIC = "benchmark/hello"

PUBLISH_ONE = f"""
import zq

with zq.Peer() as peer:
    peer.publish("{TOPIC}", "hello")
"""

PUSH_ONE = """
import sys, msgpack, zmq

with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
    socket.connect(sys.argv[1])
    socket.send(msgpack.packb("hello"))
"""

ZQ = "import sys; from zq.cli import main; sys.exit(main())"  # what the installed `zq` script does


def importing(statement: str) -> Callable[[Scale], Values]:
    """A contender's run: the milliseconds an interpreter takes to start, execute `statement` and end."""

    def run(scale: Scale) -> Values:
        command = [sys.executable, "-c", statement]
        compile_zq()
        _execute(command)  # brings the files into memory
        started = time.monotonic()
        _execute(command)
        return {"ms": (time.monotonic() - started) * 1e3}

    return run


def subscribe_one(say: Say) -> float:
    """When the first message arrived, by the clock all processes of this machine share."""
    with zq.Peer("subscriber") as peer, peer.subscriber(TOPIC) as subscriber:
        say("open")
        _ = subscriber.receive().data
        return time.monotonic()


def script(scale: Scale) -> Values:
    return _reach(subscribe_one, lambda said: [sys.executable, "-c", PUBLISH_ONE])


def command_line(scale: Scale) -> Values:
    return _reach(subscribe_one, lambda said: [sys.executable, "-c", ZQ, "pub", TOPIC, "hello"])


def raw_script(scale: Scale) -> Values:
    return _reach(raw.pull_one, lambda endpoint: [sys.executable, "-c", PUSH_ONE, endpoint])


def _reach(receive: Callable[[Say], float], command: Callable[[str], list[str]]) -> Values:
    """Milliseconds from just before the exec to the arrival; `command` is made of what the receiver said."""
    compile_zq()
    with Running(receive) as receiver:
        program = command(receiver.hear())
        started = time.monotonic()
        _execute(program)
        return {"ms": (receiver.result() - started) * 1e3}


def compile_zq() -> None:
    """As an installation does, even where Python is told to leave no bytecode behind."""
    compileall.compile_dir(Path(zq.__file__).parent, quiet=2)


def _execute(command: list[str]) -> None:
    """Run it to its end. Raises `Failed`."""
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"still running after {DEADLINE:g} s") from None
    if ended.returncode:
        raise Failed(f"ended with {ended.returncode}: {ended.stderr.strip()}")


IMPORT = Workload(
    name="import",
    title="start an interpreter, import, end",
    rounds=20,
    contenders=(
        Contender(name="bare interpreter", run=importing("pass")),
        Contender(name="import zmq, msgpack", run=importing("import zmq, msgpack")),
        Contender(name="import zq", run=importing("import zq")),
    ),
    targets=(
        Target(contender="import zq", metric="ms", compare=Compare.EXCESS, baseline="bare interpreter", limit=50.0),
    ),
)

START_UP = Workload(
    name="start-up",
    title="from exec to the first message at a waiting subscriber on this machine",
    rounds=15,
    contenders=(
        Contender(name="pyzmq script, address known", run=raw_script),
        Contender(name="zq script", run=script),
        Contender(name="zq pub", run=command_line),
    ),
    targets=(
        Target(contender="zq script", metric="ms", compare=Compare.VALUE, limit=100.0),
        Target(contender="zq pub", metric="ms", compare=Compare.VALUE, limit=350.0),
    ),
)
