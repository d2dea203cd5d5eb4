"""The realm key: the file it is in, and everything that is derived from it.

    # zq realm key, made 2026-05-04, fingerprint 3f2a-91c0-77de-0b18-a4e5
    zq-key-1 <32 random bytes and 4 of a checksum, as 48 letters of URL-safe base64>

`zq-passphrase-1 WORDS` instead is a passphrase, stretched by scrypt. While a key is being replaced a file holds two,
the old one with the day (UTC) until which peers listen with it::

    zq-key-1 <old> until 2026-06-01
    zq-key-1 <new>

The secret itself is used for nothing. Every key that is used comes from it by HKDF-SHA256 (RFC 5869), under a purpose
and the realm's name, so that two realms with one key are as strange to each other as two keys. What is here never
shows a secret: neither `repr` nor an error does, and an error names a line, not what stands in it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import stat
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NoReturn

from zq.errors import AccessDenied, Refused
from zq.record import dataclass

SECRET_BYTES = 32  # of the operating system's randomness; what CURVE25519 and HMAC-SHA256 are worth
CHECK_BYTES = 4  # of a hash, so that a letter lost in copying is noticed
FILE_BYTES = 4_096  # longest key file that is read; one with two keys has some 250
PASSPHRASE_LEAST = 20  # fewest characters; the tag in mDNS lets anyone on the LAN try phrases at home
SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 15, 8, 1  # 32 MiB and some 0.1 s, once a start; OWASP's minimum is half of that
SCRYPT_MEMORY = 64 << 20  # bytes that OpenSSL may take for it

_KEY = re.compile(r"zq-key-1 +(\S+)(?: +until +(\S+))?")
_PASSPHRASE = re.compile(r"zq-passphrase-1 +(.+?)(?: +until +(\S+))?")
MAKE = "`zq key new > FILE` makes one"


def hkdf(secret: bytes, purpose: bytes, length: int = 32, salt: bytes = b"") -> bytes:
    """HKDF-SHA256 of RFC 5869: extract, then expand."""
    key = hmac.digest(salt or bytes(32), secret, "sha256")
    block = output = b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(key, block + purpose + bytes([counter]), "sha256")
        output += block
    return output[:length]


class RealmKey:
    """One secret that opens a realm. Equal if the secrets are; shows its fingerprint and nothing else."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"a realm key has {SECRET_BYTES} bytes")
        self._secret = secret

    def __repr__(self) -> str:
        return f"<RealmKey {self.fingerprint}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RealmKey) and hmac.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a realm key is not for copying")

    @property
    def fingerprint(self) -> str:
        """Tells keys apart and says nothing about them: 80 bits, in groups of four digits."""
        digits = hkdf(self._secret, b"zq/1 fingerprint", 10).hex()
        return "-".join(digits[start : start + 4] for start in range(0, len(digits), 4))

    def derive(self, purpose: str, realm: str, length: int = 32) -> bytes:
        """The key for one purpose in the realm of that name. No realm is called by a name with a zero byte."""
        return hkdf(self._secret, b"zq/1 " + purpose.encode() + b"\0" + realm.encode(), length)

    def line(self) -> str:
        """As it stands in a file; the only thing here that shows the secret."""
        return f"zq-key-1 {base64.urlsafe_b64encode(self._secret + _check(self._secret)).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What a key file holds: the keys of the realm, and from when on the second one is listened with."""

    keys: tuple[RealmKey, ...]  # one, or the old one and the new one
    until: date | None = None  # the day (UTC) on which the second takes over; None with one key

    def binding(self, today: date) -> int:
        """The index of the key that a peer which starts today listens with."""
        return 1 if self.until is not None and today >= self.until else 0


def new_key_file(today: date) -> str:
    """The text of a key file with a new key."""
    key = RealmKey(secrets.token_bytes(SECRET_BYTES))
    return (
        f"# zq realm key, made {today.isoformat()}, fingerprint {key.fingerprint}\n"
        "# Whoever has it is in the realm. Copy it to every host, readable by its user alone (chmod 600).\n"
        f"{key.line()}\n"
    )


def read_keys(path: Path) -> Keys:
    """The keys in a file that is ours alone.

    Raises AccessDenied if it is not, or cannot be read, and Refused if it is not there or holds no keys; both say what
    to do about it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not make us wait
    except FileNotFoundError:
        raise Refused(f"key file {path} is not there; {MAKE}, or copy that of another host") from None
    except OSError as error:
        raise AccessDenied(f"key file {path} cannot be read: {error.strerror}; chmod 600 it, as its owner") from error
    try:
        if wrong := _fault(os.fstat(descriptor)):
            raise AccessDenied(f"key file {path} {wrong}")
        raw = os.read(descriptor, FILE_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(raw) > FILE_BYTES:
        raise Refused(f"key file {path} is no key file: more than {FILE_BYTES} bytes; {MAKE}")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Refused(f"key file {path} is no key file: not text; {MAKE}") from None
    try:
        return parse(text)
    except ValueError as error:
        raise Refused(f"key file {path}: {error}") from None


def _fault(found: os.stat_result) -> str:
    """Why a file must not be used and what to do about it; empty if it may."""
    if not stat.S_ISREG(found.st_mode):
        return f"is no regular file; {MAKE}"
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}; use a copy of your own"
    if found.st_mode & 0o077:
        return f"is open to others (mode {stat.S_IMODE(found.st_mode):03o}); chmod 600 it"
    return ""


def parse(text: str) -> Keys:
    """Raises ValueError, which says what is wrong, in which line, and never what stands there."""
    found: list[tuple[RealmKey, date | None]] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            found.append(_read_line(line, f"line {number}"))
    if not found:
        raise ValueError(f"there is no key in it; {MAKE}")
    if len(found) > 2:
        raise ValueError(f"there are {len(found)} keys in it; at most two, the old one and the new one")
    dates = [until for _, until in found if until is not None]
    if len(found) == 1:
        if dates:
            raise ValueError("one key alone takes no date; add the new key, or remove the date")
        return Keys(keys=(found[0][0],))
    if len(dates) != 1:
        raise ValueError(
            f"two keys and {'no date' if not dates else 'two dates'}; write `until YYYY-MM-DD` behind the old one, "
            "the day from which on peers listen with the new one"
        )
    (old, _), (new, _) = sorted(found, key=lambda pair: pair[1] is None)
    if old == new:
        raise ValueError("both keys are the same; remove one")
    return Keys(keys=(old, new), until=dates[0])


def _read_line(line: str, where: str) -> tuple[RealmKey, date | None]:
    if match := _KEY.fullmatch(line):
        secret = _decode(match[1], where)
    elif match := _PASSPHRASE.fullmatch(line):
        secret = _stretch(match[1], where)
    else:
        raise ValueError(f"{where} is no key; {MAKE}, and lines that begin with # are comments")
    if match[2] is None:
        return RealmKey(secret), None
    try:
        return RealmKey(secret), date.fromisoformat(match[2])
    except ValueError:
        raise ValueError(f"{where}: the day behind `until` is written YYYY-MM-DD") from None


def _decode(letters: str, where: str) -> bytes:
    length = len(base64.urlsafe_b64encode(bytes(SECRET_BYTES + CHECK_BYTES)))
    if len(letters) != length:
        what = "cut off" if len(letters) < length else "too long"
        raise ValueError(f"{where} is {what}: {len(letters)} letters of {length}; copy the file again")
    try:
        raw = base64.b64decode(letters.encode("ascii"), b"-_", validate=True)
    except ValueError:
        raise ValueError(f"{where} is no key: letters that do not belong there; copy the file again") from None
    secret, check = raw[:SECRET_BYTES], raw[SECRET_BYTES:]
    if not hmac.compare_digest(_check(secret), check):
        raise ValueError(f"{where} is damaged: its checksum differs; copy the file again")
    return secret


def _check(secret: bytes) -> bytes:
    return hkdf(secret, b"zq/1 check", CHECK_BYTES)


def _stretch(phrase: str, where: str) -> bytes:
    if len(phrase) < PASSPHRASE_LEAST:
        raise ValueError(f"{where}: a passphrase has at least {PASSPHRASE_LEAST} characters; better, {MAKE}")
    return hashlib.scrypt(
        phrase.encode(), salt=b"zq/1 passphrase", n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=SCRYPT_MEMORY, dklen=32
    )


def today() -> date:
    """By this host's clock, in UTC, as everywhere."""
    return datetime.now(UTC).date()
