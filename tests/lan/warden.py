"""Takes a LAN down when the process that made it has ended, however that was: python -m tests.lan.warden NAME.

Its standard input is a pipe from that process. When it ends, so does the pipe; there is nothing to poll.
"""

from __future__ import annotations

import sys

from tests.lan.lan import take_down

if __name__ == "__main__":
    sys.stdin.buffer.read()
    take_down(sys.argv[1])
