"""Why peers do not see each other: `examine` looks at this host, its network and another host; `zq doctor` prints it.

    findings = zq.doctor.examine({"key_file": "realm.key"}, peer="gateway:20000")

Nothing is changed but what every peer changes: what dead peers left in the host directory is removed, and on a network
that the settings open a peer of its own comes and goes.
"""

from __future__ import annotations

from zq.doctor.examination import DURATION, examine, listen
from zq.doctor.finding import LEVELS, Finding, Level

__all__ = ["DURATION", "LEVELS", "Finding", "Level", "examine", "listen"]
