"""Re-timing, duplicates and cuts on made-up numbers."""

import numpy as np
import pytest

from nerfad.preprocess.scan import assign_ticks, find_cuts, find_duplicates
from tests.preprocess.drawn_clip import draw


def test_a_clip_at_the_wanted_rate_keeps_every_frame():
    source, ticks = assign_ticks(np.arange(100) / 25, 25)
    np.testing.assert_array_equal(source, np.arange(100))
    np.testing.assert_array_equal(ticks, np.arange(100))


@pytest.mark.parametrize("fps", [24, 29.97, 30, 50, 60])
def test_every_tick_shows_the_nearest_picture_once(fps):
    times = np.arange(200) / fps
    source, ticks = assign_ticks(times, 25)
    assert len(set(source.tolist())) == len(source)
    assert np.abs(times[source] - ticks / 25).max() <= 0.0281
    assert np.all(np.diff(source) > 0) and np.all(np.diff(ticks) > 0)
    assert len(ticks) >= min(fps, 25) * times[-1] - 1
    if fps >= 50:
        # Beyond the last picture one more tick may borrow it.
        assert np.abs(times[source] - ticks / 25)[:-1].max() <= 0.5 / fps + 1e-9


def test_a_clip_stretched_to_thirty_with_repeats_gets_its_frames_back():
    shown = np.array([k for k in range(100) for _ in range(2 if k % 5 == 4 else 1)])
    first = np.concatenate([[True], np.diff(shown) > 0])
    source, ticks = assign_ticks((np.arange(len(shown)) / 30)[first], 25)
    np.testing.assert_array_equal(shown[first][source], np.arange(100))
    np.testing.assert_array_equal(ticks, np.arange(100))


def test_a_gap_leaves_ticks_empty():
    times = np.concatenate([np.arange(50), np.arange(75, 100)]) / 25
    _, ticks = assign_ticks(times, 25)
    assert not set(range(51, 74)) & set(ticks.tolist())


def test_repeats_are_found_and_slow_motion_is_not_one():
    differences = np.array([np.inf, *([3.0, 2.5, 3.5, 3.0] * 10)])
    differences[[7, 20]] = 0.2
    differences[31] = 0.0
    np.testing.assert_array_equal(np.nonzero(find_duplicates(differences))[0], [7, 20, 31])
    calm = np.array([np.inf, *np.linspace(2.0, 0.3, 40)])
    assert not find_duplicates(calm).any()


def thumbnails(steps: np.ndarray) -> np.ndarray:
    return np.stack([draw(step, 96).mean(2).astype(np.uint8) for step in steps])


def test_jumps_are_cuts_and_motion_is_none():
    steps = np.arange(120.0)
    assert len(find_cuts(thumbnails(steps))) == 0
    steps[40:] += 25
    steps[90:] += 33
    np.testing.assert_array_equal(find_cuts(thumbnails(steps)), [40, 90])
