"""What libzmq's descriptors say of a connection, whosever they are by now."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from zq.security.taken import UNKNOWN, address_of, cut_off, duplicate, hold


def descriptors() -> set[str]:
    here = Path("/proc/self/fd")
    return {each.name for each in here.iterdir()} if here.exists() else set()


@pytest.mark.parametrize(("family", "here"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_duplicate_says_where_a_connection_came_from(family: int, here: str) -> None:
    with (
        socket.create_server((here, 0), family=family) as server,
        socket.create_connection(server.getsockname()[:2]),
        server.accept()[0] as taken,
    ):
        connection = duplicate(taken.fileno())
        assert connection is not None
        with connection:
            assert address_of(connection) == here


def test_an_ipv4_address_is_the_same_on_a_socket_of_ipv6() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0] as taken:
            connection = duplicate(taken.fileno())
            assert connection is not None
            with connection:
                assert address_of(connection) == "127.0.0.1"


def test_a_descriptor_that_is_closed_or_no_socket_is_none_and_nothing_is_left_open(tmp_path: Path) -> None:
    before = descriptors()
    with (tmp_path / "file").open("w") as file:
        assert duplicate(file.fileno()) is None
        number = file.fileno()
    assert duplicate(number) is None
    read, write = os.pipe()
    assert duplicate(read) is None
    os.close(read)
    os.close(write)
    assert descriptors() <= before  # what tests before this one have left may be closed meanwhile


def test_a_connection_that_is_gone_is_no_error() -> None:
    with socket.socket() as never_connected:
        assert address_of(never_connected) == UNKNOWN
        cut_off(never_connected)
    hold(never_connected, 1)
    cut_off(never_connected)
