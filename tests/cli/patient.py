"""`zq`, which waits longer than a second for those whom it has found to answer: python tests/cli/patient.py ARGUMENTS

That a command which ends soon goes on without whoever takes longer is right. A test of what it says to others, or tells
of them, has to hold although they stand still for a moment.
"""

from __future__ import annotations

import sys

from zq.cli import connection, main
from zq.core import meeting
from zq.handles import life

ZQ = (sys.executable, "-P", __file__)
PATIENCE = 20.0  # s

if __name__ == "__main__":
    meeting.ANSWER = life.ANSWER = connection.SETTLE = PATIENCE
    main()
