"""What goes into one frame: as it was left, in order, within the limits of a frame."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zq.core.outgoing import Item, cut, size_of
from zq.wire.batch import EXTRA, PARTS
from zq.wire.data import Extended, Packed
from zq.wire.limits import BATCH_BYTES, BATCH_MESSAGES

BODIES = st.builds(lambda letter, size: letter * size, st.sampled_from([b"a", b"b"]), st.sampled_from([1, 90, 3_000]))
ITEMS: st.SearchStrategy[Item] = st.one_of(
    BODIES, st.builds(Extended, BODIES), st.builds(lambda body: Packed(body, (b"part" * 5_000,)), BODIES)
)


@given(st.lists(st.tuples(ITEMS, st.integers(1, 700)), max_size=8))
def test_what_was_left_is_cut_into_frames_in_order_and_each_knows_what_it_is(runs: list[tuple[Item, int]]) -> None:
    items = [item for item, count in runs for _ in range(count)]
    at = 0
    for bodies, joined, parts, size, flags, _ in cut(items):
        covered = items[at : at + len(bodies)]
        at += len(bodies)
        assert [item.body if isinstance(item, Packed) else item for item in covered] == bodies
        assert joined == b"".join(bodies)
        assert size == sum(map(size_of, covered))
        assert len(bodies) <= BATCH_MESSAGES
        assert len(bodies) == 1 or size <= BATCH_BYTES
        assert bool(flags & PARTS) == bool(parts) == isinstance(covered[0], Packed)
        assert {bool(flags & EXTRA)} == {isinstance(body, Extended) for body in bodies}
    assert at == len(items)
