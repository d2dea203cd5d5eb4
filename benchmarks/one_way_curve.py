"""One way under a key: as `one-way`, with CURVE on every connection, beside pyzmq with CURVE on its one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import one_way, raw
from benchmarks.workload import Compare, Contender, Scale, Target, Values, Workload
from zq.security.keys import new_key_file, today


@contextmanager
def key_file() -> Iterator[str]:
    """A realm key in a file that only we can read."""
    with tempfile.TemporaryDirectory(prefix="zq-benchmark-") as directory:
        path = Path(directory) / "realm.key"
        path.touch(0o600)
        path.write_text(new_key_file(today()))
        yield os.fspath(path)


def with_a_key(scale: Scale) -> Values:
    with key_file() as path:
        return one_way.between(one_way.publish, one_way.subscribe, path)(scale)


ONE_WAY_CURVE = Workload(
    name="one-way-curve",
    title="one-way under a key: encrypted and authenticated by CURVE",
    rounds=5,
    contenders=(
        Contender(name="pyzmq PUB/SUB, CURVE", run=raw.publish_subscribe_curve),
        Contender(name="zq, key_file", run=with_a_key),
    ),
    targets=(
        Target(
            contender="zq, key_file",
            metric="msg/s",
            compare=Compare.RATIO,
            baseline="pyzmq PUB/SUB, CURVE",
            at_least=True,
            limit=0.9,
        ),
    ),
)
