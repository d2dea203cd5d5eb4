"""Nothing that came from elsewhere writes lines of its own into a log, moves a cursor, or turns the direction of text.

Each way in carries the same text; then what stands in the log, and what every command of `zq` prints, is looked at
character by character.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import secrets
import shlex
import subprocess
import unicodedata
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

import zq
from tests.cli.patient import ZQ
from tests.discovery.test_mdns import announce
from tests.test_bad_frames import Stranger
from tests.waiting import eventually
from zq.core.node import Node
from zq.discovery.host import Entry
from zq.discovery.sighting import SERVICE
from zq.engine.doors import realm_tag
from zq.logs import Logger, escaped
from zq.options import load
from zq.wire import frames
from zq.wire.batch import Run, encode_topic, topic_prefix
from zq.wire.body import address
from zq.wire.frames import Findings, Hello, LedgerReply, Letters, Peers, Welcome

DEADLINE = 20.0
CONTROLS = "\n\r\0\x1b[2J\x1b]0;owned\x07\b\x7f\x9b31m\x85\u2028\u2029\u202e\u2066\u200f"
HOSTILE = f"x{CONTROLS}FORGED"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that zq logs, as a plain handler writes it: what a record says stands behind `|`."""
    text = io.StringIO()
    handler, logger = logging.StreamHandler(text), logging.getLogger("zq")
    handler.setFormatter(logging.Formatter("|%(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield text
    logger.removeHandler(handler)
    logger.setLevel(level)


def strange(text: str) -> set[str]:
    """The characters of it that nobody sees, line ends of the log itself apart."""
    return {unicodedata.name(c, hex(ord(c))) for c in text if not (c.isprintable() or c == "\n")}


def check(log: io.StringIO) -> list[str]:
    lines = log.getvalue().removesuffix("\n").split("\n")
    assert strange(log.getvalue()) == set()
    assert [line for line in lines if not line.startswith("|")] == []
    return lines


# --- the one place


def test_a_line_is_one_line_whatever_is_in_its_values(log: io.StringIO) -> None:
    logger = Logger("zq.test")
    logger.warning("%s and %r and %.20r of %d", HOSTILE, HOSTILE, HOSTILE, 7)
    logger.error("%s", ValueError(HOSTILE))
    logger.info("%s", Path(HOSTILE.replace("\0", "")))
    logger.debug("%s", {"name": HOSTILE, CONTROLS: 1})
    logger.critical("it is %s", [HOSTILE])
    assert len(check(log)) == 5
    assert log.getvalue().count(escaped(HOSTILE)) >= 4


def test_what_is_only_unusual_stays_as_it_is() -> None:
    for text in ("sensors/küche 21 °C", "温度", "a 'b' \\ \"c\"", ""):
        assert escaped(text) == text


def test_an_error_says_one_line_in_a_traceback(log: io.StringIO) -> None:
    """Who logs what a handler raised logs what somebody has sent."""
    try:
        try:
            raise ValueError(f"first {HOSTILE}")
        except ValueError as error:
            raise RuntimeError(f"second {HOSTILE}") from error
    except RuntimeError:
        Logger("zq.test").exception("the handler of %s failed", HOSTILE)
    text = log.getvalue()
    assert strange(text) == set()
    assert [line.partition(" ")[0] for line in text.split("\n") if "FORGED" in line] == [
        "|the",
        "ValueError:",
        "RuntimeError:",
    ]
    assert 'File "' in text
    assert "The above exception was the direct cause" in text


# --- every way into a log


def tell_all(victim: zq.Peer, stranger: Stranger) -> None:
    """In frames, of a peer that has met the victim, as far as such a name and address let it."""
    rows = [*stranger._rows, [f"tcp://{HOSTILE}:1"] * 3, [f"ipc:///{HOSTILE}"] * 3]
    stranger.tell(Hello(1, 1, stranger._card.tag, secrets.token_bytes(8), 0, HOSTILE, HOSTILE, 1, rows))
    said = Hello.decode(stranger.hear(frames.HELLO))
    stranger.tell(Welcome(said.nonce, 0, HOSTILE, HOSTILE, 1, rows))
    stranger.hear(frames.ENTRY)
    stranger.tell(Peers([[secrets.token_bytes(16), [f"tcp://{HOSTILE}", f"tcp://127.0.0.1:1{HOSTILE}"]]]))
    for version, entry in enumerate(
        (
            {"filters": [[HOSTILE, -1.0, 1]]},
            {"topics": [[HOSTILE, 1]]},
            {"pushes": [[HOSTILE, 1, 0.0]]},
            {"pulls": [[HOSTILE, bytes(16)]]},
        )
    ):
        stranger.tell(stranger.entry(version + 1, **entry))
    stranger.tell(LedgerReply(1, {"name": HOSTILE, HOSTILE: HOSTILE}, 0, 1, 1))
    stranger.tell(Letters(1, 0, [], False, HOSTILE))
    stranger.tell(Findings(1, True, [{HOSTILE: HOSTILE}], 0, 0, HOSTILE))
    for kind in (frames.ENTRY, frames.STATE, b"\x1b"):
        stranger.to_mailbox.send(address(kind, victim.id, stranger.id) + HOSTILE.encode())
    run = Run(stranger.id, 1, 1, 0.0)
    stranger.feed.send(encode_topic(topic_prefix("news"), 0, run, 1, 0.0, [HOSTILE.encode()]))
    stranger.feed.send(b"T" + HOSTILE.encode() + b"\0" + bytes(40))
    stranger.feed.send(b"\xff" + HOSTILE.encode())
    stranger.hello()


def plant(directory: Path, tag: str) -> None:
    """Entries that make no sense, and one that does and lies."""
    directory.mkdir(exist_ok=True, mode=0o700)
    for number, content in enumerate((HOSTILE.encode(), json.dumps({"v": 1, "id": HOSTILE}).encode())):
        (directory / f"{number:016x}.peer").write_bytes(content)
        (directory / f"{number:032x}.peer").write_bytes(content)
    (directory / f"{HOSTILE.replace(chr(0), '')}.peer").write_bytes(b"{}")
    id = secrets.token_bytes(16)
    entry = Entry(id=id, tag=tag, endpoints=(f"tcp://{HOSTILE}:1",), version=1, name=HOSTILE)
    for name in (id.hex()[:16], id.hex()):
        (directory / f"{name}.peer").write_bytes(entry.encode())


def forged_record_is_told(log: io.StringIO) -> bool:
    """Announced anew each time, as nobody may have listened yet; what zeroconf lets out and in, no more: it refuses to
    send what is below 0x20."""
    asyncio.run(announce(os.urandom(16), name=f"x\x9b31m\x85\u2028\u202e\u200fFORGED.{SERVICE}"))
    return "makes no sense" in log.getvalue()


def test_whatever_comes_in_by_whichever_way_is_escaped_in_logs(
    log: io.StringIO, tmp_path: Path, host_directory: Path
) -> None:
    shared = tmp_path / "shared"
    options = {
        "insecure": True,
        "interfaces": ["127.0.0.1"],
        "discovery": ["host", "mdns", f"dir:{shared}"],
        "seeds": ["no-such-host.invalid:20000"],
    }
    tag = realm_tag(load(**options)).hex()
    for directory in (host_directory, shared):
        plant(directory, tag)
    with zq.Peer("victim", **options) as victim, closing(Stranger(victim)) as stranger, victim.subscriber("**"):
        tell_all(victim, stranger)
        eventually(lambda: victim.ledger().refused_frames >= 7, DEADLINE)
        eventually(lambda: forged_record_is_told(log), DEADLINE)
        eventually(lambda: "does not resolve" in log.getvalue(), DEADLINE)
    lines = check(log)
    for way in ("joined", "cannot dial", "refused a frame", "makes no sense", ".peer"):
        assert [line for line in lines if way in line], f"{way!r} is in no line: {lines}"
    for way in ("joined", "cannot dial", "makes no sense"):
        assert [line for line in lines if way in line and "FORGED" in line], f"{way!r} did not reach the log: {lines}"


# --- every command


def hostile(node: Node) -> None:
    """Whoever meets it hears such names."""
    object.__setattr__(node.card, "name", HOSTILE)
    object.__setattr__(node.card, "host", HOSTILE)


COMMANDS = {
    "peers": "peers",
    "peers as JSON": "peers --json",
    "peers as they come": "peers --watch --timeout 5",
    "topics": "topics",
    "queues": "queues",
    "ledger": "ledger",
    "ledger as JSON": "ledger --json",
    "dead letters": "dead show jobs",
    "dead letters as JSON": "dead show jobs --json",
    "messages": "sub news -n 1",
    "messages as JSON": "sub news -n 1 --json",
    "messages in a format": "sub news -n 1 --format '{topic:<9} {data[text]:<9} {headers[why]}'",
    "an answer": "request echo 1 --timeout 20",
    "an error": "request fails 1 --timeout 20",
    "the doctor": "doctor",
    "the doctor's JSON": "doctor --json",
}


def run(command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["sh", "-c", f"exec {shlex.join(ZQ)} {command}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def output(process: subprocess.Popen[str]) -> str:
    return "".join(process.communicate(timeout=DEADLINE))


def test_no_command_prints_what_a_terminal_would_obey(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ZQ_INSECURE": "1", "ZQ_INTERFACES": "127.0.0.1", "ZQ_DISCOVERY": "host"}.items():
        monkeypatch.setenv(name, value)
    with zq.Peer() as peer, zq.Peer() as twin, ExitStack() as stack:
        for each in (peer, twin):
            assert each._engine is not None
            each._engine.call(lambda each=each: hostile(each._engine.node))  # type: ignore[misc,union-attr]
        peer.pusher("jobs", max_attempts=1).send({HOSTILE: HOSTILE}, headers={HOSTILE: HOSTILE})
        peer.puller("jobs").receive(timeout=DEADLINE).reject(HOSTILE)
        eventually(lambda: peer.ledger().held[0].dropped, DEADLINE)
        peer.publisher("news", retain=True).send({"text": HOSTILE}, headers={"why": HOSTILE})
        echo, fails = peer.replier("echo"), peer.replier("fails")
        running = {what: stack.enter_context(run(command)) for what, command in COMMANDS.items()}
        for process in running.values():
            stack.callback(process.kill)
        echo.receive(timeout=DEADLINE).reply(HOSTILE)
        fails.receive(timeout=DEADLINE).fail(HOSTILE)
        said = {what: output(process) for what, process in running.items()}
        for what, text in said.items():
            assert "FORGED" in text or what in ("topics", "queues"), f"{what}: {text!r}"
            assert strange(text) == set(), f"{what}: {text!r}"
            assert [line for line in text.split("\n") if line.startswith("FORGED")] == []
