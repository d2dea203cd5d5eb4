"""Memory of large parts is used again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

import zq
from zq.engine.heap import GOOD_DEAL, Heap

FAULTS = """
import resource
from zq.engine.heap import keep

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        first, second = bytearray(8 << 20), bytearray(8 << 20)
        del first, second
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
without = faults()
keep()
faults()
print(without, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how glibc's malloc learns")
def test_memory_that_is_free_again_is_not_given_back_and_asked_for_anew() -> None:
    ran = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, timeout=60)
    without, kept = map(int, ran.stdout.split())
    assert without > 10 * 2 * 2_048 // 2  # else nothing has to be done, and this module is of no use any more
    assert kept < without / 100


def test_only_who_has_received_a_good_deal_keeps_memory() -> None:
    heap = Heap()
    heap.received(GOOD_DEAL - 1)
    assert not heap.keeps
    heap.received(1)
    assert heap.keeps


def test_a_peer_that_receives_large_data_keeps_memory_for_it_and_its_sender_does_not() -> None:
    data = bytes(8 << 20)
    with zq.Peer("to") as to, zq.Peer("from") as sender, to.puller("large") as puller, sender.pusher("large") as pusher:
        for _ in range(GOOD_DEAL // len(data)):
            pusher.send(data)
            with puller.receive(timeout=10) as message:
                assert message.data == data
        sockets, others = to._engine._sockets, sender._engine._sockets  # type: ignore[union-attr]
        assert sockets is not None
        assert sockets.heap.keeps
        assert others is not None
        assert not others.heap.keeps
