"""Peers live beside another mDNS responder of their host, which sees them as it sees any service."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lan import avahi
from tests.lan.avahi import Avahi, Service
from tests.lan.conftest import MakeLan, Settle
from tests.lan.hosts import exchange
from tests.waiting import eventually

pytestmark = pytest.mark.lan


def test_avahi_sees_the_peers_and_they_meet_beside_it(make_lan: MakeLan, settle: Settle, tmp_path: Path) -> None:
    if missing := avahi.why_not():
        pytest.skip(missing)
    lan = make_lan(2)
    with Avahi(lan, 1, tmp_path) as responder:
        neighbours = beside, elsewhere = [settle(lan, host, discovery=["mdns"]) for host in lan.hosts]
        exchange(neighbours, "hello")
        seen: dict[str, Service] = {}

        def sees_both() -> bool:
            seen.update({service.name: service for service in responder.browse("_zq._tcp")})
            return seen.keys() == {beside.id, elsewhere.id}

        eventually(sees_both)
        for each in neighbours:
            service = seen[each.id]
            assert service.address == lan.address(each.host)
            assert f"tcp://{service.address}:{service.port}" == each.endpoints()[0][0]
            assert service.host == f"{each.id}.local", "never the host's own name, which is avahi's"
            assert f'"id={each.id}"' in service.text
        newcomer = settle(lan, 1, discovery=["mdns"])
        for each in neighbours:
            assert set(newcomer.sees(each)["found_by"]) <= {"mdns", "hello", "gossip"}
