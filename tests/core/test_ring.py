"""The ring: one budget for all topics, the newest of each stays, and times lead to numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zq.core import ring as module
from zq.core.ring import Published, Ring, Track

FRAMES = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(1, 50)), min_size=1, max_size=40)


def fill(ring: Ring, tracks: list[Track], frames: list[tuple[int, int, int]]) -> list[list[Published]]:
    """Adds frames of (topic, messages, bytes), one a second; returns all there were of each topic."""
    heads, all_frames = [0] * len(tracks), [list[Published]() for _ in tracks]
    for clock, (index, length, size) in enumerate(frames):
        frame = Published(heads[index] + 1, length, float(clock), (b"",), size)
        heads[index] += length
        all_frames[index].append(frame)
        ring.add(tracks[index], frame)
    return all_frames


@given(FRAMES, st.integers(1, 120))
@settings(deadline=None)
def test_the_budget_holds_but_the_newest_of_each_topic_stays(frames: list[tuple[int, int, int]], budget: int) -> None:
    ring, tracks = Ring(budget), [Track() for _ in range(3)]
    published = fill(ring, tracks, frames)
    kept = [frame for track in tracks for frame in track.frames]
    assert ring.size == sum(frame.size for frame in kept)
    newest = [frames[-1] for frames in published if frames]
    assert all(frame in kept for frame in newest)
    assert ring.size <= budget or len(kept) == len(newest)
    for track, all_of in zip(tracks, published, strict=True):
        count = len(track.frames)
        assert list(track.frames) == all_of[len(all_of) - count :], "the oldest leave first"
        assert track.left == sum(frame.length for frame in all_of[: len(all_of) - count])
        assert track.left + track.held == sum(frame.length for frame in all_of)
        assert track.oldest == track.left + 1


@given(FRAMES, st.integers(1, 200), st.floats(-1, 45))
@settings(deadline=None)
def test_a_time_leads_to_a_number_rather_too_low_than_too_high(
    frames: list[tuple[int, int, int]], budget: int, clock: float
) -> None:
    ring, tracks = Ring(budget), [Track() for _ in range(3)]
    published = fill(ring, tracks, frames)
    for track, all_of in zip(tracks, published, strict=True):
        head = track.left + track.held
        exact = next((frame.first for frame in all_of if frame.clock >= clock), head + 1)
        assert track.since(clock) <= exact
        if exact > track.oldest:
            assert track.since(clock) == exact, "what is in the ring is known exactly"


@given(FRAMES, st.integers(1, 90))
@settings(deadline=None)
def test_a_number_leads_to_its_frame(frames: list[tuple[int, int, int]], number: int) -> None:
    ring, tracks = Ring(60), [Track() for _ in range(3)]
    fill(ring, tracks, frames)
    for track in tracks:
        index = track.at(number)
        assert all(frame.first + frame.length - 1 < number for frame in list(track.frames)[:index])
        assert all(frame.first + frame.length - 1 >= number for frame in list(track.frames)[index:])


def test_what_is_remembered_of_frames_that_left_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INDEX_MOST", 16)
    ring, track = Ring(10), Track()
    fill(ring, [track], [(0, 1, 10)] * 500)
    assert len(track.left_index) <= 17
    for clock in range(0, 490, 7):
        assert track.since(float(clock)) <= clock + 1
