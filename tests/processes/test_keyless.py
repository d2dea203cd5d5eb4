"""Nothing configured: only this user on this machine takes part, and nothing listens on any network."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

import zq
from tests.processes.conftest import Options, Start
from tests.processes.watching import endpoints

NOBODY = 65_534


def own_inodes() -> set[str]:
    """Of the sockets of this process."""
    inodes: set[str] = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(descriptor)  # noqa: PTH115, it names no file
        except FileNotFoundError:
            continue  # the one that lists the directory
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    return inodes


def network_sockets() -> set[str]:
    """The sockets of this process that are on a network, by table and inode. Those that an earlier test has left may
    still be closing."""
    inodes = own_inodes()
    found: set[str] = set()
    for table in ("tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6"):
        path = Path("/proc/net") / table
        if path.exists():
            rows = [row.split() for row in path.read_text().splitlines()[1:]]
            found |= {f"{table}: {row[9]}" for row in rows if row[9] in inodes}
    return found


def paths_bound() -> list[str]:
    """The unix sockets of this process that have a name."""
    rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()[1:]]
    inodes = own_inodes()
    return [row[7] for row in rows if len(row) > 7 and row[6] in inodes]


def test_nothing_is_on_any_network(start: Start, local: Options, tcp: Options, host_directory: Path) -> None:
    before = network_sockets()
    with zq.Peer(**local) as peer, peer.publisher("news") as publisher:
        subscriber = start("subscribe", local, "news", 1)
        subscriber.hear()
        publisher.send("hello")
        assert subscriber.hear() == ["hello"]
        assert network_sockets() <= before
        bound = [path for path in paths_bound() if path.startswith(str(host_directory))]
        assert {Path(path).name for path in bound} == {f"{peer.id.hex()[:16]}.{kind}" for kind in "mfw"}
        assert not [path for path in paths_bound() if path.startswith("@")]  # the abstract ones know no permissions
    with zq.Peer(**tcp):
        assert network_sockets() - before  # else this test would see nothing at all


@pytest.mark.root
def test_another_user_sees_nothing(start: Start, local: Options, host_directory: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="zq-", dir="/tmp") as own, zq.Peer(**local) as peer:
        os.chown(own, NOBODY, NOBODY)
        sockets = [endpoint.removeprefix("ipc://") for endpoint in endpoints(peer)]
        assert all(Path(path).is_socket() for path in sockets)
        stranger = start("intrude", NOBODY, str(host_directory), sockets, own, local)
        found = stranger.hear()
        assert found["list"] == "EACCES"
        assert found["connect"] == ["EACCES"] * 3
        assert f"{host_directory} belongs to user 0" in found["theirs"]
        assert found["peers"] == 0
        assert found["own"] == [".f", ".m", ".peer", ".w"]
        assert peer.peers() == []
        assert peer.ledger().refused_frames == 0
