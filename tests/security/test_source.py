"""What no line of zq may do: run what came from the network, or put it into a log as it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent.parent / "zq"
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "yaml", "joblib", "code"}
CALLS = {"eval", "exec", "compile", "__import__", "input"}
METHODS = {"recv_pyobj", "send_pyobj", "recv_serialized", "getattr_static", "load_pickle"}
FILES = sorted(SOURCE.rglob("*.py"))


def offences(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {alias.name}" for alias in node.names if alias.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            yield f"from {node.module}"
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in CALLS:
                yield f"{node.func.id}()"
            elif isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
                yield f".{node.func.attr}()"
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if (keyword.arg, value) in (("allow_pickle", True), ("shell", True)):
                    yield f"{keyword.arg}=True"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_from_the_network_is_ever_run(path: Path) -> None:
    assert [f"{path.name}: {offence}" for offence in offences(ast.parse(path.read_text()))] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import yaml",
        "eval(text)",
        "exec(text)",
        "socket.recv_pyobj()",
        "np.load(f, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_finds_what_it_looks_for(line: str) -> None:
    assert list(offences(ast.parse(line)))


LOGS = "logs.py"  # where every value of a line is escaped
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
SPEAKERS = {
    "cli/__init__.py",  # the name of a module that is missing
    "cli/app.py",  # the version
    "cli/key.py",  # a key file
    "cli/notes.py",  # escapes
    "cli/table.py",  # cells that are escaped
    "engine/leaving.py",  # our own name, and a number
}  # who writes to a standard stream by itself


def log_calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Also those through a name: `say = log.info; say(...)`."""
    names = {"log", "logger"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(is_line_of(value, names) for value in ast.walk(node.value)):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (is_line_of(node.func, names) or is_named(node.func, names - {"log"})):
            yield node


def is_named(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def is_line_of(node: ast.AST, loggers: set[str]) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in LEVELS and is_named(node.value, loggers)


def unescaped(tree: ast.AST) -> Iterator[str]:
    """Ways past the one place where what came from elsewhere is escaped, into a log or onto a terminal."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {alias.name}" for alias in node.names if alias.name.split(".")[0] == "logging")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "logging":
            yield f"from {node.module}"
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("print", "click.echo", "click.secho", "sys.stderr.write", "sys.stdout.write") or (
                called.endswith(".print")
            ):
                yield called


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_log_lines_are_constants_with_places_never_built_from_what_came(path: Path) -> None:
    for call in log_calls(ast.parse(path.read_text())):
        assert isinstance(call.args[0], ast.Constant), f"{path.name}:{call.lineno}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_line_of_a_log_or_a_terminal_goes_through_the_place_that_escapes(path: Path) -> None:
    """What that place does with each way in: test_escaped."""
    name, found = str(path.relative_to(SOURCE)), list(unescaped(ast.parse(path.read_text())))
    if name == LOGS:
        assert set(found) == {"import logging"}
    elif name in SPEAKERS:
        assert set(found) <= {"print", "click.echo", "Console().print"}
    else:
        assert found == []


@pytest.mark.parametrize("line", ["import logging", "from logging import getLogger", "print(name)", "console.print(x)"])
def test_a_way_past_that_place_is_found(line: str) -> None:
    assert list(unescaped(ast.parse(line)))


@pytest.mark.parametrize(
    "line", ["log.info(name)", "logger.error('a' + name)", "say = log.debug if quiet else log.info; say(f'{name}')"]
)
def test_a_line_that_is_built_is_found(line: str) -> None:
    assert [call for call in log_calls(ast.parse(line)) if not isinstance(call.args[0], ast.Constant)]


FACTORY = "engine/factory.py"
INSIDE = {"security/knocks.py", "security/zap.py"}  # inproc: monitors, and the endpoint that RFC 27 names
TRIAL = "security/trial.py"  # comes to our own doors as strangers do, in a context of its own


def zmq_sockets(tree: ast.AST) -> Iterator[str]:
    """Calls that make a context or a socket of ZeroMQ."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            if node.func.attr == "Context" and owner.startswith("zmq"):
                yield "context"
            elif node.func.attr == "socket" and owner.endswith("context"):
                yield ast.unparse(node.args[0])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_there_is_one_place_where_sockets_that_reach_others_are_made(path: Path) -> None:
    name, made = str(path.relative_to(SOURCE)), list(zmq_sockets(ast.parse(path.read_text())))
    if name in (FACTORY, TRIAL):
        assert sorted(made) == ["context", "kind", "zmq.PAIR"]
    elif name in INSIDE:
        assert set(made) <= {"zmq.PAIR", "zmq.ROUTER"}
    else:
        assert made == []
