"""A flood of strangers costs the peers that go on talking little more than the same flood at somebody else's doors."""

from __future__ import annotations

from pathlib import Path

from tests.processes.conftest import Options
from tests.security.proof_door import REALM, STRANGER, flood, flood_elsewhere, from_address
from tests.security.rogues import Friends, doors_of, percentile, sockets_of, write_key
from zq.security.guard import MOST_FAILURES

COUNT = 400  # strangers, four times what an address is cut off after
SLACK = 0.25  # s; a machine on which the strangers, the peers and other tests share two cores


def test_a_flood_of_strangers_holds_friends_up_no_more_than_one_elsewhere(keyed: Options, tmp_path: Path) -> None:
    key_file = write_key(tmp_path / "proof.key")
    with Friends(keyed | {"realm": REALM, "key_file": str(key_file)}) as friends:
        elsewhere = flood_elsewhere(friends, key_file, COUNT, str(tmp_path))
        doors, guard = doors_of(friends.sender), sockets_of(friends.sender).guard
        near = flood("from a friend's address", friends, key_file, COUNT, doors)
        assert guard.cut_off == 0  # strangers there must not lock the friend out
        far = flood("from another", friends, key_file, COUNT, [from_address(STRANGER, door) for door in doors])
        friends.rest()
        assert near.got_in == far.got_in == []
        assert len(friends.took) == friends.sent
        assert friends.sender.ledger().refused_frames == 0
        assert guard.by_address()[STRANGER] >= MOST_FAILURES
        assert guard.cut_off > COUNT // 4
        for here in (near, far):
            assert percentile(here.took, 0.99) < 2 * percentile(elsewhere.took, 0.99) + SLACK
