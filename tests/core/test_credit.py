"""Credit: the prefetch is never exceeded, and nobody who waits is passed over for ever."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from zq.core.credit import MEASURED, PREFETCH_LEAST, PREFETCH_MOST, Prefetch, share_out


@dataclass
class Link:
    """A receiving link, as far as credit goes, and what its pusher does with it."""

    limit: int = 0
    sent: int = 0
    returned: int = 0
    wanted: int = 0
    keep: int = 0
    settled: int = 0

    @property
    def in_use(self) -> int:
        return self.limit - self.returned - self.settled

    @property
    def unused(self) -> int:
        return self.limit - self.sent - self.returned


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["want", "send", "settle", "return"]), st.integers(0, 3), st.integers(0, 20)),
    max_size=60,
)


@given(st.integers(1, 40), ACTIONS)
@settings(deadline=None)
def test_the_prefetch_is_never_exceeded_and_grants_are_wanted(size: int, actions: list[tuple[str, int, int]]) -> None:
    links = [Link() for _ in range(4)]
    for turn, (action, index, count) in enumerate(actions):
        link = links[index]
        if action == "want":
            link.wanted = count
        elif action == "send":
            count = min(count, link.unused)
            link.sent += count
            link.wanted = max(link.wanted - count, 0)
        elif action == "settle":
            link.settled += min(count, link.sent - link.settled)
        else:
            link.returned += min(count, max(link.unused, 0))
            link.wanted = 0
        before = [link.limit for link in links]
        raised = share_out(size, links, turn)
        assert all(link.limit >= limit for link, limit in zip(links, before, strict=True))
        assert {id(link) for link in raised} == {
            id(link) for link, limit in zip(links, before, strict=True) if link.limit > limit
        }
        assert sum(link.in_use for link in links) <= size
        assert all(link.unused <= max(link.wanted, link.keep) for link in raised)
        if any(link.wanted > link.unused for link in links):
            assert sum(link.in_use for link in links) == size, "somebody waits although there is credit left"


@given(st.integers(1, 3), st.integers(2, 6))
@settings(deadline=None)
def test_everyone_who_waits_gets_a_turn(size: int, count: int) -> None:
    links = [Link(wanted=100) for _ in range(count)]
    for turn in range(1, 6 * count):
        share_out(size, links, turn % count)
        for link in links:
            link.settled = link.sent = link.limit  # sent, worked off
    done = [link.settled for link in links]
    assert min(done) > 0
    assert max(done) - min(done) <= 2 * size


def test_idle_links_keep_a_quarter_between_them_and_one_alone_keeps_the_rest() -> None:
    links = [Link() for _ in range(3)]
    share_out(64, links, 0)
    assert [link.limit for link in links] == [5, 5, 5]
    alone = [Link()]
    share_out(4096, alone, 0)
    assert alone[0].limit == 3072
    job = [Link()]
    share_out(1, job, 0)
    assert job[0].limit == 0, "one job at a time is for the one who asks"


def test_a_given_prefetch_stays() -> None:
    prefetch = Prefetch(7)
    prefetch.settled(10_000, 0.0)
    prefetch.settled(10_000, 1.0)
    assert prefetch.size == 7


def test_the_prefetch_adapts_to_the_rate_within_its_bounds() -> None:
    prefetch, now = Prefetch(None), 0.0
    assert prefetch.size == PREFETCH_LEAST
    for _ in range(50):
        now += 0.01
        prefetch.settled(100, now)  # 10,000 a second
    assert 500 <= prefetch.size <= 10_000 * MEASURED * 1.2
    for _ in range(50):
        now += 0.001
        prefetch.settled(1_000, now)
    assert prefetch.size == PREFETCH_MOST
    for _ in range(20):
        now += 1.0
        prefetch.settled(1, now)
    assert prefetch.size == PREFETCH_LEAST
