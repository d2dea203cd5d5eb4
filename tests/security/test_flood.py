"""A flood of strangers costs the peers that go on talking next to nothing, whatever address it comes from."""

from __future__ import annotations

import threading
from pathlib import Path

import zq
from tests.processes.conftest import Options
from tests.security.proof_door import REALM, STRANGER, Strangers, apart, from_address, quiet
from tests.security.rogues import DEADLINE, Friends, doors_of, sockets_of, write_key
from tests.waiting import eventually
from zq.security.guard import MOST_FAILURES, SUSPICIOUS
from zq.security.porch import PACE

COUNT = 150  # strangers a round
ROUNDS = 5  # of which one has to hold, since others work on this machine as well; without the porch none does
SLACK = 0.002  # s; without the porch p99 is 7 ms, of which nearly all are the strangers', and 0.5 ms in peace


def test_a_flood_from_a_friends_address_holds_friends_up_no_longer_than_twice_what_peace_does(
    keyed: Options, tmp_path: Path
) -> None:
    key_file = write_key(tmp_path / "proof.key")
    with (
        apart(),
        Strangers(key_file) as strangers,
        Friends(keyed | {"realm": REALM, "key_file": str(key_file)}) as friends,
    ):
        sockets, doors = sockets_of(friends.sender), doors_of(friends.sender)
        rounds = []
        for _ in range(ROUNDS):
            peace, war = quiet(friends, 1.0), strangers.flood(friends, COUNT, doors)
            assert war.got_in == []
            rounds.append((peace.p99, war.p99))
            if war.p99 < 2 * peace.p99 + SLACK:
                break
        friends.rest()
        assert any(war < 2 * peace + SLACK for peace, war in rounds), rounds
        assert len(friends.took) == friends.sent
        assert sockets.guard.cut_off == 0  # strangers there must not lock the friend out
        assert sockets.porch.held >= COUNT - 3 * SUSPICIOUS  # as many again may have been on their way
        assert not sockets.porch.waiting


def test_strangers_from_a_friends_address_have_their_turns_one_after_the_other(keyed: Options, tmp_path: Path) -> None:
    key_file = write_key(tmp_path / "proof.key")
    with Strangers(key_file) as strangers, Friends(keyed | {"realm": REALM, "key_file": str(key_file)}) as friends:
        war = strangers.flood(friends, COUNT, doors_of(friends.sender))
        held = sockets_of(friends.sender).porch.held
        assert held >= COUNT - 3 * SUSPICIOUS
        assert war.seconds >= (held - 1) * PACE


def test_who_has_the_key_gets_in_beside_a_flood_from_his_own_address(keyed: Options, tmp_path: Path) -> None:
    key_file = write_key(tmp_path / "proof.key")
    options = keyed | {"realm": REALM, "key_file": str(key_file)}
    with Strangers(key_file) as strangers, Friends(options) as friends:
        porch = sockets_of(friends.sender).porch
        flood = threading.Thread(target=strangers.flood, args=(friends, 4 * COUNT, doors_of(friends.sender)))
        flood.start()
        eventually(lambda: porch.waiting)
        with zq.Peer("late", **options) as late:
            late.wait_for_peers(2, timeout=DEADLINE)
            assert flood.is_alive()  # it was meanwhile, and not afterwards
        flood.join()


def test_a_flood_from_another_address_is_cut_off(keyed: Options, tmp_path: Path) -> None:
    key_file = write_key(tmp_path / "proof.key")
    with Strangers(key_file) as strangers, Friends(keyed | {"realm": REALM, "key_file": str(key_file)}) as friends:
        doors, guard = doors_of(friends.sender), sockets_of(friends.sender).guard
        war = strangers.flood(friends, 4 * MOST_FAILURES, [from_address(STRANGER, door) for door in doors])
        friends.rest()
        assert war.got_in == []
        assert len(friends.took) == friends.sent
        assert friends.sender.ledger().refused_frames == 0
        assert guard.by_address()[STRANGER] >= MOST_FAILURES
        assert guard.cut_off > MOST_FAILURES
