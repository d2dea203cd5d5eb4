"""What is shipped: a wheel with zq alone that works in a clean environment, an sdist from which it can be built."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
STEM = f"zq_toolkit-{PROJECT['version']}"
DEADLINE = 120.0  # s for one command; installing takes the longest, on a slow network

pytestmark = pytest.mark.timeout(300)


def run(command: Sequence[str | Path], cwd: Path, *, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs it away from this tree, so that nothing is imported from here by chance."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=DEADLINE)
    if ok:
        assert result.returncode == 0, f"{command}:\n{result.stdout}{result.stderr}"
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist of this tree, and the wheel made from that sdist."""
    directory = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", directory], ROOT)
    sdist = directory / f"{STEM}.tar.gz"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel"]
    run([*pip, "--quiet", "--no-build-isolation", "--no-deps", "-w", directory, sdist], directory)
    return Built(sdist=sdist, wheel=directory / f"{STEM}-py3-none-any.whl")


def test_the_sdist_has_all_that_belongs_to_the_project(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.removeprefix(f"{STEM}/") for name in archive.getnames()}
    assert {name.split("/")[0] for name in names} == {
        ".ci", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "PKG-INFO", "README.md",
        "SECURITY.md", "benchmarks", "docs", "examples", "patterns", "pyproject.toml", "tests", "zq",
    }  # fmt: skip
    assert {"tests/packaging/test_wheel.py", "patterns/work_queue.py", ".ci/run", "zq/py.typed"} <= names


def test_the_wheel_has_zq_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(f"{STEM}.dist-info/METADATA").decode()
    assert {name.split("/")[0] for name in names} == {"zq", f"{STEM}.dist-info"}
    assert {"zq/__init__.py", "zq/py.typed", f"{STEM}.dist-info/licenses/LICENSE"} <= set(names)
    assert "License-Expression: Apache-2.0" in metadata
    here = {str(path.relative_to(ROOT)) for path in (ROOT / "zq").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == here


EXCHANGE = """
import zq

with zq.Peer("one") as one, zq.Peer("two") as two:
    with two.subscriber("sensors/**") as subscriber, one.publisher("sensors/kitchen") as publisher:
        publisher.send({"celsius": 21.4})
        print(subscriber.receive(timeout=20).data["celsius"], zq.__file__)
"""


def test_the_wheel_works_in_a_clean_environment(built: Built, tmp_path: Path) -> None:
    """Without the extra first, where the command says what it lacks; then with it."""
    clean = tmp_path / "clean"
    venv.create(clean, with_pip=True, system_site_packages=False)
    python, zq = clean / "bin" / "python", clean / "bin" / "zq"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]

    run([*pip, built.wheel], tmp_path)
    value, file = run([python, "-c", EXCHANGE], tmp_path).stdout.split()
    assert value == "21.4"
    assert Path(file).is_relative_to(clean)
    bare = run([zq, "--version"], tmp_path, ok=False)
    assert bare.returncode == 1
    assert "pip install 'zq-toolkit[cli]'" in bare.stderr
    assert "Traceback" not in bare.stderr

    run([*pip, f"{built.wheel}[cli]"], tmp_path)
    assert PROJECT["version"] in run([zq, "--version"], tmp_path).stdout
    for module in ("patterns", "examples", "tests"):
        assert run([python, "-c", f"import {module}"], tmp_path, ok=False).returncode != 0
