"""Whether this host has firewall rules that may keep peers out, as far as they can be read.

Rules are only read, never judged to the end: whether something passes, a probe tells. But a probe that fails does not
say why, and this may.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from zq.doctor.finding import Finding, note, ok, warning
from zq.doctor.machine import read

CHECK = "firewall"
NFT = 2.0  # s for `nft`, which takes milliseconds


def nft_rules() -> list[dict[str, Any]] | None:
    """The objects of `nft -j list ruleset`; None where there is no nft, or it does not tell us."""
    path = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin")
    if path is None:
        return None
    try:
        done = subprocess.run([path, "-j", "list", "ruleset"], check=False, capture_output=True, timeout=NFT)
        objects = json.loads(done.stdout)["nftables"] if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return objects if isinstance(objects, list) else None


def examine_firewall(
    rules: list[dict[str, Any]] | None, ports: tuple[int, int], root: Path = Path("/")
) -> list[Finding]:
    """What drops or rejects packets that come in or go out."""
    found: list[Finding] = []
    allow = f"allow UDP port 5353 and TCP ports {ports[0]}-{ports[1]}, which ZQ_PORTS sets"
    for chain in [each["chain"] for each in rules or () if "chain" in each]:
        if chain.get("hook") not in ("input", "output") or chain.get("type") != "filter":
            continue
        within = [each["rule"] for each in rules or () if "rule" in each and belongs(each["rule"], chain)]
        text = json.dumps(within)
        drops = sum(1 for rule in within if {"drop", "reject"} & set().union(*rule.get("expr", [])))
        name = f"{chain.get('family')} {chain.get('table')} {chain.get('name')}"
        if chain.get("policy") == "drop":
            says = warning if "5353" not in text or str(ports[0]) not in text else note
            found.append(says(CHECK, name, f"drops what no rule of it accepts, {chain['hook']}", allow))
        elif drops:
            found.append(note(CHECK, name, f"{drops} of its rules drop or reject packets, {chain['hook']}", allow))
    if "filter" in read(root / "proc/net/ip_tables_names").split():
        found.append(note(CHECK, "iptables", "has a filter table; `iptables -S` shows it", allow))
    if found:
        return found
    if rules is None:
        return [
            note(CHECK, "rules", "cannot be read here (nft is missing, or wants root); the probes tell what passes")
        ]
    return [ok(CHECK, "rules", "none that drops or rejects what comes in or goes out")]


def belongs(rule: dict[str, Any], chain: dict[str, Any]) -> bool:
    return (rule.get("family"), rule.get("table"), rule.get("chain")) == (
        chain.get("family"),
        chain.get("table"),
        chain.get("name"),
    )
