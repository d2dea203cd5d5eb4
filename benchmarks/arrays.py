"""Arrays of numpy over TCP, without a copy at either end where the library can: to one worker, and shared by four.

The same array is sent again and again, so that nobody measures how fast memory is made; each is touched at both ends.
By hand it is a header and the array as a second frame, `copy=False`, over PUSH/PULL: what ZeroMQ can do at best.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import numpy
import zmq

from benchmarks import alternatives, peers
from benchmarks.process import Running, Say
from benchmarks.raw import LOOPBACK
from benchmarks.workload import Compare, Contender, Scale, Target, Values, Workload

QUEUE = "benchmark-arrays"
SIZES = {"64KiB": 64 << 10, "1MiB": 1 << 20, "8MiB": 8 << 20, "64MiB": 64 << 20}
WARM_UP = 2  # arrays to each worker that are not counted
DTYPE = "<f8"


def carried(workers: int, pull: Callable[..., Any], push: Callable[..., None]) -> Callable[[Scale], Values]:
    """A contender's run: megabytes a second for each size."""

    def run(scale: Scale) -> Values:
        sizes = {name: size for name, size in SIZES.items() if size <= scale.array_bytes}
        return {f"{name} MB/s": _rate(scale, size, workers, pull, push) / 1e6 for name, size in sizes.items()}

    return run


def _rate(scale: Scale, size: int, workers: int, pull: Callable[..., Any], push: Callable[..., None]) -> float:
    """Bytes a second, from the first array that a worker has had after its warm-up to the last of all."""
    workers = min(workers, scale.blades)
    share = max(min(scale.array_bytes // size, scale.messages // 10) // workers, 2)
    with contextlib.ExitStack() as stack:
        pullers = [stack.enter_context(Running(pull, share, size)) for _ in range(workers)]
        said = [puller.hear() for puller in pullers]
        pusher = stack.enter_context(Running(push, said, share, size))
        times = [puller.result() for puller in pullers]
        pusher.result()
    took: float = max(last for _, last in times) - min(first for first, _ in times)
    return share * workers * size / took


# --- zq


def pull(say: Say, share: int, size: int) -> tuple[float, float]:
    """A queue of its own for each worker: who is to get how many is settled, as it is for PUSH/PULL."""
    with peers.blocking("worker") as peer:
        queue = f"{QUEUE}-{peer.id.hex()[:8]}"
        with peer.puller(queue) as puller:
            say(queue)
            first = 0.0
            for number in range(share + WARM_UP):
                with puller.receive(timeout=60) as message:
                    array = message.data["array"]
                    assert array.nbytes == size
                    _ = array[-1]
                if number == WARM_UP - 1:
                    first = time.monotonic()
            return first, time.monotonic()


def push(say: Say, queues: Sequence[str], share: int, size: int) -> None:
    array = numpy.arange(size // 8, dtype=DTYPE)
    with peers.blocking("pusher") as peer, contextlib.ExitStack() as stack:
        pushers = [stack.enter_context(peer.pusher(queue)) for queue in queues]
        for pusher in pushers:
            pusher.wait_for_pullers()
        peers.require_tcp(peer.peers())
        for number in range(share + WARM_UP):
            for pusher in pushers:
                pusher.send({"number": number, "array": array}, copy=False)
        for pusher in pushers:
            pusher.flush(until="processed", timeout=60)


# --- by hand


def pull_by_hand(say: Say, share: int, size: int) -> tuple[float, float]:
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.rcvhwm = 0
        socket.bind(LOOPBACK)
        say(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        first = 0.0
        for number in range(share + WARM_UP):
            header = msgpack.unpackb(socket.recv())
            array = numpy.frombuffer(socket.recv(copy=False).buffer, header["dtype"]).reshape(header["shape"])
            assert array.nbytes == size
            _ = array[-1]
            if number == WARM_UP - 1:
                first = time.monotonic()
        return first, time.monotonic()


def push_by_hand(say: Say, endpoints: Sequence[str], share: int, size: int) -> None:
    array = numpy.arange(size // 8, dtype=DTYPE)
    pack = msgpack.Packer(autoreset=True).pack
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.sndhwm = 0
        for endpoint in endpoints:
            socket.connect(endpoint)
        for number in range(share + WARM_UP):
            for _ in endpoints:
                header = {"number": number, "dtype": array.dtype.str, "shape": array.shape}
                socket.send(pack(header), zmq.SNDMORE)
                socket.send(array.data, copy=False)


def _workload(name: str, workers: int, title: str, limit: float | None) -> Workload:
    by_hand = "pyzmq PUSH/PULL"
    return Workload(
        name=name,
        title=title,
        rounds=3,
        contenders=(
            Contender(name=by_hand, run=carried(workers, pull_by_hand, push_by_hand)),
            Contender(name="zq", run=carried(workers, pull, push)),
            *alternatives.ARRAYS[workers],
        ),
        targets=()
        if limit is None
        else (
            Target(
                contender="zq",
                metric="8MiB MB/s",
                compare=Compare.RATIO,
                baseline=by_hand,
                at_least=True,
                limit=limit,
            ),
        ),
    )


ARRAYS = _workload("arrays", 1, "arrays of numpy to one worker over TCP, without copies, each acknowledged by zq", 0.95)
ARRAYS_TO_FOUR = _workload("arrays-1-4", 4, "the same arrays to four workers in turn", None)
