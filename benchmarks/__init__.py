"""How fast and how small zq is, beside what one would write by hand.

`python -m benchmarks --help`; docs/performance.md says what is measured and how.
"""
