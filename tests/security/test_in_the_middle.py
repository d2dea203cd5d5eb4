"""A man in the middle of a connection: what he changes or repeats is not heard, and what he reads says nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import zmq

import zq
from tests.processes.conftest import Options
from tests.security.rogues import DEADLINE, MESSAGES, Rogues, doors_of, listeners_of, lock_of
from tests.security.test_banners import GREETING
from tests.waiting import eventually

WORD = b"attack at dawn"
WELCOME = 2 + 168  # bytes of the door's answer to a HELLO, which anybody may repeat; RFC 26
COMMANDS = 2  # HELLO and INITIATE; what a caller says after them are messages

Change = Callable[[bytes, int], bytes]


class Middle:
    """Passes on what a caller and a door say to each other, the caller's words changed; keeps both."""

    def __init__(self, door: str, change: Change) -> None:
        host, port = door.removeprefix("tcp://").split(":")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked, self.answered = b"", b""
        self._change = change
        self._there = (host, int(port))
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        caller, _ = self._listener.accept()
        with caller, socket.create_connection(self._there) as door:
            back = threading.Thread(target=self._answer, args=(caller, door), daemon=True)
            back.start()
            try:
                while piece := caller.recv(65_536):
                    changed = self._change(piece, len(self.asked))
                    self.asked += piece  # first: what the door has heard is here
                    door.sendall(changed)
            except OSError:
                pass  # one of the two has had enough
            for end in (caller, door):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            back.join(DEADLINE)
        self.ended.set()

    def _answer(self, caller: socket.socket, door: socket.socket) -> None:
        try:
            while piece := door.recv(65_536):
                self.answered += piece
                caller.sendall(piece)
            caller.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # one of the two has had enough

    def close(self) -> None:
        self._listener.close()
        self._thread.join(DEADLINE)


@contextmanager
def middle(door: str, change: Change) -> Iterator[Middle]:
    man = Middle(door, change)
    try:
        yield man
    finally:
        man.close()


def unchanged(piece: bytes, _: int) -> bytes:
    return piece


def flip(place: int) -> Change:
    """One bit of the byte at `place`."""

    def change(piece: bytes, start: int) -> bytes:
        at = place - start
        return piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :] if 0 <= at < len(piece) else piece

    return change


def bodies(asked: bytes) -> list[tuple[int, int]]:
    """Where each command and each frame begins and ends, without its flags and length; RFC 37."""
    found, at = [], GREETING
    while at < len(asked):
        size = 8 if asked[at] & 2 else 1
        start = at + 1 + size
        at = start + int.from_bytes(asked[at + 1 : start], "big")
        found.append((start, at))
    return found


def say(rogues: Rogues, lock_fits: Callable[[zmq.Socket[bytes]], None], endpoint: str) -> None:
    rogues.knock(zmq.PUSH, endpoint, lock_fits)
    rogues.all[-1].say(WORD * 4)


def test_who_only_listens_reads_nothing(keyed: Options) -> None:
    with zq.Peer(**keyed) as peer, Rogues() as callers, middle(doors_of(peer)[0], unchanged) as man:
        say(callers, lock_of(peer).fit_own, man.endpoint)
        eventually(
            lambda: peer.ledger().refused_frames >= MESSAGES + 1
        )  # all that was said was heard, and makes no sense
        assert len(bodies(man.asked)) > COMMANDS
        assert WORD not in man.asked
        callers.close()


@pytest.mark.parametrize("number", range(COMMANDS + 3))
def test_a_flipped_bit_is_never_heard_nor_is_what_follows(number: int, keyed: Options) -> None:
    """In HELLO, in INITIATE, in the first messages: always the same places, as everything has its size."""
    with zq.Peer(**keyed) as peer, Rogues() as callers:
        door, fit, each = doors_of(peer)[0], lock_of(peer).fit_own, MESSAGES + 1
        with middle(door, unchanged) as man:
            say(callers, fit, man.endpoint)
            eventually(lambda: peer.ledger().refused_frames == each)
            callers.close()
            assert man.ended.wait(DEADLINE)
        start, end = bodies(man.asked)[number]
        with middle(door, flip((start + end) // 2)) as other:
            say(callers, fit, other.endpoint)
            eventually(lambda: other.ended.is_set() or len(other.asked) == len(man.asked))
            say(callers, fit, door)  # what is said behind it is heard behind it
            before = max(number - COMMANDS, 0)  # messages before the bit
            eventually(lambda: peer.ledger().refused_frames == each + before + each)
            callers.close()
            assert other.ended.wait(DEADLINE)
        assert peer.ledger().refused_frames == each + before + each


def test_a_recorded_session_that_is_played_again_is_not_heard(keyed: Options) -> None:
    with zq.Peer(**keyed) as peer, Rogues() as callers:
        door = doors_of(peer)[0]
        with middle(door, unchanged) as man:
            say(callers, lock_of(peer).fit_own, man.endpoint)
            eventually(lambda: peer.ledger().refused_frames >= MESSAGES + 1)
            callers.close()
            assert man.ended.wait(DEADLINE)
        heard, let_in = peer.ledger().refused_frames, listeners_of(peer).guard.let_in
        host, port = door.removeprefix("tcp://").split(":")
        for _ in range(3):
            with socket.create_connection((host, int(port)), timeout=DEADLINE) as again:
                again.sendall(man.asked)
                answered = b""
                try:
                    while piece := again.recv(65_536):
                        answered += piece
                except ConnectionError:
                    pass  # it had not read all of it
                assert len(answered) <= GREETING + WELCOME
        assert peer.ledger().refused_frames == heard
        assert listeners_of(peer).guard.let_in == let_in
