"""What has gone out is counted exactly, so that the rest can be given back."""

from __future__ import annotations

import os
import threading

import pytest

from zq.cli.output import Output
from zq.cli.receive import write
from zq.message import Message


class Noted(Message):
    """A message that notes how it was settled."""

    __slots__ = ("settled",)

    def __init__(self, data: str) -> None:
        self.data = data
        self.settled = ""

    def ack(self) -> None:
        self.settled += "acked"

    def give_back(self) -> None:
        self.settled += "given back"


def render(message: Message) -> bytes:
    return str(message.data).encode()


def test_a_batch_larger_than_the_pipe_goes_out_whole() -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)  # as when a terminal is shared with a program that made it so
    received = bytearray()

    def read() -> None:
        while piece := os.read(ours, 65_536):
            received.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    output = Output(theirs)
    output.write([b"x" * 300_000, b"", b"y"])
    os.close(theirs)
    reader.join()
    os.close(ours)
    assert received == b"x" * 300_000 + b"y"
    assert output.whole == 3


def test_what_a_closed_pipe_did_not_take_is_given_back() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    batch = [Noted("a"), Noted("b")]
    with pytest.raises(BrokenPipeError):
        write(Output(theirs), list[Message](batch), render)
    os.close(theirs)
    assert [message.settled for message in batch] == ["given back", "given back"]


def test_what_the_pipe_took_before_it_closed_is_acked() -> None:
    ours, theirs = os.pipe()
    batch = [Noted("a"), Noted("b" * 1_000_000), Noted("c")]  # more than any pipe holds

    def leave() -> None:
        os.read(ours, 1)
        os.close(ours)

    reader = threading.Thread(target=leave)
    reader.start()
    with pytest.raises(BrokenPipeError):
        write(Output(theirs), list[Message](batch), render)
    reader.join()
    os.close(theirs)
    assert [message.settled for message in batch] == ["acked", "given back", "given back"]


def test_a_message_that_cannot_be_rendered_settles_nothing_by_mistake() -> None:
    ours, theirs = os.pipe()
    output = Output(theirs)
    write(output, [Noted("a"), Noted("b")], render)
    batch = [Noted("c"), Noted("d")]
    with pytest.raises(ZeroDivisionError):
        write(output, list[Message](batch), lambda message: b"%d" % (1 // 0))
    assert [message.settled for message in batch] == ["given back", "given back"]
    os.close(ours)
    os.close(theirs)
