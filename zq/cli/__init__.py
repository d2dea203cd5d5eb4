"""The `zq` command. It needs the extra `cli`; the library does not."""

from __future__ import annotations

import sys

EXTRA = frozenset({"click", "rich"})  # the packages of the extra `cli`


def main() -> None:
    """Runs `zq` with the arguments of this process; ends the process with exit code 0, 1, 2 or 3."""
    try:
        from zq.cli.app import application  # here, so that a missing extra ends in one clear line

        application(prog_name="zq")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in EXTRA:
            raise
        print(f"zq: the command line needs {error.name}; run: pip install 'zq-toolkit[cli]'", file=sys.stderr)
        raise SystemExit(1) from None
