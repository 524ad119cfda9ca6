"""The picture of what another sound changes."""

from dataclasses import dataclass, field

import numpy as np

from nerfad.engine.swapped_sound import GAIN, moments, swap_picture


@dataclass
class Mouth:
    """Frames whose first rows show the sound, and whose last row the frame."""

    positions: np.ndarray = field(default_factory=lambda: np.arange(40, 60))

    def with_sound_of(self, position: int, sound: int) -> np.ndarray:
        image = np.full((6, 8, 3), 100, np.uint8)
        image[:2] += np.uint8(sound - 40)
        image[-1] = position
        return image


def test_each_frame_is_paired_with_a_moment_half_the_stretch_away():
    assert moments(Mouth(), 3) == [(40, 50), (49, 59), (59, 49)]
    assert len(moments(Mouth(), 100)) == 20


def test_a_row_shows_both_sounds_and_the_change():
    picture = swap_picture(Mouth(), 2)
    assert picture.shape == (12, 24, 3) and picture.dtype == np.uint8
    own, swapped, change = np.split(picture[:6], 3, 1)
    np.testing.assert_array_equal(own, Mouth().with_sound_of(40, 40))
    np.testing.assert_array_equal(swapped, Mouth().with_sound_of(40, 50))
    assert (change[:2] == 255).all() and (change[2:] == 0).all()  # ten steps are past white
    one_step = np.zeros((6, 8, 3), int)
    one_step[:2] = GAIN
    near = Mouth(np.arange(40, 42))  # the other moment is one step away
    np.testing.assert_array_equal(np.split(swap_picture(near, 1), 3, 1)[2], one_step)
