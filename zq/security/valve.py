"""Whose connections the kernel does not finish for now: whoever comes faster than anybody should costs us nothing.

A connection that libzmq takes and closes again costs some 0.2 ms here, whether it says anything or not, so that some
thousand a second are felt by friends although none of them is let in. A door whose valve is closed in part answers a
SYN as ever, but of what follows it a filter on the listening socket (BPF, SO_ATTACH_FILTER) lets only a share pass, by
chance, so that the connection of the others is neither made nor refused. Who comes is made to wait by his own kernel:
it says the same again after 0.2 s, 0.4 s and so on, and gets through sooner or later. By chance, since a door that is
closed and opened again lets all in at once who have waited. Who has hung up meanwhile is not let in any more: his
kernel goes on for a minute and more, and behind a thousand like him a friend from there would wait as long.

A connection that is made while a filter is attached inherits it, and would go on losing what is said on it: whoever
takes one has to `detach` it. Connections of before have nothing to do with it.

The program, for addresses of which each has a share of its own:

    SYN or RST?                     pass
    FIN?                            drop
    IPv4, from one of the listed?   pass or drop, by its share
    IPv6, from one of the listed?   the same
    else                            pass or drop, by the share of all others

On Linux only. Where the kernel does not take a program, nothing is dropped.
"""

from __future__ import annotations

import socket
import struct
import sys
from array import array
from collections.abc import Iterator, Mapping

MOST = 64  # addresses in one program: 13 kB if all are of IPv6; a socket may have 20 kB (net.core.optmem_max)
_ATTACH_FILTER, _DETACH_FILTER = 26, 27  # SO_ATTACH_FILTER and so on, of asm-generic/socket.h; Python has no names
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter: code, where to go on if true, if false, operand
_FLAGS, _SYN_OR_RST, _FIN = 13, 0x06, 0x01  # where TCP's flags are
_NETWORK, _PROTOCOL, _RANDOM = 0xFFF00000, 0xFFFFF000, 0xFFFFF038  # SKF_NET_OFF; SKF_AD_OFF + _PROTOCOL, + _RANDOM
_SOURCE_4, _SOURCE_6 = 12, 8  # of the source address, in the header of IP
_LOAD_BYTE, _LOAD_WORD, _RETURN = 0x30, 0x20, 0x06  # of linux/bpf.h
_IF_EQUAL, _IF_AT_LEAST, _IF_ANY, _GO_ON = 0x15, 0x35, 0x45, 0x05
_PASS, _DROP = 0xFFFFFFFF, 0
_IPV4 = 0x0800  # as the protocol of a packet

Instruction = tuple[int, int, int, int]

_BEGINNING: tuple[Instruction, ...] = (
    (_LOAD_BYTE, 0, 0, _FLAGS),
    (_IF_ANY, 0, 1, _SYN_OR_RST),
    (_RETURN, 0, 0, _PASS),
    (_IF_ANY, 0, 1, _FIN),
    (_RETURN, 0, 0, _DROP),
)


def program(shares: Mapping[str, float], others: float) -> bytes:
    """Lets pass that share (0 to 1) of what comes from each of these addresses, and of what comes from all others."""
    four: list[Instruction] = []
    six: list[Instruction] = []
    for address, share in shares.items():
        if ":" in address:
            six += _six(socket.inet_pton(socket.AF_INET6, address.partition("%")[0]), _verdict(share))
        else:
            four += _four(socket.inet_pton(socket.AF_INET, address), _verdict(share))
    rest = _verdict(others)
    return _pack(
        *_BEGINNING,
        (_LOAD_WORD, 0, 0, _PROTOCOL),
        (_IF_EQUAL, 1, 0, _IPV4),
        (_GO_ON, 0, 0, 1 + len(four) + len(rest)),  # behind all that is for IPv4
        (_LOAD_WORD, 0, 0, _NETWORK + _SOURCE_4),
        *four,
        *rest,
        *six,
        *rest,
    )


def _verdict(share: float) -> list[Instruction]:
    if share >= 1.0:
        return [(_RETURN, 0, 0, _PASS)]
    return [
        (_LOAD_WORD, 0, 0, _RANDOM),
        (_IF_AT_LEAST, 0, 1, int(share * (1 << 32))),
        (_RETURN, 0, 0, _DROP),
        (_RETURN, 0, 0, _PASS),
    ]


def _four(address: bytes, verdict: list[Instruction]) -> Iterator[Instruction]:
    yield (_IF_EQUAL, 0, len(verdict), int.from_bytes(address, "big"))
    yield from verdict


def _six(address: bytes, verdict: list[Instruction]) -> Iterator[Instruction]:
    for at in range(0, 16, 4):
        yield (_LOAD_WORD, 0, 0, _NETWORK + _SOURCE_6 + at)
        rest = (12 - at) // 4 * 2 + len(verdict)  # instructions up to the next address
        yield (_IF_EQUAL, 0, rest, int.from_bytes(address[at : at + 4], "big"))
    yield from verdict


def _pack(*code: Instruction) -> bytes:
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in code)


EVERYBODY = _pack(*_BEGINNING, (_RETURN, 0, 0, _PASS))  # but those who have hung up


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
