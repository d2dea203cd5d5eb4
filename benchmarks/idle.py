"""An idle peer: its memory and its share of a core among others that are idle too, each a process of its own.

Every peer holds a publisher and a subscriber that have nothing to do, as an idle service would. All are alike, each
has all the others around it, and the figures are medians over them.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import psutil

from benchmarks.process import DEADLINE, EXIT, Failed, processor_seconds
from benchmarks.workload import Compare, Contender, Scale, Target, Values, Workload

MEETING = 2.0  # s for each process that starts and meets those that are there, on two processors
LEAVING = 0.5  # s for each of those that leave at once, and say so to all others
# Says "ready", then sits in a read until its input ends, which the end of the benchmark brings about as well.
PEER = """
import contextlib, faulthandler, sys, zq

faulthandler.dump_traceback_later({deadline}, exit=True)
with contextlib.closing(zq.Peer({options})) as peer:
    peer.open(timeout=None)
    with peer.publisher("benchmark/idle"), peer.subscriber("benchmark/other"):
        peer.wait_for_peers(int(sys.argv[1]), timeout=None)
        faulthandler.cancel_dump_traceback_later()
        print("ready", flush=True)
        sys.stdin.read()
"""
BARE = """
import sys, msgpack, zmq

with zmq.Context() as context, context.socket(zmq.SUB) as socket:
    socket.bind("tcp://127.0.0.1:*")
    print("ready", flush=True)
    sys.stdin.read()
"""


def bare(scale: Scale) -> Values:
    return _watch(BARE, 1, scale)


def peers(options: str) -> Callable[[Scale], Values]:
    """A contender's run: peers opened with `options`, the text of their arguments."""

    def run(scale: Scale) -> Values:
        deadline = max(DEADLINE, MEETING * scale.others)
        return _watch(PEER.format(options=options, deadline=deadline), scale.others + 1, scale)

    return run


def _watch(code: str, count: int, scale: Scale) -> Values:
    with _running(code, count) as programs:
        for program in programs:
            _wait_until_ready(program)
        time.sleep(scale.settle_seconds)  # there is no event to wait for: start-up has an end that nobody announces
        before = [processor_seconds(program.pid) for program in programs]
        since = time.perf_counter()
        time.sleep(scale.idle_seconds)
        elapsed = time.perf_counter() - since
        used = [processor_seconds(program.pid) - then for program, then in zip(programs, before, strict=True)]
        resident = [psutil.Process(program.pid).memory_info().rss for program in programs]
    return {"MB": median(resident) / 1e6, "% CPU": median(used) / elapsed * 100}


@contextlib.contextmanager
def _running(code: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """`count` processes, ended by the end of their input, or killed: at once if something failed."""
    with contextlib.ExitStack() as started:
        programs = []
        for _ in range(count):
            program = subprocess.Popen(
                [sys.executable, "-c", code, str(count - 1)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            started.enter_context(program)
            started.callback(program.kill)  # runs first, and does nothing to one that has ended
            programs.append(program)
        yield programs
        for program in programs:
            assert program.stdin is not None
            program.stdin.close()
        patience = max(EXIT, LEAVING * count)
        over = time.monotonic() + patience
        try:
            for program in programs:
                program.wait(max(over - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            raise Failed(f"an idle process did not end within {patience:g} s of being asked to") from None


def _wait_until_ready(program: subprocess.Popen[str]) -> None:
    """Returns at "ready". A peer that does not find the others in time ends itself; its words go into `Failed`."""
    assert program.stdout is not None
    said = ""
    for line in program.stdout:
        if line.strip() == "ready":
            return
        said += line
    raise Failed(f"an idle process ended before it was ready: {said.strip()}")


IDLE = Workload(
    name="idle",
    title="idle processes: resident memory (shared libraries included) and share of a core",
    rounds=1,
    contenders=(
        Contender(name="pyzmq, one bound socket", run=bare),
        Contender(name="zq, this machine", run=peers("")),
        Contender(name="zq, LAN with mDNS", run=peers('insecure=True, interfaces=["127.0.0.1"]')),
    ),
    targets=tuple(
        Target(contender=contender, metric=metric, compare=Compare.VALUE, limit=limit)
        for contender in ("zq, this machine", "zq, LAN with mDNS")
        for metric, limit in (("MB", 40.0), ("% CPU", 0.5))
    ),
)
