"""Whose connections the kernel does not finish for now: whoever comes faster than anybody should costs us nothing then.

A connection that libzmq takes and closes again costs some 0.2 ms here, whether it says anything or not, so that some
thousand a second are felt by friends although none of them is let in. A door whose valve is closed answers a SYN as
ever, but what follows it is dropped by a filter on the listening socket (BPF, SO_ATTACH_FILTER), so that the connection
is neither made nor refused. Who comes is made to wait by his own kernel: it says the same again after 0.2 s, 0.4 s and
so on, and gets through when the valve is open. Established connections have nothing to do with it.

The program, for a door that everybody's address but some are closed for (or only some):

    SYN or RST?                     pass
    IPv4, from one of the listed?   the other of pass and drop
    IPv6, from one of the listed?   the other of pass and drop
    else                            pass or drop

On Linux only. Where the kernel does not take a program, nothing is dropped.
"""

from __future__ import annotations

import socket
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator

MOST = 64  # addresses in one program: 10 kB if all are of IPv6; a socket may have 20 kB of such (net.core.optmem_max)
_ATTACH_FILTER, _DETACH_FILTER = 26, 27  # SO_ATTACH_FILTER and so on, of asm-generic/socket.h; Python has no names
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter: code, where to go on if true, if false, operand
_FLAGS, _SYN_OR_RST = 13, 0x06  # where TCP's flags are
_NETWORK, _PROTOCOL = 0xFFF00000, 0xFFFFF000  # SKF_NET_OFF; SKF_AD_OFF + SKF_AD_PROTOCOL
_SOURCE_4, _SOURCE_6 = 12, 8  # of the source address, in the header of IP
_LOAD_BYTE, _LOAD_WORD, _IF_EQUAL, _IF_ANY, _GO_ON, _RETURN = 0x30, 0x20, 0x15, 0x45, 0x05, 0x06  # of linux/bpf.h
_PASS, _DROP = 0xFFFFFFFF, 0
_IPV4 = 0x0800  # as the protocol of a packet

Instruction = tuple[int, int, int, int]


def program(addresses: Iterable[str], *, listed: bool) -> bytes:
    """Drops what is of the listed addresses, or of all others if not `listed`."""
    theirs, others = (_DROP, _PASS) if listed else (_PASS, _DROP)
    four: list[Instruction] = []
    six: list[Instruction] = []
    for address in addresses:
        if ":" in address:
            six += _six(socket.inet_pton(socket.AF_INET6, address.partition("%")[0]), theirs)
        else:
            four += _four(socket.inet_pton(socket.AF_INET, address), theirs)
    return _pack(
        (_LOAD_BYTE, 0, 0, _FLAGS),
        (_IF_ANY, 0, 1, _SYN_OR_RST),
        (_RETURN, 0, 0, _PASS),
        (_LOAD_WORD, 0, 0, _PROTOCOL),
        (_IF_EQUAL, 1, 0, _IPV4),
        (_GO_ON, 0, 0, 1 + len(four) + 1),  # behind all that is for IPv4
        (_LOAD_WORD, 0, 0, _NETWORK + _SOURCE_4),
        *four,
        (_RETURN, 0, 0, others),
        *six,
        (_RETURN, 0, 0, others),
    )


def _four(address: bytes, verdict: int) -> Iterator[Instruction]:
    yield (_IF_EQUAL, 0, 1, int.from_bytes(address, "big"))
    yield (_RETURN, 0, 0, verdict)


def _six(address: bytes, verdict: int) -> Iterator[Instruction]:
    for at in range(0, 16, 4):
        yield (_LOAD_WORD, 0, 0, _NETWORK + _SOURCE_6 + at)
        rest = (12 - at) // 4 * 2 + 1  # instructions up to the next address
        yield (_IF_EQUAL, 0, rest, int.from_bytes(address[at : at + 4], "big"))
    yield (_RETURN, 0, 0, verdict)


def _pack(*code: Instruction) -> bytes:
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)


EVERYBODY = _pack((_RETURN, 0, 0, _PASS))


def attach(door: socket.socket, code: bytes) -> None:
    """To a socket that listens; in place of what was attached before."""
    if sys.platform != "linux":
        return
    instructions = array("B", code)
    address, size = instructions.buffer_info()
    option, value = _ATTACH_FILTER, struct.pack("@HP", size // _INSTRUCTION.size, address)  # struct sock_fprog
    try:
        door.setsockopt(socket.SOL_SOCKET, option, value)
    except OSError:
        detach(door)  # or that of before would stay


def detach(door: socket.socket) -> None:
    """Everything passes."""
    try:
        door.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
    except OSError:
        pass  # there was none, or the door is gone
