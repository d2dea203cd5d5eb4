"""What a host that forges a thousand mDNS records a second costs those who talk: python -m tests.lan.proof_flood

Two friends on two hosts, one of whom sends the other 1,000 messages a second; a third host sends forged records,
goodbyes and cache flushes. What a message takes then is put beside what it takes while as many packets come to a port
where nobody listens, in turns with it.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.lan.flooder import PORT
from tests.lan.hosts import DEADLINE
from tests.lan.lan import Lan, why_not
from tests.processes.process import Process
from tests.security.proof_door import RATE, p99
from tests.security.rogues import write_key
from zq.security.keys import read_keys, today
from zq.security.lock import Lock

ELSEWHERE = 5_354  # a port where nobody listens: what it takes to send so many is on both sides
PACKETS = 1_000  # a second
SECONDS = 0.7  # s of each phase of the test
LONGER = 3.0  # s of each of the proof
ROUNDS = 5


class Scene:
    """Two friends on two hosts, one of whom sends the other RATE messages a second, and a third host that forges."""

    def __init__(self, lan: Lan, directory: Path, stack: ExitStack) -> None:
        self._lan, self._directory, self._stack = lan, directory, stack
        key_file = write_key(directory / "key")
        options = {"key_file": str(key_file), "realm": "lan", "discovery": ["mdns"]}
        self.talker = self._start(1, "talk", options, RATE, [])
        self.hearer = self._start(2, "hear", options, [])
        talker = self.talker.hear(DEADLINE)
        assert self.hearer.hear(DEADLINE) == "open"
        tag = Lock(read_keys(key_file), "lan", today()).tag
        self.forger = self._start(3, "flooder", lan.address(3), tag, talker["peer"], module="tests.lan.roles")
        assert self.forger.hear(DEADLINE) == "ready"
        self.talker.tell("talk")
        assert self.talker.hear(DEADLINE) == "talking"

    def _start(self, host: int, role: str, *arguments: object, module: str = "tests.security.roles") -> Process:
        home = self._directory / f"host-{host}"
        home.mkdir(0o700)
        process = Process(
            role,
            *arguments,
            module=module,
            command=self._lan.command(host),
            environment={"ZQ_HOST_DIR": str(home)},
        )
        self._stack.callback(process.end)
        return process

    def took(self) -> list[float]:
        self.hearer.tell("took")
        latest: list[float] = self.hearer.hear(DEADLINE)
        return latest

    def flooded(self, port: int, seconds: float = SECONDS) -> list[float]:
        """What messages took while so many packets came there, in us."""
        self.took()
        self.forger.tell([port, PACKETS, seconds])
        assert self.forger.hear(DEADLINE) == PACKETS * seconds
        return self.took()

    def forged(self) -> int:
        """Records that the talker has found out."""
        self.talker.tell("state")
        count: int = self.talker.hear(DEADLINE)["forged"]
        return count

    def lost(self) -> int:
        """Says no more, and returns how many messages have not come."""
        self.talker.tell("rest")
        sent: int = self.talker.hear(DEADLINE)["sent"]
        self.hearer.tell(sent)
        came: int = self.hearer.hear(DEADLINE)
        return sent - came


def main() -> int:
    if missing := why_not():
        print(missing)
        return 1
    peace, war = [], []
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        friends = Scene(stack.enter_context(Lan(3)), Path(directory), stack)
        for _ in range(ROUNDS):
            peace.append(p99(friends.flooded(ELSEWHERE, LONGER)) / 1e3)
            war.append(p99(friends.flooded(PORT, LONGER)) / 1e3)
            print(f"p99 of a message: {peace[-1]:.2f} ms, with forged records {war[-1]:.2f} ms", flush=True)
        forged, lost = friends.forged(), friends.lost()
    print(f"medians: {median(peace):.2f} ms, {median(war):.2f} ms: {median(war) / median(peace):.1f} times")
    print(f"{forged:,} records were found to be forged, {lost} messages lost")
    return 1 if lost or not forged else 0


if __name__ == "__main__":
    sys.exit(main())
