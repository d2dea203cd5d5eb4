"""One question to the LAN, without a LAN: what has come is read."""

from __future__ import annotations

import os
import socket

import pytest
from zeroconf import DNSOutgoing, ServiceInfo

from zq.discovery import question
from zq.discovery.sighting import SERVICE

COUNT = 5  # peers
RESPONSE = 0x8400  # flags; RFC 6762 section 18


def answer(id: str) -> bytes:
    """What a peer's responder says."""
    text = {"v": "1", "id": id, "tag": "t", "port": "7000"}
    info = ServiceInfo(
        SERVICE, f"{id}.{SERVICE}", port=7000, properties=text, server=f"{id}.local.", parsed_addresses=["127.0.0.1"]
    )
    out = DNSOutgoing(RESPONSE)
    for record in (info.dns_pointer(), info.dns_service(), info.dns_text(), *info.dns_addresses()):
        out.add_answer_at_time(record, 0)
    return out.packets()[0]


def test_what_has_come_counts_though_the_machine_has_stalled_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for it is over before anybody has looked."""
    ids = [os.urandom(16).hex() for _ in range(COUNT)]
    asking, hearing, responder = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3))
    with asking, hearing, responder:
        for each in (asking, hearing, responder):
            each.bind(("127.0.0.1", 0))
        for id in ids:
            responder.sendto(answer(id), hearing.getsockname())
        monkeypatch.setattr(question, "speaker", lambda address: asking)
        monkeypatch.setattr(question, "listener", lambda address: hearing)
        monkeypatch.setattr(question, "group_of", lambda address: (socket.AF_INET, responder.getsockname()))
        answers = question.ask(["127.0.0.1"], duration=0.0)
    assert sorted(each.peer.id.hex() for each in answers) == sorted(ids)
    assert {each.way for each in answers} == {"heard"}
