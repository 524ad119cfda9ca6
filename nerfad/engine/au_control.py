"""Action units edited on top of speech: `nerfad render --au AU25=0.8@1.0-2.0s`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nerfad.data.dataset import Dataset, load_dataset
from nerfad.engine.attention_data import codes_of
from nerfad.engine.evaluation_sources import dataset_sound
from nerfad.errors import CheckpointError, DatasetError, InputFileError
from nerfad.metrics.action_units import dead_units
from nerfad.models.unit_control import UnitDirections

if TYPE_CHECKING:
    from nerfad.engine.render import Avatar

RAMP_S = 0.08
"""An edit comes and goes within this time, inside its interval."""
MIN_SPREAD = 0.1
"""Least standard deviation of the codes over the training frames, in those of the noise on the condition."""
_EDIT = re.compile(r"(AU\d\d)=([0-9.]+)@([0-9.]+)-([0-9.]+)s")


@dataclass(frozen=True)
class UnitEdit:
    """One unit at one value (0..1, a share of OpenFace's 5) from `start_s` to `end_s` of the sound."""

    unit: str
    value: float
    start_s: float
    end_s: float

    @classmethod
    def parse(cls, text: str) -> UnitEdit:
        """Read `AU25=0.8@1.0-2.0s`; raises InputFileError where it says something else.

        >>> UnitEdit.parse("AU25=0.8@1.0-2.0s")
        UnitEdit(unit='AU25', value=0.8, start_s=1.0, end_s=2.0)
        """
        found = _EDIT.fullmatch(text.strip())
        try:
            assert found is not None
            value, start, end = (float(part) for part in found.groups()[1:])
        except (AssertionError, ValueError):
            raise InputFileError(
                f"--au {text}: cannot be read; write the unit, its value and its time like AU25=0.8@1.0-2.0s."
            ) from None
        if not 0 <= value <= 1:
            raise InputFileError(f"--au {text}: the value {value:g} must be between 0 and 1.")
        if not start < end:
            raise InputFileError(f"--au {text}: must end after it begins; write for instance 1.0-2.0s.")
        return cls(found[1], value, start, end)

    def check_within(self, duration_s: float) -> None:
        """Raise InputFileError where the interval reaches beyond the sound."""
        if self.end_s > duration_s + 1e-6:
            raise InputFileError(
                f"--au {self.unit}: {self.start_s:g}-{self.end_s:g}s reaches beyond the sound, which is "
                f"{duration_s:.2f} s long; choose an interval within it."
            )

    def weight(self, times: np.ndarray) -> np.ndarray:
        """How much of the edit holds at `times` [n] in seconds: 0 outside, 1 inside, smooth between."""
        inside = np.minimum(times - self.start_s, self.end_s - times)
        ramp = np.clip(inside / min(RAMP_S, (self.end_s - self.start_s) / 2), 0, 1)
        return np.asarray(ramp * ramp * (3 - 2 * ramp))


def edited_codes(
    directions: UnitDirections, codes: np.ndarray, times: np.ndarray, edits: Sequence[UnitEdit]
) -> np.ndarray:
    """Codes [n, d] of frames at `times` [n] with the edits, float32.

    Within its interval an edit brings what the codes show of its unit to its value. Other units that are
    edited, too, keep theirs; those that nobody edits go along as they do in the person's speech: lips that
    part over a jaw that is held are nothing that the field has seen.

    Edits of different units add up; of two edits of one unit the later one goes on from where the earlier
    one leads.
    """
    spoken = directions.read(codes)
    wanted = spoken.copy()
    for edit in edits:
        column = directions.names.index(edit.unit)
        weight = edit.weight(times)
        wanted[:, column] += weight * (edit.value - wanted[:, column])
    return directions.moved(codes, wanted - spoken)


def unit_directions(
    avatar: Avatar, edits: Sequence[UnitEdit], dataset: str | Path | None = None
) -> UnitDirections:
    """What moves the action units of this avatar, from the sound and the units of its training frames.

    Args:
        dataset: where its data set lies, if it moved.

    Raises:
        InputFileError: the run hears nothing.
        CheckpointError: the data set is another one, or sound hardly changes the condition.
        DatasetError: it is gone, or has no such unit, or the person does not move it.
    """
    if avatar.voice.n_codes == 0:
        raise InputFileError(f"{avatar.run}: hears no sound and has no action unit to edit; leave --au out.")
    data = own_dataset(avatar, dataset)
    if data.aus is None:
        raise DatasetError(f"{data.root}: has no action units, which --au needs; preprocess it again.")
    names = tuple(data.au_names)
    units = codes_of(data, names)
    frames, _ = data.split(avatar.voice.lookback_s, avatar.voice.lookahead_s)
    frames = frames[np.isfinite(units[frames]).all(1)]
    dead = dead_units(units[frames], names)
    for edit in edits:
        if edit.unit not in names:
            known = ", ".join(name for name in names if name not in dead)
            raise DatasetError(f"--au {edit.unit}: {data.root} has no such unit; choose one of {known}.")
        if edit.unit in dead:
            raise DatasetError(
                f"--au {edit.unit}: cannot be edited ({dead[edit.unit]}); choose a unit that the "
                "person moves."
            )
    edited = tuple(dict.fromkeys(edit.unit for edit in edits))
    chosen = [names.index(unit) for unit in edited]
    sound = avatar.conditions(dataset_sound(data), frame_times=data.frame_times, segments=data.segments)
    codes = sound[frames, : avatar.voice.n_codes]
    _check_spread(avatar, codes)
    return UnitDirections.fit(codes, units[frames][:, chosen], edited)


def _check_spread(avatar: Avatar, codes: np.ndarray) -> None:
    """Moves in proportion to codes that differ by less than the field's training noise are lost in it."""
    spread, noise = float(codes.std(0).mean()), avatar.config.optim.condition_noise
    if spread < MIN_SPREAD * noise:
        raise CheckpointError(
            f"{avatar.run}: --au cannot move a face that does not speak yet: what it hears changes its "
            f"condition by {spread:.1g}, and it was trained under noise of {noise:g}; train fusion and field "
            "longer."
        )


def own_dataset(avatar: Avatar, asked: str | Path | None, size: int | None = None) -> Dataset:
    """The data set that the avatar was trained on, with pictures of `size` rows."""
    known = avatar.meta["dataset"]
    root = Path(known["root"] if asked is None else asked)
    if not root.is_dir():
        raise DatasetError(f"--au needs the data set {root} of the run; say where it is with --dataset.")
    data = load_dataset(root, size)
    if data.fingerprint() != known["fingerprint"]:
        raise CheckpointError(f"{avatar.run}: --au needs the data set of the run, and {root} is another one.")
    return data
