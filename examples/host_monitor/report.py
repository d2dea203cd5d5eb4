"""The account at the end: what was sent and what became of it."""

from __future__ import annotations

from pathlib import Path

from examples.host_monitor.journal import Account, Accounts, read_counters


def report(directory: Path, accounts: Accounts) -> None:
    """Prints what was sent and what became of it, by the journals and by zq's own counters."""
    sensor = read_counters(directory, "sensor") or {}
    dashboard = read_counters(directory, "dashboard") or {}
    print(f"\n{'':10}{'sent':>8}{'delivered':>11}{'acked':>8}{'redelivered':>13}{'lost':>7}")
    show("readings", accounts.readings, "-", "-")
    show("alarms", accounts.alarms, str(sensor.get("acked", "?")), str(sensor.get("redelivered", "?")))
    if accounts.alarms.again:
        print(f"{accounts.alarms.again} delivered again: a worker was killed before it had finished")
    balanced = sensor.get("balanced") and dashboard.get("balanced")
    print(
        f"zq counts {sensor.get('published', '?')} readings published, {dashboard.get('delivered', '?')} delivered, "
        f"{dashboard.get('gap', '?')} in gaps; {sensor.get('pushed', '?')} alarms pushed, "
        f"{sensor.get('acked', '?')} acked; {'balanced' if balanced else 'not balanced'}"
    )
    print("sent, delivered and lost are counted from files that each process wrote about itself, not by zq")


def show(what: str, account: Account, acked: str, redelivered: str) -> None:
    print(f"{what:10}{account.sent:>8}{account.delivered:>11}{acked:>8}{redelivered:>13}{account.lost:>7}")
