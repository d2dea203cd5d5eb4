"""No key, and nothing that is derived from one, is ever in a log, a repr, an error, a record or a listing."""

from __future__ import annotations

import base64
import dataclasses
import logging
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from zmq.utils import z85

import zq
from tests.processes.conftest import Options
from tests.security.rogues import Friends, doors_of, lock_of, lookout_of, sockets_of, try_random_keys
from tests.security.test_records import over_mdns
from tests.waiting import eventually
from zq.security.keys import read_keys
from zq.security.lock import Lock

PIECE = 10  # letters of a key that must not appear either: 50 bits and more


def material(lock: Lock, key_file: Path) -> Iterator[bytes]:
    """All that must stay here: secrets, and the public halves too, which only the realm knows."""
    yield read_keys(key_file).keys[0]._secret
    for cut in lock._cuts:
        yield from (cut.server.secret, cut.server.public, cut.client.secret, cut.client.public, cut._proof)


def spellings(secret: bytes) -> Iterator[str]:
    yield from (secret.hex(), base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode())
    yield from (z85.encode(secret).decode(), base64.b32encode(secret).decode(), repr(secret)[2:-1])
    yield secret.decode("latin-1")


def leaks(text: str, secrets: Iterable[bytes]) -> list[str]:
    """Pieces of any spelling of any of them."""
    found: list[str] = []
    for secret in secrets:
        for spelling in spellings(secret):
            pieces = {spelling[start : start + PIECE] for start in range(0, len(spelling) - PIECE, PIECE)}
            found += [piece for piece in pieces if piece in text]
    return found


def shown(value: object) -> str:
    """As an operator, a debugger or a crash report may come to show it."""
    texts = [repr(value), str(value), f"{value}"]
    if dataclasses.is_dataclass(value):
        texts += [repr(getattr(value, field.name)) for field in dataclasses.fields(value)]
    texts += [repr(part) for part in getattr(value, "__dict__", {}).values()]
    return "\n".join(texts)


def test_nothing_that_is_shown_shows_a_key(
    keyed: Options, key_file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    with Friends(keyed) as friends, zq.Peer("announced", **over_mdns(keyed)) as peer:
        assert try_random_keys(lock_of(friends.sender), doors_of(friends.sender), 20) == []
        friends.rest()
        lock, engine = lock_of(friends.sender), friends.sender._engine
        assert engine is not None
        mdns = lookout_of(peer)._mdns
        assert mdns is not None
        eventually(lambda: mdns.error is None)
        secrets = list(material(lock, key_file))
        said += [str(mdns._text), *(str(info) for info in friends.sender.peers()), str(friends.sender.ledger())]
        parts = (friends.sender, engine, engine.settings, engine.node.card, sockets_of(friends.sender), lock)
        said += [shown(part) for part in (*parts, lookout_of(peer), read_keys(key_file), *read_keys(key_file).keys)]
        said += [shown(cut) for cut in (*lock._cuts, *(cut.server for cut in lock._cuts))]
    with monkeypatch.context() as hole:
        hole.setattr(Lock, "admits", lambda self, public: True)
        with pytest.raises(zq.AccessDenied) as caught:
            zq.Peer(**keyed).open()
    said += traceback.format_exception(caught.value)
    key_file.write_text(key_file.read_text()[:-3])
    with pytest.raises(zq.Refused) as refused:
        zq.Peer(**keyed).open()
    said += traceback.format_exception(refused.value)
    said += [record.getMessage() + (record.exc_text or "") for record in caplog.records]
    assert len(caplog.records) > 3
    assert leaks("\n".join(said), secrets) == []


def test_the_search_finds_a_key_in_any_spelling(key_file: Path) -> None:
    secret = read_keys(key_file).keys[0]._secret
    for spelling in spellings(secret):
        assert leaks(f"key={spelling}!", [secret])
        assert leaks(f"key={spelling[PIECE : 2 * PIECE]}...", [secret])
    assert leaks(key_file.read_text(), [secret])


def test_names_from_elsewhere_are_escaped_in_logs(keyed: Options, caplog: pytest.LogCaptureFixture) -> None:
    """Who has the key may still be mistaken, or worse: a name must not write lines of its own into a log."""
    caplog.set_level(logging.DEBUG)
    with Friends(keyed) as friends:
        (info,) = friends.sender.peers()
        engine = friends.sender._engine
        assert engine is not None
        engine._on_event("joined", dataclasses.replace(info, name="x\n\x1b[2Jforged line" + "y" * 1_000))
    lines = [record.getMessage() for record in caplog.records if "forged line" in record.getMessage()]
    assert len(lines) == 1
    assert not {"\n", "\x1b"} & set(lines[0])
    assert len(lines[0]) < 300
