"""What `import zq` costs: none of the libraries that only some programs need."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("asyncio", "zeroconf", "ifaddr", "numpy", "click", "rich", "tomllib", "difflib")
# Of the standard library and of zq itself: together they were half of the time from exec to a first message.
SLOW = ("dataclasses", "inspect", "secrets", "hashlib", "hmac", "logging", "zq.security.keys")


def test_importing_zq_imports_no_heavy_library() -> None:
    code = f"import sys, zq; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_the_blocking_face_imports_nothing_that_it_does_not_use() -> None:
    """Without a network: asyncio and zeroconf come with mDNS, numpy with the first array."""
    code = (
        "import sys, zq\n"
        "with zq.Peer() as peer:\n"
        "    peer.publish('topic', 'hello')\n"
        f"print([name for name in {HEAVY + SLOW} if name in sys.modules and name not in ('tomllib', 'difflib')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_every_name_loads_when_it_is_used() -> None:
    code = "import zq; print([name for name in zq.__all__ if getattr(zq, name) is None], sorted(zq.__all__) == dir(zq))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (result.stdout, result.stderr) == ("[] True\n", "")
