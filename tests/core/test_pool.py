"""The pool: whoever has the most free credit is found, whatever happened to the credit of others meanwhile."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from zq.core.link import SendingLink
from zq.core.outbox import Outbox
from zq.core.pool import Pool


def pool_of(count: int) -> tuple[Pool, list[SendingLink]]:
    pool, box = Pool(), Outbox(queue="jobs", window=10, window_bytes=10)
    links = [
        SendingLink(id=bytes([number]), outbox=box, peer=b"p", puller=bytes([number]), session=0)
        for number in range(count)
    ]
    pool.links.update({(link.peer, link.puller): link for link in links})
    return pool, links


@given(st.integers(1, 8), st.integers(0, 10_000))
@settings(deadline=None)
def test_the_link_with_the_most_free_credit_is_found_as_long_as_there_is_one(count: int, seed: int) -> None:
    chance = random.Random(seed)
    pool, links = pool_of(count)
    for _ in range(100):
        link = chance.choice(links)
        step = chance.choice(["grant", "send", "give back", "remove", "pop", "pop"])
        if step == "grant":
            link.limit += chance.randint(0, 9)
            pool.offer(link)
        elif step == "send":
            link.next += chance.randint(0, max(link.free, 0))
        elif step == "give back":
            link.returned += chance.randint(0, max(link.free, 0))
        elif step == "remove" and len(links) > 1:
            links.remove(link)
            pool.remove(link)
        else:
            best = pool.pop()
            assert (best.free if best else 0) == max(0, *(link.free for link in links))
            if best is not None:
                assert best in links
                best.next += chance.randint(0, best.free)
                pool.offer(best)
    assert len(pool._heap) <= 100


def test_the_number_of_those_with_credit_is_known() -> None:
    pool, links = pool_of(3)
    for link in links:
        link.limit = 5
        pool.offer(link)
        pool.offer(link)
    assert pool.others == 3
    first = pool.pop()
    assert first is not None
    assert pool.others == 2
    pool.offer(first)
    pool.remove(first)
    assert pool.others == 2


def test_a_tie_goes_to_whoever_has_waited_longest() -> None:
    pool, links = pool_of(3)
    for link in links:
        link.limit = 100
        pool.offer(link)
    used = []
    for _ in range(6):
        link = pool.pop()
        assert link is not None
        used.append(links.index(link))
        link.next += 1
        link.limit += 1
        pool.offer(link)
    assert used == [0, 1, 2, 0, 1, 2]
