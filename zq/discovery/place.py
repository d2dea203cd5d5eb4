"""Where the peers of one user on one machine meet, and what makes a directory unfit for it."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Literal

from zq.errors import AccessDenied, Refused

SocketKind = Literal["m", "f", "w"]  # mailbox, feed, work

SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107  # sun_path less the final zero; unix(7)
SHUT = ".shut"  # ends the name of a socket by which nobody is to come in for now

CHANGE = "if it is for zq alone chmod 700 it, else set ZQ_HOST_DIR to a directory of your own"


def directories(host_dir: Path | None = None) -> list[Path]:
    """The directories to read, that for our own entry first: `host_dir` or ZQ_HOST_DIR alone, else the usual ones.

    The usual ones are `/run/user/UID/zq` where `/run/user/UID` exists, and `/tmp/zq-UID`: processes of cron and su
    may have started before the first existed, so the second is read too when it is there. The environment is asked
    for nothing else, because those processes have none.
    """
    if chosen := host_dir or os.environ.get("ZQ_HOST_DIR"):
        return [Path(chosen)]
    uid = os.geteuid()
    usual = [Path(f"/run/user/{uid}/zq"), Path(f"/tmp/zq-{uid}")]
    if sys.platform == "darwin":
        usual = [Path(os.confstr("CS_DARWIN_USER_TEMP_DIR") or "/tmp") / f"zq-{uid}"]
    usual = [path for path in usual[:-1] if path.parent.is_dir()] + usual[-1:]
    return usual[:1] + [path for path in usual[1:] if path.is_dir()]


def default_directory(host_dir: Path | None = None) -> Path:
    """Where our own entry and sockets go; see `directories`."""
    return directories(host_dir)[0]


def prepare(directory: Path) -> None:
    """Creates the directory if it is missing. Raises AccessDenied unless it is ours alone and can be written."""
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass  # what it is, `fault` tells
    except OSError as error:
        raise AccessDenied(
            f"host directory {directory} cannot be made: {error.strerror}; set ZQ_HOST_DIR to a directory of your own"
        ) from error
    if wrong := fault(directory):
        raise AccessDenied(f"host directory {directory} {wrong}")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise AccessDenied(f"host directory {directory} cannot be written; {CHANGE}")


def fault(directory: Path) -> str:
    """Why peers must not meet in this directory and what to do about it; empty if they may."""
    try:
        found = directory.lstat()
    except OSError as error:
        return f"cannot be used: {error.strerror}; set ZQ_HOST_DIR to a directory of your own"
    if not stat.S_ISDIR(found.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no directory"
        return f"is {what}; remove it, or set ZQ_HOST_DIR to a directory of your own"
    if found.st_uid != os.geteuid():
        return f"belongs to user {found.st_uid}; remove it, or set ZQ_HOST_DIR to a directory of your own"
    if found.st_mode & 0o077:
        return f"is open to others (mode {stat.S_IMODE(found.st_mode):03o}); {CHANGE}"
    return ""


def socket_path(directory: Path, id: bytes, kind: SocketKind) -> Path:
    """Where the peer `id` binds a socket. Raises Refused if the kernel cannot take a path so long."""
    path = directory / f"{id.hex()[:16]}.{kind}"
    if (length := len(os.fsencode(path))) > SOCKET_PATH_BYTES:
        raise Refused(
            f"{path}: {length} bytes, and a socket's path has at most {SOCKET_PATH_BYTES}; "
            f"set ZQ_HOST_DIR to a shorter path"
        )
    return path
