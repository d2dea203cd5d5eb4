"""`python -m benchmarks`. Kept empty: every process that multiprocessing spawns imports this file again."""

if __name__ == "__main__":
    from benchmarks.command import main  # here, so that spawned processes load their own role and nothing else

    raise SystemExit(main())
