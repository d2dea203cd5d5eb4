"""`zq key`: makes a realm key, and tells keys apart without showing them."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import click

import zq
from zq.cli.notes import OK, note
from zq.options import load
from zq.security.keys import new_key_file, read_keys, today


@click.group()
def key() -> None:
    """Make a realm key, or show its fingerprint."""


@key.command()
def new() -> int:
    """Print a new realm key: `zq key new > realm.key`. The file becomes readable by its owner alone."""
    out = sys.stdout.fileno()
    found = os.fstat(out)
    if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
        os.fchmod(out, 0o600)  # before there is anything in it to be read
        note("the file is readable by you alone now; a peer would refuse it otherwise")
    click.echo(new_key_file(today()), nl=False)
    return OK


@key.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
def show(file: Path | None) -> int:
    """Print the fingerprint of the key in FILE (default: that of the settings), never the key.

    Two hosts have the same key if the fingerprints are the same.
    """
    path = file or load().key_file
    if path is None:
        raise zq.Refused("no key file: name one, or set ZQ_KEY_FILE")
    keys = read_keys(path)
    listens = keys.keys[keys.binding(today())]
    for each in keys.keys:
        what = ""
        if keys.until is not None:
            until = f"until {keys.until}" if each is keys.keys[0] else f"from {keys.until} on"
            what = f"  listened with {until}{', which is now' if each is listens else ''}"
        click.echo(f"{each.fingerprint}{what}")
    return OK
