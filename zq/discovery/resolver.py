"""The names of seeds become addresses, off the engine's thread: a name server may take half a minute to say nothing.

Each question has a thread of its own, at most one a name; a name that hangs holds up no other, and a daemon thread
that nobody waits for any more ends with its question.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable

from zq.discovery.interfaces import endpoint
from zq.logs import Logger
from zq.options import host_and_port

log = Logger(__name__)


class Resolver:
    """Answers `ask` through `resolved(seed, endpoints)`, called in any thread; no endpoints if there are none now."""

    def __init__(self, resolved: Callable[[str, list[str]], None]) -> None:
        self._resolved = resolved
        self._lock = threading.Lock()  # guards the next two
        self._asking: set[str] = set()
        self._complained: set[str] = set()

    def ask(self, seed: str) -> None:
        """`seed` is host:port. Returns at once; what is an address already is answered at once as well."""
        parts = host_and_port(seed)
        assert parts is not None, f"{seed} was checked with the settings"
        host, port = parts
        try:
            ipaddress.ip_address(host)
        except ValueError:
            with self._lock:
                if seed in self._asking:
                    return
                self._asking.add(seed)
            threading.Thread(target=self._look_up, args=(seed, host, port), name=f"zq-name-{host}", daemon=True).start()
        else:
            self._resolved(seed, [endpoint(host, port)])

    def _look_up(self, seed: str, host: str, port: int) -> None:
        endpoints: list[str] = []
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            endpoints = list(dict.fromkeys(endpoint(str(address[0]), port) for *_, address in found))
        except (OSError, UnicodeError) as error:
            self._complain(seed, error)
        else:
            self._recover(seed)
        with self._lock:
            self._asking.discard(seed)
        self._resolved(seed, endpoints)

    def _complain(self, seed: str, error: Exception) -> None:
        with self._lock:
            known = seed in self._complained
            self._complained.add(seed)
        if not known:
            log.warning("seed %s does not resolve: %s; it is asked for again and again", seed, error)

    def _recover(self, seed: str) -> None:
        with self._lock:
            known = seed in self._complained
            self._complained.discard(seed)
        if known:
            log.info("seed %s resolves now", seed)
