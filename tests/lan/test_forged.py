"""Records, cache flushes and goodbyes that another host forges: nobody is lost, a false address costs some dials."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lan.conftest import MakeLan, Settle
from tests.lan.hosts import DEADLINE, exchange
from tests.processes.process import Process
from tests.security.rogues import write_key

pytestmark = pytest.mark.lan
DIALS = 60  # of one newcomer at most at a false address meanwhile; each is longer after the last, up to 0.5 s


@pytest.mark.parametrize("locked", [True, False])
def test_who_speaks_for_others_over_mdns_parts_nobody(
    make_lan: MakeLan, settle: Settle, tmp_path: Path, locked: bool
) -> None:
    """He has heard the true records, with their proofs, and repeats them with an address of his own."""
    lan = make_lan(4)
    options = {"discovery": ["mdns"], "steadfast": True}
    if locked:
        options |= {"key_file": str(write_key(tmp_path / "key")), "insecure": None}
    friends = [settle(lan, host, **options) for host in (1, 2)]
    exchange(friends, "before")
    forger = Process(
        "forger",
        lan.address(4),
        [each.id for each in friends],
        module="tests.lan.roles",
        command=lan.command(4),
    )
    try:
        assert forger.hear(DEADLINE) == {"what": "ready"}
        exchange(friends, "meanwhile")
        newcomer = settle(lan, 3, **options)
        exchange([*friends, newcomer], "with the newcomer")
        forger.tell()
        found = forger.hear(DEADLINE)
    finally:
        forger.end()
    exchange([*friends, newcomer], "after")
    for one in friends:
        for other in friends:
            if one is not other:
                assert not {"suspect", "left"} & set(one.kinds(other))
    assert all(count <= DIALS for count in found["calls"].values()), found
