"""What the documents name exists: tests, files, sections, fields. A document that nobody checks is soon wrong."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path

import pytest

import zq
from zq.wire import frames
from zq.wire.batch import BatchHeader, Run, encode_batch, encode_topic, topic_prefix
from zq.wire.body import Body
from zq.wire.requests import encode_reply, encode_request

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("patterns/*.md")])
RECORDS = sorted(ROOT.glob("docs/adr/*.md"))
BODIES = {kind.__name__: kind for kind in Body.__subclasses__()}
DEADLINE = 30  # s for what takes one
TITLES = {"LedgerReply": "LEDGER"}  # in docs/protocol.md, where they differ from the class's name in capitals


@cache
def functions_of(path: Path) -> frozenset[str]:
    """The names of the test functions in a file, those of classes included."""
    tree = ast.parse(path.read_text())
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def anchors(text: str) -> set[str]:
    """What a link may point to: the headings as they become anchors."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_test_that_the_guarantees_name_exists() -> None:
    text = "".join((ROOT / "docs" / name).read_text() for name in ("guarantees.md", "proofs.md"))
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)(?:\[\w+\])?`", text)
    missing = [f"{path}::{name}" for path, name in named if name not in functions_of(ROOT / path)]
    assert len(named) > 20
    assert missing == []


def test_every_promise_names_a_test() -> None:
    rows = [row for row in (ROOT / "docs" / "guarantees.md").read_text().splitlines() if row.startswith("| ")]
    promises = [row for row in rows if not row.startswith(("| promise", "| ---"))]
    assert len(promises) > 20
    assert [row for row in promises if not re.search(r"`tests/[\w/]+\.py::test_", row)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    broken = []
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text()):
        file, _, anchor = target.partition("#")
        there = path.parent / file if file else path
        if not there.exists() or (anchor and anchor not in anchors(there.read_text())):
            broken.append(target)
    assert broken == []


def test_the_architecture_lists_every_module() -> None:
    listed = set(re.findall(r"`([\w/.]+)`", (ROOT / "docs" / "architecture.md").read_text()))
    modules = {path for path in (ROOT / "zq").rglob("*.py") if path.stem not in ("__init__", "__main__")}
    parts = {path.stem for path in modules if path.parent.name not in ("zq", "cli")}
    faces = {f"zq/{path.name}" for path in modules if path.parent.name == "zq"}
    vocabulary = {"zq/errors.py", "zq/message.py", "zq/info.py"}  # the words of the API
    assert parts | faces <= listed | vocabulary


@pytest.mark.parametrize("name", BODIES)
def test_the_protocol_lists_the_fields_of_every_frame(name: str) -> None:
    """In the order of the wire, under the heading that also says the kind byte."""
    kind = BODIES[name]
    title = TITLES.get(name, name.upper())
    text = (ROOT / "docs" / "protocol.md").read_text()
    section = re.search(rf'^### {title} "{kind.KIND.decode()}"$(.*?)(?=^##|\Z)', text, re.MULTILINE | re.DOTALL)
    assert section, f"no section {title}"
    fields = [row for row in re.findall(r"^\| (\w+) \|", section[1], re.MULTILINE) if row != "field"]
    assert tuple(fields) == kind.FIELDS
    assert len(fields) == len(kind.CHECKS)


def test_the_protocol_draws_headers_of_the_right_size() -> None:
    batch = encode_batch(BatchHeader(b"", b"", b"", 0, 1, 0, 1, 1, 1, 0, 0), [], [])
    one_run = encode_batch(BatchHeader(b"", b"", b"", 0, 1, 0, 1, 1, 1, 0, 0), [Run(b"", 1, 1, 0.0)], [])
    topic = encode_topic(topic_prefix("t"), 0, Run(b"", 0, 0, 0.0), 1, 0.0, ())
    text = (ROOT / "docs" / "protocol.md").read_text()
    assert re.search(rf"^ +0 +1 .* {len(batch)}$", text, re.MULTILINE)
    assert f"then for each run, {len(one_run) - len(batch)} bytes" in text
    assert re.search(rf"^ +0 +1 +n\+1 .* n\+{len(topic) - 1}$", text, re.MULTILINE)
    assert f"behind a frame of {len(frames.refill_frame(b'', b'', 1))} bytes" in text
    request = encode_request(b"", b"", b"", number=1, floor=0, patience=0.0, time=0.0, item=b"")[0]
    reply = encode_reply(b"", b"", request=1, number=1, time=0.0, outcome=0, item=b"")[0]
    assert re.search(rf"^ 0 +1 +17 +33 +49 .* {len(request)}$", text, re.MULTILINE)
    assert re.search(rf"^ 0 +1 +17 +33 +41 .* {len(reply)}$", text, re.MULTILINE)
    assert f"subscribes {len(frames.fence_prefix(bytes(16), bytes(8)))} bytes" in text


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_decision_is_told_with_its_context_and_its_consequences(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert text.startswith(f"# {path.stem[:4]} ")
    assert len(text.splitlines()) <= 40


def test_decisions_are_numbered_without_a_hole() -> None:
    assert [int(path.stem[:4]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))


def test_the_programs_in_the_readme_work_together() -> None:
    """Each as a process of its own, as somebody would try them."""
    text = (ROOT / "README.md").read_text()
    kitchen, reader, worker, aio = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    worker = f"def resize(name): print(name, flush=True)\n{worker}"
    aio = f"import asyncio\nasync def main():\n{textwrap.indent(aio, '    ')}\nasyncio.run(main())"
    receivers = [
        subprocess.Popen([sys.executable, "-u", "-c", f"import zq\n{code}"], stdout=subprocess.PIPE, text=True)
        for code in (reader, worker, aio)
    ]
    try:
        with zq.Peer("test") as peer:
            peer.publisher("sensors/kitchen").wait_for_subscribers(2, timeout=DEADLINE)
            peer.pusher("jobs").wait_for_pullers(timeout=DEADLINE)
        ended = subprocess.run([sys.executable, "-c", kitchen], capture_output=True, text=True, timeout=DEADLINE)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        lines = [receiver.stdout.readline() for receiver in receivers if receiver.stdout is not None]
        assert lines == ["sensors/kitchen 21.4\n", "cat.jpg\n", "sensors/kitchen {'celsius': 21.4}\n"]
    finally:
        for receiver in receivers:
            receiver.kill()
            receiver.communicate()
