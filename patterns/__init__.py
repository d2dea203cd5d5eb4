"""Ways to connect processes with zq, each a program that proves what it promises; see README.md."""
