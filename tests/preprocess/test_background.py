"""The plate: medians over free frames, and smooth filling of what is never seen."""

import numpy as np

from nerfad.preprocess.background import fill_holes, masked_median


def test_the_median_counts_free_frames_only():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (9, 5, 6, 3), np.uint8)
    free = rng.random((9, 5, 6)) < 0.6
    free[:, 0, 0], free[0, 1, 1] = False, True
    plate, count = masked_median(images, free)
    np.testing.assert_array_equal(count, free.sum(0))
    for row in range(5):
        for column in range(6):
            seen = np.sort(images[free[:, row, column], row, column], axis=0)
            if len(seen):
                np.testing.assert_array_equal(plate[row, column], seen[(len(seen) - 1) // 2])


def test_holes_take_the_colours_around_them_and_the_rest_stays():
    row, column = np.mgrid[:64, :64]
    image = np.dstack([2 * row, 3 * column, 0 * row + 80]).astype(np.uint8)
    known = np.hypot(row - 30, column - 34) > 14
    filled = fill_holes(np.where(known[..., None], image, 0).astype(np.uint8), known)
    np.testing.assert_array_equal(filled[known], image[known])
    assert np.abs(filled.astype(int) - image)[~known].mean() < 8
    np.testing.assert_array_equal(filled[~known][:, 2], 80)


def test_nothing_known_does_not_crash():
    assert fill_holes(np.zeros((16, 20, 3), np.uint8), np.zeros((16, 20), bool)).shape == (16, 20, 3)
