"""`python -m zq`: the `zq` command where its script is not on the path."""

from zq.cli import main

main()
