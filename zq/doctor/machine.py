"""What this machine is, as far as it matters to networks: a container, WSL, and how many descriptors a process gets."""

from __future__ import annotations

import re
from pathlib import Path

from zq.doctor.finding import Finding, note, ok, problem, warning

CHECK = "machine"
DESCRIPTORS_A_PEER = 12  # file descriptors of a remote peer: sockets, connections in and out, monitors
DESCRIPTORS_OWN = 64  # of a peer by itself, its program included
PEERS = 100  # remote peers that a limit should leave room for; more only if more are there

_CONTAINER = re.compile(r"docker|kubepods|containerd|libpod|lxc|garden")
SEEDS = "ZQ_SEEDS=HOST:PORT, where a peer with ZQ_PORT=PORT runs"  # the one way that needs nothing but TCP


def read(path: Path) -> str:
    """The text of a file; empty if it cannot be read, for then it says nothing."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def container(root: Path = Path("/")) -> str:
    """Of what kind this container is; empty if this is none, or none that shows."""
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    match = _CONTAINER.search(read(root / "proc/1/cgroup"))
    return match[0] if match else ""


def is_wsl(root: Path = Path("/")) -> bool:
    return "microsoft" in read(root / "proc/sys/kernel/osrelease").lower() + read(root / "proc/version").lower()


def surroundings(root: Path = Path("/")) -> list[Finding]:
    """What is between this machine and the LAN, if anything shows."""
    found: list[Finding] = []
    if kind := container(root):
        found.append(
            note(
                CHECK,
                "container",
                f"this is a container ({kind}): bridges between containers and hosts pass no multicast",
                f"run it with the host's network (docker run --network host), or set {SEEDS}",
            )
        )
    if is_wsl(root):
        found.append(
            warning(
                CHECK,
                "WSL",
                "this is Linux under Windows; its usual network is behind NAT and passes no multicast",
                "networkingMode=mirrored under [wsl2] in .wslconfig; else " + SEEDS,
            )
        )
    return found or [ok(CHECK, "surroundings", "no sign of a container or WSL")]


def descriptors(peers: int = 0, limits: tuple[int, int] | None = None) -> Finding:
    """Whether a process may open enough for `peers` others. zq raises the soft limit by itself, up to the hard one."""
    if limits is None:
        try:
            import resource  # not there on Windows

            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        except (ImportError, OSError):
            return note(CHECK, "file descriptors", "this system does not say how many a process may have")
    soft, hard = limits
    if hard < 0:  # RLIM_INFINITY
        return ok(CHECK, "file descriptors", f"{soft} now, and no limit to raising that")
    room = max(hard - DESCRIPTORS_OWN, 0) // DESCRIPTORS_A_PEER
    what = f"at most {hard:,} a process: enough for some {room:,} other peers"
    fix = f"raise the hard limit to {max(peers, PEERS) * DESCRIPTORS_A_PEER * 2:,}: LimitNOFILE= or `ulimit -Hn`"
    if room < peers:
        return problem(CHECK, "file descriptors", f"{what}, and {peers:,} are here", fix)
    if room < PEERS:
        return warning(CHECK, "file descriptors", what, fix)
    return ok(CHECK, "file descriptors", what)
