"""The memory that large parts are received into: kept by the process, rather than given back and asked for each time.

libzmq's thread allocates each part, the program's frees it. glibc's malloc gives free memory at the end of a heap back
to the kernel from twice the size of the largest block freed so far, so that of one 8 MiB array after another a quarter
is received into pages that the kernel has to find, clear and map anew: 1 us for each 4 KiB, a fifth of what receiving
the array takes.

malloc takes such sizes from what it sees: who frees something larger is a program that works with such sizes. So once
a peer has received a good deal, something of the largest size that it learns from is allocated, never touched (that
costs no memory), and freed. From then on up to 64 MiB that are free stay in a heap for the next part. Who has set
malloc's thresholds himself (MALLOC_TRIM_THRESHOLD_ and others) keeps what he has set; other allocators learn nothing.
"""

from __future__ import annotations

import contextlib

GOOD_DEAL = 64 << 20  # bytes in parts from which memory is kept; as much as may stay then
LARGEST = (32 << 20) - (8 << 10)  # bytes; with its header, in whole pages, below glibc's DEFAULT_MMAP_THRESHOLD_MAX


class Heap:
    """`keeps` says that it has been done, for the whole process."""

    __slots__ = ("_received", "keeps")

    def __init__(self) -> None:
        self._received = 0  # bytes
        self.keeps = False

    def received(self, size: int) -> None:
        """So many bytes have come in parts of their own."""
        self._received += size
        if self._received >= GOOD_DEAL:
            self.keeps = True
            keep()


def keep() -> None:
    with contextlib.suppress(MemoryError):  # it may have no such address space to spare: then nothing is learnt
        bytes(LARGEST)  # calloc'ed, so that no page of it is touched
