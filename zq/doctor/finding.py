"""What an examination finds: one frozen value each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zq.errors import Error

Level = Literal["ok", "note", "warning", "problem"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "problem")  # the worst last


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. `problem`: peers do not see each other because of it."""

    check: str  # the group it belongs to, such as "interface"
    level: Level
    subject: str  # what was looked at: an interface, a file, a host
    what: str
    fix: str = ""  # the one thing to do about it; empty where there is nothing to do


def ok(check: str, subject: str, what: str) -> Finding:
    return Finding(check=check, level="ok", subject=subject, what=what)


def note(check: str, subject: str, what: str, fix: str = "") -> Finding:
    return Finding(check=check, level="note", subject=subject, what=what, fix=fix)


def warning(check: str, subject: str, what: str, fix: str = "") -> Finding:
    return Finding(check=check, level="warning", subject=subject, what=what, fix=fix)


def problem(check: str, subject: str, what: str, fix: str = "") -> Finding:
    return Finding(check=check, level="problem", subject=subject, what=what, fix=fix)


def failure(check: str, subject: str, error: Error | OSError) -> Finding:
    """An error as a finding: ours say behind the last semicolon what to do."""
    if isinstance(error, OSError):
        return problem(check, subject, error.strerror or str(error))
    what, _, fix = str(error).rpartition("; ")
    return problem(check, subject, what or fix, fix if what else "")
