"""An avatar whose head holds still: what its pose fixes is made once, what speech leaves alone is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nerfad.cameras import Camera
from nerfad.engine.drawing import RenderedFrame, assembled, pixels_of
from nerfad.errors import NerfadError
from nerfad.models.avatar import AvatarModel
from nerfad.models.sensitivity import MARGIN, N_PROBES, THRESHOLD, Drawn, SensitivityMask, spread
from nerfad.models.still import StillHead

MIN_PSNR = 45.0
"""Of masked frames against whole ones in dB; 45 is a root-mean-square error of 1.4 steps of 8 bits."""
N_CHECKED = 6


@dataclass(frozen=True)
class MaskReport:
    """What a mask saves and what it costs, measured on frames that the mask was not made from."""

    share: float  # of the rays, drawn anew in every frame
    max_error: float  # of a colour between 0 and 1
    psnr: float  # dB
    n_checked: int
    whole_fps: float  # of frames drawn whole, at the same pose
    masked_fps: float
    widened: bool

    def __str__(self) -> str:
        return (
            f"{self.share:.1%} of the rays drawn anew{' (mask widened once)' if self.widened else ''}; "
            f"{self.masked_fps:.1f} frames/s against {self.whole_fps:.1f} drawn whole; on {self.n_checked} "
            f"frames the largest error is {self.max_error:.4f} and PSNR {self.psnr:.1f} dB"
        )


@dataclass(frozen=True)
class StillAvatar:
    """One pose, drawn under one condition after another. Made by `Avatar.still`."""

    model: AvatarModel
    camera: Camera
    view: StillHead
    mask: SensitivityMask | None = None
    report: MaskReport | None = None  # of the mask

    @classmethod
    def at(
        cls, model: AvatarModel, camera: Camera, c2w: Tensor, body: Tensor | None, background: Tensor
    ) -> StillAvatar:
        """Arguments as those of `draw_frame`."""
        width = camera.width
        pixels = pixels_of((0, 0, width, camera.height), background.device)
        torso = None if body is None else body[None]
        behind = background.reshape(-1, 3)
        return cls(model, camera, model.still(camera, c2w[None], torso, pixels, behind, width))

    def render(self, cond: np.ndarray) -> RenderedFrame:
        """Draw a frame under cond [c], a row of `Avatar.conditions`."""
        shape = self.camera.height, self.camera.width
        return assembled(self.model, *self._draw(self._rows(cond[None])), self.view.behind, shape)

    def masked(
        self, conditions: np.ndarray, threshold: float = THRESHOLD, margin: int = MARGIN
    ) -> StillAvatar:
        """The same pose, of which only pixels that the condition changes are drawn anew.

        An approximation, measured before it is used: frames that the mask was not made from are drawn both
        ways. Where they differ too much (PSNR below 45 dB), the mask is widened once by what they show and
        measured on other frames.

        Args:
            conditions: [k, c] of all frames to come, or others as diverse.
            threshold: on the change of a colour or opacity from 0 to 1.
            margin: pixels by which the mask is widened in all directions.

        Raises:
            NerfadError: the threshold is not between 0 and 1, or the widened mask is not good enough.
        """
        if not 0 < threshold < 1:
            raise NerfadError(
                f"the sensitivity mask's threshold must be between 0 and 1, got {threshold}; "
                f"{THRESHOLD:.3f} is half a step of an 8-bit colour."
            )
        rows = self._rows(conditions)
        mask = SensitivityMask.measure(self.view, rows, self.camera.width, threshold, margin)
        unseen = _unprobed(rows)
        report = self._reported(mask, unseen[::2], widened=False)
        if report.psnr < MIN_PSNR:
            mask = mask.widened(unseen[::2])
            report = self._reported(mask, unseen[1::2], widened=True)
        if report.psnr < MIN_PSNR:
            raise NerfadError(
                f"the sensitivity mask of threshold {threshold:.4g} leaves out too much: PSNR is "
                f"{report.psnr:.1f} dB against whole frames, less than {MIN_PSNR:g}; lower the threshold or "
                "draw whole frames."
            )
        return replace(self, mask=mask, report=report)

    def _draw(self, cond: Tensor) -> Drawn:
        return self.view.draw(cond) if self.mask is None else self.mask.draw(cond)

    def _rows(self, conditions: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(conditions, np.float32)).to(self.view.behind.device)

    def _reported(self, mask: SensitivityMask, conditions: Tensor, widened: bool) -> MaskReport:
        error = mask.error(conditions)
        return MaskReport(
            share=mask.share,
            max_error=error.max_error,
            psnr=error.psnr,
            n_checked=len(conditions),
            whole_fps=_rate(self.view.draw, conditions),
            masked_fps=_rate(mask.draw, conditions),
            widened=widened,
        )


def _unprobed(conditions: Tensor) -> Tensor:
    """Conditions that a mask is not made from, spread over the clip: every second one for a check, the others
    for the check of a widened mask. All conditions where a mask is made from all."""
    left = torch.ones(len(conditions), dtype=torch.bool, device=conditions.device)
    left[spread(conditions, N_PROBES)] = False
    rows = conditions[left] if int(left.sum()) > 1 else conditions.repeat(2, 1)
    at = torch.linspace(0, len(rows) - 1, min(2 * N_CHECKED, len(rows)), device=rows.device).round().long()
    return rows[at]


def _rate(draw: Callable[[Tensor], Drawn], conditions: Tensor) -> float:
    """Frames per second, at the median."""
    seconds = []
    for cond in conditions.split(1):
        start = time.perf_counter()
        draw(cond)[1][:1].cpu()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return 1 / float(np.median(seconds))
