"""zq.logs: nothing is loaded for what nobody can have asked to see, and what is wrong is shown as ever."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from zq.logs import Logger


def said(code: str) -> str:
    script = f"import sys\nfrom zq.logs import Logger\nlog = Logger('zq.test')\n{code}\nprint('logging' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    return result.stdout + result.stderr


def test_what_is_merely_told_loads_nothing() -> None:
    assert said("log.info('hello %s', 1); log.debug('hello')") == "False\n"


def test_a_warning_is_shown_to_a_program_that_has_set_up_nothing() -> None:
    assert said("log.warning('%d of %d', 1, 2)") == "True\n1 of 2\n"


def test_a_command_says_that_it_is_who_warns() -> None:
    code = "from zq.logs import prefix; prefix('zq: ')\nlog.warning('%s', 'a\\nb')\nimport logging\n"
    assert said(code + "logging.basicConfig(format='%(name)s'); log.warning('c')") == "True\nzq: a\\nb\nzq.test\n"


def test_who_has_set_up_logging_sees_all_of_it_with_the_line_it_comes_from(caplog: pytest.LogCaptureFixture) -> None:
    log = Logger("zq.test")
    caplog.set_level(logging.DEBUG, "zq.test")
    log.debug("a %s", 1)
    log.info("b")
    log.warning("c")
    log.error("d")
    log.critical("e", exc_info=ValueError("why"))
    try:
        raise KeyError("k")
    except KeyError:
        log.exception("f")
    assert [record.getMessage() for record in caplog.records] == ["a 1", "b", "c", "d", "e", "f"]
    assert {(record.name, record.filename) for record in caplog.records} == {("zq.test", "test_logs.py")}
    assert caplog.records[4].exc_info is not None
    assert caplog.records[5].exc_info is not None
