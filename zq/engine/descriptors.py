"""File descriptors: as many as this process may have, and what to do before they are used up.

Where no descriptor is left, libzmq ends the whole process: it asserts that a connection at a Unix socket can be taken
(4.3.5, ipc_listener.cpp). So some are kept in reserve. Below that nobody new is dialled and the doors that are files
are shut, while all who are met already go on; when enough are free again, they are opened.

    PLENTY --fewer free than the reserve--> SCARCE --half as many again as the reserve are free--> PLENTY

They are counted the sooner again the fewer are free: at the rate at which a thousand a second would use them up. A
burst that takes the whole reserve in between is not survived; that takes as many peers as the reserve has descriptors,
and a limit far below what so many need anyway.
"""

from __future__ import annotations

import errno
import os

WANTED = 65_536  # ten and more a remote peer, and a thousand of them; the usual soft limit is 1,024
RESERVE = 256  # at the most; half of the limit where that is less
OF_A_PEER = 10  # its connections in and out, their sockets and monitors
RATE = 1_000.0  # a second that may be used up between two counts
SOONEST, LATEST = 0.02, 10.0  # s between counts
LISTING = "/dev/fd"  # one name for each that is open; on Linux and macOS


def raise_limit() -> int:
    """The number that this process may have, raised as far as it may raise it; 0 if nobody says."""
    try:
        import resource  # not there on Windows
    except ImportError:
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return WANTED if soft == resource.RLIM_INFINITY else soft


class Descriptors:
    """Of this process. Belongs to one thread."""

    def __init__(self) -> None:
        self.limit = raise_limit()
        self.scarce = False
        self._reserve = min(self.limit // 2, RESERVE)
        self._spare = 0  # above the reserve, when they were counted last and less what was dialled since
        self.next = 0.0  # when they are to be counted again
        self.look(0.0)

    def look(self, now: float) -> None:
        """Counts them, if that is due (monotonic seconds)."""
        if not self.limit or now < self.next:
            return
        try:
            used = sum(1 for _ in os.scandir(LISTING))
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                self.limit, self.scarce = 0, False  # nobody says, or may: it is not watched over
                return
            used = self.limit  # there is none left for listing them
        self._spare = self.limit - used - self._reserve
        self.scarce = self._spare < (self._reserve // 2 if self.scarce else 0)
        self.next = now + min(max(self._spare / RATE, SOONEST), LATEST)

    def can_afford_a_peer(self) -> bool:
        """Whether one more may be dialled; counts as if it was."""
        if self.limit and not self.scarce:
            self._spare -= OF_A_PEER
            self.scarce = self._spare < 0
        return not self.scarce
