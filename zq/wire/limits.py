"""What zq accepts at most. Limits are checked before anything is decoded (docs/protocol.md, "limits")."""

from __future__ import annotations

from typing import Final

PAYLOAD: Final = 256 << 20  # bytes of one message, its parts included; larger data belongs in files
MAILBOX_FRAME: Final = 1 << 20  # bytes; a mailbox carries heartbeats, which must not wait behind large frames
DEPTH: Final = 32  # containers inside each other; far below Python's recursion limit of 1,000
NAME: Final = 255  # bytes of a topic, queue or realm, and characters of an id or key; what file systems allow
HEADERS: Final = 64  # pairs a message carries
HEADER: Final = 8 << 10  # characters of one header name or value; what web servers allow
PART_MINIMUM: Final = 16 << 10  # bytes; from here on a buffer is its own frame: copying would cost more
BATCH_MESSAGES: Final = 512  # messages joined into one frame; more gained nothing in benchmarks
BATCH_BYTES: Final = 64 << 10  # bytes joined into one frame; above, one slow frame delays the next
SECONDS: Final = 1 << 30  # s, 34 years: a time to live or a delay; above, it is a mistake in the unit
SUBSCRIPTIONS: Final = 4_096  # filters of one peer; two prefixes each are what fits a pipe of libzmq (HIGH_WATER_MARK)
ANNOUNCED: Final = 832 << 10  # bytes of names in a roster entry; what fits a mailbox frame beside what is told of lags
