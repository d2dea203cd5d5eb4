"""Node's bonjour-service sees peers come and go, on its own host and on others, as it sees any service."""

from __future__ import annotations

import pytest

from tests.lan import bonjour
from tests.lan.bonjour import Bonjour
from tests.lan.conftest import MakeLan, Settle

pytestmark = pytest.mark.lan


def test_bonjour_service_sees_the_peers_come_and_go(make_lan: MakeLan, settle: Settle) -> None:
    if missing := bonjour.why_not():
        pytest.skip(missing)
    lan = make_lan(2)
    with Bonjour(lan, 1) as browser:
        neighbours = beside, elsewhere = [settle(lan, host, discovery=["mdns"]) for host in lan.hosts]
        seen = browser.hear("up", beside.id, elsewhere.id)
        for each in neighbours:
            service = seen[each.id]
            assert service["addresses"] == [lan.address(each.host)]
            assert f"tcp://{lan.address(each.host)}:{service['port']}" == each.endpoints()[0][0]
            assert service["host"] == f"{each.id}.local"
            assert service["txt"]["id"] == each.id
            assert service["txt"]["v"] == "1"
        beside.sees(elsewhere)  # while somebody else uses the port of mDNS too
        elsewhere.leave()
        browser.hear("down", elsewhere.id)
