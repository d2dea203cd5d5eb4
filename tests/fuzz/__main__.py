"""Fuzzing every decoder with atheris, one after another: python -m tests.fuzz SECONDS [TARGET].

With a target it fuzzes that one, in this process; an input that it fails on is written to a file, whose name it says,
and `python -m tests.fuzz FILE TARGET` tries it again. Where atheris cannot be had, it says why and is done.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

LONGEST = 4_096  # bytes of an input
SPARE = 60  # s that a target may take longer than it was given: to instrument everything, and to end
HANGS = 10  # s for one input; each takes less than a millisecond


def fuzz(what: str, name: str) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["zq", "tests.fuzz"]):
        from tests.fuzz.targets import SAMPLES, TARGETS

    options = [f"-max_len={LONGEST}", f"-timeout={HANGS}", "-print_final_stats=1"]
    if what.isdecimal():
        corpus = Path(tempfile.mkdtemp(prefix=f"zq-fuzz-{name}-"))
        for number, sample in enumerate(SAMPLES[name]):
            (corpus / str(number)).write_bytes(sample)
        options += [f"-max_total_time={what}", f"-artifact_prefix={corpus}/", str(corpus)]
    else:
        options.append(what)
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


def fuzz_all(seconds: int) -> int:
    from tests.fuzz.targets import TARGETS

    failed = 0
    for name in TARGETS:
        command = [sys.executable, "-m", "tests.fuzz", str(seconds), name]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds + SPARE)
        said = ended.stdout + ended.stderr
        runs = [line.split()[-1] for line in said.splitlines() if "number_of_executed_units" in line]
        print(f"{name:<12} {'failed' if ended.returncode else 'passed'}  {(runs or ['?'])[0]:>10} inputs", flush=True)
        if ended.returncode:
            failed += 1
            print(said[-3_000:])
    print(f"{len(TARGETS) - failed} of {len(TARGETS)} targets passed")
    return 1 if failed else 0


def main(arguments: list[str]) -> int:
    try:
        import atheris  # noqa: F401
    except ImportError as error:
        print(f"nothing is fuzzed: {error}; there is atheris for CPython on Linux only, from PyPI")
        return 0
    if len(arguments) > 1:
        fuzz(arguments[0], arguments[1])
    return fuzz_all(int(arguments[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
