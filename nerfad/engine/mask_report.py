"""Is a mask a mask? What a run of AU-Attention says of itself, and when it calls its mask degenerate."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from nerfad.models.au_attention import AUAttention, audio_face

_ALL_ONES, _ALL_ZEROS = 0.995, 0.05
_MIN_CONTRAST = 0.03
_MIN_FOCUS = 1.5
_MIN_RESPONSE = 0.01


@dataclass(frozen=True)
class MaskReport:
    """Figures over a few crops.

    Attributes:
        mask_mean: mean of A.
        mask_outside: mean of A outside the box of mouth and jaw.
        mouth_mass: share of 1 - A that lies in the box.
        mouth_area: share of the crop that the box covers.
        contrast: largest minus smallest value of 1 - A averaged over crops.
        mask_response: mean |change of A| in the box when a unit goes from 0 to 1.
        image_response: the same for I_G, in units of the range [-1, 1].
        unit: the unit that was moved: AU25 where there is one.
    """

    mask_mean: float
    mask_outside: float
    mouth_mass: float
    mouth_area: float
    contrast: float
    mask_response: float
    image_response: float
    unit: str

    @property
    def focus(self) -> float:
        """`mouth_mass` over `mouth_area`: 1 for a mask that knows nothing of the mouth."""
        return self.mouth_mass / max(self.mouth_area, 1e-9)

    def faults(self) -> list[str]:
        """Why this mask is degenerate, one sentence each; empty for a usable one."""
        found = []
        if self.mask_mean > _ALL_ONES and self.contrast < _MIN_CONTRAST:
            found.append(f"A is {self.mask_mean:.3f} everywhere: nothing is left for speech to move.")
        elif self.mask_mean < _ALL_ZEROS:
            found.append(f"A is {self.mask_mean:.3f} on average: speech would move the whole picture.")
        elif self.focus < _MIN_FOCUS:
            found.append(
                f"1 - A is only {self.focus:.2f} times as dense in the box of mouth and jaw as a mask that "
                "knows nothing would be."
            )
        if self.image_response < _MIN_RESPONSE:
            found.append(f"the generated picture does not answer to {self.unit}.")
        return found

    def to_json(self) -> dict[str, object]:
        """Figures, `focus` and `faults` as JSON values."""
        return {**asdict(self), "focus": self.focus, "faults": self.faults()}


@torch.no_grad()
def report_mask(
    generator: AUAttention,
    crops: Tensor,
    codes: Tensor,
    targets: Tensor,
    mouths: Tensor,
    units: tuple[str, ...],
) -> MaskReport:
    """Run the generator on a few crops.

    Args:
        crops: [n, 3, s, s] in [-1, 1].
        codes, targets: [n, k], their own codes and others.
        mouths: bool [n, s, s], the box of mouth and jaw.
    """
    moved = units.index("AU25") if "AU25" in units else 0
    low, high = codes.clone(), codes.clone()
    low[:, moved], high[:, moved] = 0.0, 1.0
    inside = mouths[:, None].float()
    mask = generator(crops, targets).mask.float()
    weight = 1 - mask
    pooled = weight.mean((0, 1))
    at_low, at_high = generator(crops, low), generator(crops, high)
    return MaskReport(
        mask_mean=float(mask.mean()),
        mask_outside=_mean_where(mask, 1 - inside),
        mouth_mass=float((weight * inside).sum() / weight.sum().clamp_min(1e-9)),
        mouth_area=float(inside.mean()),
        contrast=float(pooled.max() - pooled.min()),
        mask_response=_mean_where((at_high.mask - at_low.mask).abs().float(), inside),
        image_response=_mean_where(
            (at_high.image - at_low.image).abs().float().mean(1, keepdim=True), inside
        ),
        unit=units[moved],
    )


@torch.no_grad()
def preview_picture(generator: AUAttention, crops: Tensor, targets: Tensor, units: tuple[str, ...]) -> Tensor:
    """A row a crop [n * s, 7 s, 3] in [-1, 1]: I_crop, A (white where speech moves nothing), Audio-face, I_W,
    I_G, and I_G with every unit at 0 and with AU25 and AU26 at 1.
    """
    still = torch.zeros_like(targets)
    opened = still.clone()
    opened[:, [k for k, name in enumerate(units) if name in ("AU25", "AU26")] or [0]] = 1.0
    made = generator(crops, targets)
    columns = (
        crops,
        (2 * made.mask - 1).expand(-1, 3, -1, -1),
        audio_face(made.mask, crops),
        made.warp,
        made.image,
        generator(crops, still).image,
        generator(crops, opened).image,
    )
    rows = torch.cat([column.float() for column in columns], 3)
    return torch.cat(list(rows), 1).permute(1, 2, 0)


def spread_rows(people: tuple[tuple[int, int], ...], n: int) -> np.ndarray:
    """About n rows, spread over all people and over time."""
    each = max(1, n // len(people))
    parts = [np.linspace(start, end - 1, min(each, end - start)).round() for start, end in people]
    return np.concatenate(parts).astype(np.int64)


def _mean_where(values: Tensor, weight: Tensor) -> float:
    return float((values * weight).sum() / weight.sum().clamp_min(1e-9))
