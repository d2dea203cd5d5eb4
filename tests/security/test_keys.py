"""Key files and derivation: what is read, what is refused and how, and that no secret is ever shown."""

from __future__ import annotations

import base64
import copy
import os
import re
import traceback
from datetime import date
from pathlib import Path

import pytest

from zq.errors import AccessDenied, Refused
from zq.security.keys import FILE_BYTES, Keys, RealmKey, hkdf, new_key_file, parse, read_keys

ONE, TWO, THREE = (RealmKey(bytes([number]) * 32) for number in (1, 2, 3))
DAY = date(2026, 6, 1)
VECTORS = [  # RFC 5869, appendix A: secret, salt, info, length, output
    (
        b"\x0b" * 22,
        bytes(range(13)),
        bytes(range(0xF0, 0xFA)),
        42,
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)),
        bytes(range(0x60, 0xB0)),
        bytes(range(0xB0, 0x100)),
        82,
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        b"\x0b" * 22,
        b"",
        b"",
        42,
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "realm.key"
    path.touch(0o600)
    path.write_text(new_key_file(DAY))
    return path


@pytest.mark.parametrize(("secret", "salt", "info", "length", "output"), VECTORS)
def test_derivation_is_that_of_rfc_5869(secret: bytes, salt: bytes, info: bytes, length: int, output: str) -> None:
    assert hkdf(secret, info, length, salt).hex() == output


def test_a_new_key_file_is_read_back_and_says_its_fingerprint(file: Path) -> None:
    keys = read_keys(file)
    assert len(keys.keys) == 1
    assert keys.until is None
    assert f"made 2026-06-01, fingerprint {keys.keys[0].fingerprint}" in file.read_text()
    assert re.fullmatch(r"[0-9a-f]{4}(-[0-9a-f]{4}){4}", keys.keys[0].fingerprint)


def test_no_two_new_keys_are_the_same() -> None:
    assert len({parse(new_key_file(DAY)).keys[0] for _ in range(50)}) == 50


def test_what_is_derived_differs_by_key_purpose_and_realm() -> None:
    derived = {key.derive(purpose, realm) for key in (ONE, TWO) for purpose in ("a", "b") for realm in ("x", "y")}
    assert len(derived) == 8


def test_what_is_derived_stays_the_same() -> None:
    """Golden: hosts with different versions of zq have to meet."""
    assert ONE.derive("tag", "default", 8).hex() == "a7552737b71a7ed4"
    assert ONE.fingerprint == "7089-0d85-dbc3-a7db-7b05"
    assert ONE.line() == "zq-key-1 AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQGt73Yb"
    passphrase = parse("zq-passphrase-1 correct horse battery staple").keys[0]
    assert passphrase.fingerprint == "b100-cb80-7b63-d627-8efd"


def test_two_keys_and_a_date_listen_with_the_old_one_until_that_day() -> None:
    for text in (f"{ONE.line()} until 2026-06-01\n{TWO.line()}", f"{TWO.line()}\n\n{ONE.line()}   until  2026-06-01"):
        keys = parse(text)
        assert keys == Keys(keys=(ONE, TWO), until=DAY)
        assert keys.keys[keys.binding(date(2026, 5, 31))] == ONE
        assert keys.keys[keys.binding(DAY)] == TWO
    assert parse(ONE.line()).binding(DAY) == 0


def test_a_passphrase_can_be_replaced_too() -> None:
    keys = parse(f"zq-passphrase-1 correct horse battery staple until 2026-06-01\n{TWO.line()}")
    assert keys.keys[0] == parse("zq-passphrase-1  correct horse battery staple ").keys[0]
    assert keys.until == DAY


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no key in it; `zq key new > FILE` makes one"),
        ("# only a comment\n\n", "no key in it"),
        ("hello\n", "line 1 is no key; `zq key new > FILE` makes one"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r\n", "line 1 is no key"),
        (f"# ok\n{ONE.line()[:-7]}", r"line 2 is cut off: 41 letters of 48; copy the file again"),
        (f"{ONE.line()}AAAA", r"line 1 is too long: 52 letters of 48"),
        (f"zq-key-1 {'!' * 48}", "line 1 is no key: letters that do not belong there"),
        (f"zq-key-1 {'é' * 48}", "line 1 is no key: letters that do not belong there"),
        (f"zq-key-1 {base64.urlsafe_b64encode(b'x' * 36).decode()}", "line 1 is damaged: its checksum differs"),
        (f"{ONE.line()} until 2026-06-01", "one key alone takes no date"),
        (f"{ONE.line()}\n{TWO.line()}", "two keys and no date; write `until YYYY-MM-DD` behind the old one"),
        (f"{ONE.line()} until 2026-06-01\n{TWO.line()} until 2026-06-02", "two keys and two dates"),
        (f"{ONE.line()} until 2026-06-01\n{ONE.line()}", "both keys are the same"),
        (f"{ONE.line()} until June\n{TWO.line()}", "line 1: the day behind `until` is written YYYY-MM-DD"),
        (f"{ONE.line()} until 2026-02-30\n{TWO.line()}", "line 1: the day behind"),
        (f"{ONE.line()}\n{TWO.line()}\n{THREE.line()}", "there are 3 keys in it; at most two"),
        ("zq-passphrase-1 hunter2", "line 1: a passphrase has at least 20 characters"),
        (f"zq-key-2 {'A' * 48}", "line 1 is no key"),
    ],
)
def test_a_file_that_is_none_says_what_is_wrong_and_what_to_do(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(Refused, match=says) as caught:
        read_keys(file)
    assert str(file) in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value))
    for word in re.findall(r"zq-(?:key|passphrase)-1 +(\S{4,})", text):
        assert word not in shown


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"realm\.key is not there; `zq key new > FILE` makes one, or copy"):
        read_keys(tmp_path / "realm.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_file_that_is_open_to_others_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(AccessDenied, match=rf"realm\.key is open to others \(mode {mode:03o}\); chmod 600 it"):
        read_keys(file)
    file.chmod(0o400)
    assert read_keys(file)


@pytest.mark.root
def test_a_file_of_somebody_else_is_refused(file: Path) -> None:
    os.chown(file, 4711, 4711)
    with pytest.raises(AccessDenied, match="belongs to user 4711; use a copy of your own"):
        read_keys(file)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(AccessDenied, match="fifo is no regular file"):
        read_keys(tmp_path / "fifo")
    with pytest.raises(AccessDenied, match="is no regular file"):
        read_keys(tmp_path)
    with pytest.raises(AccessDenied, match="is no regular file"):
        read_keys(Path("/dev/zero"))


def test_a_link_is_judged_by_what_it_leads_to(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    assert read_keys(link) == read_keys(file)
    file.chmod(0o644)
    with pytest.raises(AccessDenied, match="open to others"):
        read_keys(link)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00binary", b"#" * (FILE_BYTES + 1)])
def test_a_file_that_is_no_text_of_a_few_lines_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(Refused, match="is no key file"):
        read_keys(file)


def test_a_key_shows_its_fingerprint_and_nothing_else() -> None:
    keys = Keys(keys=(ONE, TWO), until=DAY)
    for shown in (repr(ONE), str(ONE), f"{ONE}", repr(keys), repr([ONE])):
        assert ONE.fingerprint in shown
        assert ONE.line().split()[1] not in shown
        assert "\\x01\\x01" not in shown
        assert "01010101" not in shown
    with pytest.raises(TypeError):
        copy.copy(ONE)
