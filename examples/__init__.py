"""Programs that use zq for something real; each runs with `python -m examples.<name>`."""
