"""What the adapters have in common."""

from __future__ import annotations

from benchmarks.workload import Values


def percentiles(times: list[float]) -> Values:
    """The median and the 99th percentile of seconds, in microseconds."""
    ordered = sorted(times)
    return {"p50 us": ordered[len(ordered) // 2] * 1e6, "p99 us": ordered[len(ordered) * 99 // 100] * 1e6}


def ages(rate: str, times: list[float]) -> Values:
    """p50, p99 and p99.9 of the ages (s) of messages that were sent at that rate, in microseconds."""
    ordered = sorted(times)
    at = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    return {f"{rate} {name} us": ordered[int(len(ordered) * share)] * 1e6 for name, share in at.items()}
