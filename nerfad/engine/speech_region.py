"""Where the attention says that speech moves nothing: there the field may be told another frame's speech.

The Identity-face is what sound must not change (section 2.1), but the field is given the fused Audio-face at
every point, and learns what happens to go along with it in the clip. In training, rays of pixels outside the
Audio-face are therefore drawn under another frame's speech part by part, and must show the same picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nerfad.data.dataset import Dataset
from nerfad.data.face_crops import FaceCrops

MOVED_SHARE = 0.2
"""Of the largest 1 - A of a person: pixels where it is as large as this keep their own speech."""


@dataclass(frozen=True)
class SpeechRegion:
    """How freely the speech of each pixel may be exchanged.

    Attributes:
        freedom: [s, s] in [0, 1] of an upright crop of the face; 1 where speech moves nothing.
        to_crop: [n, 2, 3], affine maps from points of a training frame to points of its crop; NaN where no
            face was found.
    """

    freedom: Tensor
    to_crop: Tensor

    @classmethod
    def of(
        cls, dataset: Dataset, frames: np.ndarray, mask: Tensor, device: str | torch.device = "cpu"
    ) -> SpeechRegion:
        """Of training frames at positions `frames`, by the one A [1, 1, s, s] of the person."""
        moved = 1 - mask[0, 0]
        freedom = (1 - moved / (MOVED_SHARE * moved.max().clamp_min(1e-6))).clamp(0, 1)
        to_frame = np.tile(np.eye(3), (len(frames), 1, 1))
        to_frame[:, :2] = FaceCrops(dataset, len(freedom)).to_frame_matrix[frames]
        found = np.isfinite(to_frame).all((1, 2))
        to_crop = np.full((len(frames), 2, 3), np.nan, np.float32)
        to_crop[found] = np.linalg.inv(to_frame[found])[:, :2]
        return cls(freedom.to(device), torch.from_numpy(to_crop).to(device))

    def __call__(self, frames: Tensor, pixels: Tensor) -> Tensor:
        """Freedom [m] of pixels int64 [m, 2] (column, row) of the frames int64 [m]; 1 beyond the crop, 0 in
        frames without a face."""
        matrix = self.to_crop[frames]
        points = (matrix[:, :, :2] @ (pixels.to(matrix.dtype) + 0.5)[:, :, None])[:, :, 0] + matrix[:, :, 2]
        size = len(self.freedom)
        inside = ((points >= 0) & (points < size)).all(1)
        column, row = points.nan_to_num().long().clamp(0, size - 1).unbind(1)
        freedom = torch.where(inside, self.freedom[row, column], 1.0)
        return torch.where(points.isfinite().all(1), freedom, 0.0)


def exchanged(
    cond: Tensor,
    n_speech: int,
    frame_index: Tensor,
    freedom: Tensor,
    share: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Conditions [2 k, c] of k frames, theirs and those with another frame's speech, and which of them each
    ray is drawn under, int32 [m].

    Args:
        cond: [k, c], first `n_speech` numbers of speech.
        frame_index: int32 [m], the frame of each ray.
        freedom: [m], how freely a ray's speech may be exchanged.
        share: of the rays with freedom 1 that are drawn under another frame's speech.
    """
    k = len(cond)
    if k < 2:
        return cond, frame_index
    shift = int(torch.randint(1, k, (), generator=generator, device=generator.device))
    others = torch.cat([cond.roll(shift, 0)[:, :n_speech], cond[:, n_speech:]], 1)
    chance = torch.rand(len(frame_index), generator=generator, device=generator.device).to(freedom.device)
    swapped = chance < share * freedom
    return torch.cat([cond, others]), frame_index + k * swapped.to(frame_index.dtype)
