"""The house rules of the tests hold: skipping is an error in CI, warnings always are, and nobody shares a directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

SAMPLES = {
    "a skipped test": "import pytest\ndef test_one(): pytest.skip('not today')",
    "a skipped module": "import pytest\npytest.importorskip('no_such_module')\ndef test_one(): pass",
    "a mark": "import pytest\n@pytest.mark.skip(reason='not today')\ndef test_one(): pass",
}


def outcome(tmp_path: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs one test module under this tree's conftest and configuration."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_sample.py").write_text(code)
    arguments = [
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(tmp_path),
        "-p",
        "no:cacheprovider",
        str(tmp_path),
    ]
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], capture_output=True, text=True, env=inherited | environment
    )


@pytest.mark.parametrize("code", SAMPLES.values(), ids=SAMPLES.keys())
def test_a_skip_is_an_error_in_ci_only(code: str, tmp_path: Path) -> None:
    in_ci = outcome(tmp_path, code, CI="true")
    assert in_ci.returncode in (1, 2)
    assert "which CI does not allow" in in_ci.stdout
    assert outcome(tmp_path, code).returncode in (0, 5)  # 5: a module skipped whole has no tests


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    code = "import pytest\n@pytest.mark.xfail(reason='known')\ndef test_one(): assert False"
    assert outcome(tmp_path, code, CI="true").returncode == 0


def test_a_warning_is_an_error(tmp_path: Path) -> None:
    assert outcome(tmp_path, "import warnings\ndef test_one(): warnings.warn('x')").returncode == 1


def test_settings_of_whoever_runs_the_tests_do_not_reach_them(tmp_path: Path) -> None:
    code = "import os\ndef test_one(): assert [n for n in os.environ if n.startswith('ZQ_')] == ['ZQ_HOST_DIR']"
    assert outcome(tmp_path, code, ZQ_REALM="theirs", ZQ_HOST_DIR="/theirs").returncode == 0


def test_the_host_directory_is_private_and_short(host_directory: Path) -> None:
    assert host_directory.stat().st_mode & 0o077 == 0
    assert len(str(host_directory)) < 20
    assert os.environ["ZQ_HOST_DIR"] == str(host_directory)


def test_processes_of_a_test_need_not_compile_zq_anew(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "def test_one():\n"
        "    subprocess.run([sys.executable, '-c', 'import sys; sys.exit(sys.dont_write_bytecode)'], check=True)\n"
    )
    assert outcome(tmp_path, code, PYTHONDONTWRITEBYTECODE="1").returncode == 0
