"""A host is suspended for so long that the others take it for gone, and goes on as if nothing had been."""

from __future__ import annotations

import time

import pytest

from tests.lan.conftest import MakeLan, Settle
from tests.lan.hosts import exchange

pytestmark = pytest.mark.lan
AWAKE = 5.0  # s from the end of the sleep until messages flow; measured 0.1 to 0.6
NIGHT = 7.0  # s; the others need 5 to take it for gone
JOBS = 200


def test_a_host_that_has_slept_is_met_again_and_nothing_is_lost(make_lan: MakeLan, settle: Settle) -> None:
    lan = make_lan(3)
    neighbours = sleeper, second, third = [settle(lan, host, discovery=["mdns"]) for host in lan.hosts]
    exchange(neighbours, "before")
    sleeper.tell({"pull": "jobs"})
    lan.sleep(sleeper.host)
    asleep = time.monotonic()
    second.tell(["while it slept", 2])
    second.tell({"push": "jobs", "count": JOBS})
    for other in (second, third):
        other.sees(sleeper, "left", after=asleep)
    time.sleep(max(asleep + NIGHT - time.monotonic(), 0.0))  # nothing happens while a host sleeps
    awake = time.monotonic()
    lan.wake(sleeper.host)
    for other in (second, third):
        assert other.sees(sleeper, after=awake)["at"] - awake < AWAKE
    exchange(neighbours, "after")
    assert time.monotonic() - awake < AWAKE
    sleeper.hears(second, ["while it slept", 2])
    second.wait(lambda said: said["what"] == "pushed", "all jobs done")
    done = {said["data"] for said in sleeper.said if said["what"] == "job"}
    while len(done) < JOBS:
        missing = set(range(JOBS)) - done
        done.add(sleeper.wait(lambda said, m=missing: said["what"] == "job" and said["data"] in m, "every job")["data"])
    assert done == set(range(JOBS))
