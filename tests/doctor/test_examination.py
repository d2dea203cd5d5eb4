"""The doctor on one machine: settings, keys, directories, other hosts. Nothing leaves 127.0.0.1."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

import zq
from zq.doctor import Finding, examine
from zq.doctor.greeting import greet
from zq.doctor.places import examine_host_directory, examine_shared
from zq.doctor.realm import Realm, examine_mode
from zq.doctor.remote import clock_difference, examine_clock, find_host
from zq.errors import Refused
from zq.options import Settings
from zq.security.keys import new_key_file

TODAY = date(2026, 5, 4)
HERE = {"insecure": True, "interfaces": ["127.0.0.1"], "discovery": ["host"], "realm": "doctor"}


def have(found: Iterable[Finding], level: str, check: str, *words: str) -> bool:
    return any(
        each.level == level and each.check == check and all(word in repr(each) for word in words) for each in found
    )


def make_key(path: Path) -> Path:
    path.write_text(new_key_file(TODAY))
    path.chmod(0o600)
    return path


def free_port() -> int:
    """On which nobody listens, as good as certainly: below the ephemeral ones."""
    for port in range(31_000, 32_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


# --- settings and keys


def test_nothing_configured_is_no_problem_and_says_what_opens_a_network() -> None:
    found = examine({})
    assert have(found, "note", "realm", "nothing listens on any network", "ZQ_KEY_FILE"), found
    assert not [each for each in found if each.level == "problem"]
    assert {each.check for each in found} == {"settings", "realm", "machine", "directory"}


def test_settings_that_cannot_be_are_a_finding_and_no_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZQ_SEEDS", "gateway")
    assert have(examine({}), "problem", "settings", "host:port")
    monkeypatch.setenv("ZQ_SEEDS", "gateway:20000")
    assert have(examine({}), "problem", "settings", "set key_file")


def test_where_each_setting_comes_from_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZQ_REALM", "plant")
    assert have(examine({}), "ok", "settings", "realm", "plant (from ZQ_REALM)")


def test_a_key_file_that_cannot_be_used_is_a_problem_with_its_fix(tmp_path: Path) -> None:
    key = make_key(tmp_path / "realm.key")
    key.chmod(0o644)
    assert have(examine({"key_file": key}), "problem", "realm", "open to others", "chmod 600")
    assert have(examine({"key_file": tmp_path / "none"}), "problem", "realm", "is not there", "zq key new")


def test_the_key_is_told_by_its_fingerprint_and_never_shown(tmp_path: Path) -> None:
    key = make_key(tmp_path / "realm.key")
    found = examine(HERE | {"insecure": None, "key_file": key})
    assert have(found, "ok", "realm", "fingerprint"), found
    assert key.read_text().split()[-1] not in repr(found)


def test_a_key_that_is_replaced_today_depends_on_clocks(tmp_path: Path) -> None:
    key = tmp_path / "realm.key"
    old, new = (new_key_file(TODAY).splitlines()[-1] for _ in range(2))
    key.write_text(f"{old} until {TODAY + timedelta(days=1)}\n{new}\n")
    key.chmod(0o600)
    realm = Realm(Settings(name="x", key_file=key), TODAY)
    assert have(examine_mode(realm, TODAY), "note", "realm", "takes over", "NTP")
    assert not have(examine_mode(realm, TODAY - timedelta(days=9)), "note", "realm", "takes over")


def test_no_network_is_open_to_look_at_another_host() -> None:
    assert have(examine({}, peer="gateway"), "problem", "peer", "no network is open here")


# --- directories


def test_the_host_directory_is_examined_and_not_made(host_directory: Path) -> None:
    host_directory.rmdir()
    assert have(examine({}), "ok", "directory", "the first peer makes it")
    assert not host_directory.exists()


@pytest.mark.parametrize("what", ["open", "link", "long"])
def test_a_host_directory_that_is_unfit_is_a_problem_with_its_fix(host_directory: Path, what: str) -> None:
    place = host_directory / "place"
    if what == "link":
        place.symlink_to(host_directory)
    elif what == "long":
        place = host_directory / ("x" * 100)
    else:
        place.mkdir(mode=0o700)
        place.chmod(0o755)
    found, _ = examine_host_directory(Settings(name="x", host_dir=place))
    assert have(found, "problem", "directory", str(place), "ZQ_HOST_DIR"), found


def test_what_dead_peers_left_is_removed_and_told(host_directory: Path) -> None:
    (host_directory / f"{'ab' * 8}.peer").write_text("{}")
    found, _ = examine_host_directory(Settings(name="x", host_dir=host_directory))
    assert have(found, "ok", "directory", "1 left by dead peers removed"), found


def test_a_peer_of_another_mode_on_this_machine_is_named() -> None:
    with zq.Peer("local"):
        found = examine(HERE | {"realm": "default"})
    assert have(found, "warning", "realm", "host directory", "on its machine alone", "ZQ_KEY_FILE"), found


def test_a_shared_directory_tells_who_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "odd.peer").write_text("hello")
    found, seen = examine_shared(tmp_path)
    assert have(found, "note", "directory", "is no entry of a peer")
    assert seen == []


def test_a_shared_directory_that_is_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert have(examine_shared(tmp_path / "file")[0], "problem", "directory", "cannot be written")


# --- another host, all of them 127.0.0.1


def test_a_peer_that_fits_is_met() -> None:
    port = free_port()
    with zq.Peer("there", **HERE, port=port):
        found = examine(HERE, peer=f"127.0.0.1:{port}")
    assert have(found, "ok", "peer", "there (pid", "is met at"), found
    assert not [each for each in found if each.level == "problem"]


def test_a_fixed_port_that_our_service_has_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("ZQ_PORT", str(port))
    with zq.Peer("service", **HERE):
        found = examine(HERE, peer="127.0.0.1")
    assert have(found, "ok", "peer", "service (pid", "is met at"), found


def test_a_realm_that_differs_is_a_problem() -> None:
    port = free_port()
    with zq.Peer("there", **(HERE | {"realm": "other"}), port=port):
        found = examine(HERE, peer=f"127.0.0.1:{port}")
    assert have(found, "problem", "peer", "of another realm", "ZQ_REALM=doctor there"), found


def test_a_port_where_somebody_else_listens_is_told_from_a_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        threading.Thread(target=answer, daemon=True).start()
        greeting = greet("127.0.0.1", server.getsockname()[1], 10.0)
        assert (greeting.reached, greeting.mechanism) == ("open", "")


def test_the_mechanism_of_a_door_is_told_without_a_key(tmp_path: Path) -> None:
    port = free_port()
    with zq.Peer(**HERE, port=port):
        assert greet("127.0.0.1", port, 10.0).mechanism == "NULL"
    with zq.Peer(**(HERE | {"insecure": None}), key_file=make_key(tmp_path / "key"), port=port):
        assert greet("127.0.0.1", port, 10.0).mechanism == "CURVE"
    assert greet("127.0.0.1", port, 10.0).reached == "refused"


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [("127.0.0.1", "127.0.0.1", None), ("127.0.0.1:7", "127.0.0.1", 7), ("[::1]:7", "::1", 7), ("::1", "::1", None)],
)
def test_an_address_needs_no_thread_that_may_come_too_late(
    text: str, address: str, port: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(threading, "Thread")
    host = find_host(text, 0.0)
    assert (host.addresses, host.port) == ((address,), port)


def test_a_host_that_does_not_resolve_is_a_finding_in_time() -> None:
    began = time.monotonic()
    assert have(examine(HERE, peer="no.such.host.invalid"), "problem", "peer", "give its address")
    assert time.monotonic() - began < 15.0  # of 5.0 for all of it
    with pytest.raises(Refused, match="give its address"):
        find_host("no.such.host.invalid", 2.0)


def test_clocks_are_compared_by_the_fastest_message() -> None:
    now = datetime(2026, 5, 4, tzinfo=UTC)
    ahead = timedelta(seconds=90)
    slow = timedelta(seconds=91)
    assert clock_difference([]) is None
    assert clock_difference([(now + ahead, now), (now + slow, now)]) == 90.0
    assert clock_difference([(now, now + timedelta(milliseconds=1))]) == pytest.approx(-0.001)


@pytest.mark.parametrize(
    ("difference", "dated", "level"),
    [
        (None, False, "note"),
        (0.2, True, "ok"),
        (-90.0, True, "warning"),
        (-90_000.0, False, "warning"),
        (90_000.0, True, "problem"),
    ],
)
def test_a_clock_matters_most_while_a_key_is_replaced(difference: float | None, dated: bool, level: str) -> None:
    finding = examine_clock("there", difference, dated=dated)
    assert finding.level == level
    assert bool(finding.fix) == (level != "ok")


def test_protocol_versions_in_the_host_directory_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.doctor.realm.VERSION", 2)
    with zq.Peer("old"):
        found = examine({})
    assert have(found, "problem", "realm", "protocol version 1, here it is 2", "the same version of zq"), found
