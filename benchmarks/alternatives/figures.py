"""What the adapters have in common."""

from __future__ import annotations

from benchmarks.workload import Values


def percentiles(times: list[float]) -> Values:
    """The median and the 99th percentile of seconds, in microseconds."""
    ordered = sorted(times)
    return {"p50 us": ordered[len(ordered) // 2] * 1e6, "p99 us": ordered[len(ordered) * 99 // 100] * 1e6}
