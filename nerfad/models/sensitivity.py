"""The sensitivity mask: the pixels of a head at one pose that the condition can change.

Speech moves a part of a face. At a fixed pose the other pixels are the same in every frame, up to what the
field has learnt by chance, and need not be drawn again:

    m(p) = max over i, j of |C(p, c_i) - C(p, c_j)| > threshold

over a few conditions c_i that lie as far apart as those to come. An approximation: a condition unlike the
probed ones may change pixels outside of the mask, so the error is to be measured (`MaskError`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Drawn = tuple[Tensor, Tensor, Tensor]
"""Colours [n, 3], opacities [n] and depths [n] of rays."""

THRESHOLD = 0.5 / 255
"""Half a step of an 8-bit colour."""
MARGIN = 1
N_PROBES = 8


class View(Protocol):
    """Rays of one pose that can be drawn under one condition after another; `StillHead` is one."""

    def draw(self, cond: Tensor) -> Drawn: ...

    def select(self, rays: Tensor) -> View: ...


@dataclass(frozen=True)
class MaskError:
    """How far masked frames are from whole ones, in colours between 0 and 1."""

    max_error: float
    psnr: float  # dB, over all pixels of all frames; inf if they are equal


class SensitivityMask:
    """A view of which only the marked pixels are drawn anew. Made by `measure`.

    Args:
        view: whole rows of pixels.
        pixels: bool [n], those to draw anew.
        rest: the view under some condition, for the others.
        image_width: pixels in a row.
        threshold, margin: see `measure`.

    Example:
        >>> mask = SensitivityMask.measure(view, conditions, image_width=512)  # doctest: +SKIP
        >>> colors, opacities, depths = mask.draw(conditions[:1])  # doctest: +SKIP
    """

    def __init__(
        self, view: View, pixels: Tensor, rest: Drawn, image_width: int, threshold: float, margin: int
    ) -> None:
        self.view, self.pixels, self.rest = view, pixels, rest
        self.image_width, self.threshold, self.margin = image_width, threshold, margin
        self._rays = pixels.nonzero()[:, 0]
        self._within = view.select(self._rays)

    @classmethod
    def measure(
        cls,
        view: View,
        conditions: Tensor,
        image_width: int,
        threshold: float = THRESHOLD,
        margin: int = MARGIN,
    ) -> SensitivityMask:
        """Mark the pixels whose colour or opacity two of a few conditions change by more than a threshold.

        Args:
            view: whole rows of pixels.
            conditions: [k >= 1, c], those that will be drawn under; probed are those that `spread` picks.
            image_width: pixels in a row.
            threshold: on colours and opacities from 0 to 1.
            margin: pixels by which the mask is widened in all directions.
        """
        probes = conditions[spread(conditions, N_PROBES)]
        rest = view.draw(probes[:1])
        low = high = _looks(rest)
        for cond in probes[1:].split(1):
            looks = _looks(view.draw(cond))
            low, high = torch.minimum(low, looks), torch.maximum(high, looks)
        changed = (high - low).amax(1) > threshold
        return cls(view, dilated(changed, image_width, margin), rest, image_width, threshold, margin)

    @property
    def share(self) -> float:
        """Of the rays that are drawn anew in every frame."""
        return len(self._rays) / max(len(self.pixels), 1)

    def draw(self, cond: Tensor) -> Drawn:
        """As the view's `draw` within the mask; elsewhere colours, opacities and depths stay as they were."""
        drawn = self._within.draw(cond)
        colors, opacities, depths = (
            old.index_copy(0, self._rays, new) for old, new in zip(self.rest, drawn, strict=True)
        )
        return colors, opacities, depths

    def widened(self, conditions: Tensor) -> SensitivityMask:
        """The mask with the other pixels that conditions [k, c] change by more than the threshold."""
        changed = torch.zeros_like(self.pixels)
        for cond in conditions.split(1):
            changed |= (_looks(self.view.draw(cond)) - _looks(self.rest)).abs().amax(1) > self.threshold
        pixels = self.pixels | dilated(changed & ~self.pixels, self.image_width, self.margin)
        return SensitivityMask(self.view, pixels, self.rest, self.image_width, self.threshold, self.margin)

    def error(self, conditions: Tensor) -> MaskError:
        """Against whole frames under conditions [k >= 1, c], which are best not the probed ones."""
        largest, squares = 0.0, 0.0
        for cond in conditions.split(1):
            difference = self.draw(cond)[0] - self.view.draw(cond)[0]
            largest = max(largest, float(difference.abs().max()))
            squares += float(difference.double().square().mean())
        mean = squares / len(conditions)
        return MaskError(largest, -10 * math.log10(mean) if mean > 0 else math.inf)


def spread(conditions: Tensor, n: int) -> Tensor:
    """Indices int64 [min(n, k)] of conditions [k, c] that lie far apart: the one nearest to the mean, then
    again and again the one farthest from all chosen, each column in units of its standard deviation.

    >>> spread(torch.tensor([[0.0], [1.0], [9.0], [4.0]]), 3).tolist()
    [3, 2, 0]
    """
    columns = conditions.double()
    columns = (columns - columns.mean(0)) / columns.std(0, correction=0).clamp_min(1e-6)
    chosen = [int(columns.square().sum(1).argmin())]
    distances = (columns - columns[chosen[0]]).square().sum(1)
    while len(chosen) < min(n, len(columns)):
        chosen.append(int(distances.argmax()))
        distances = torch.minimum(distances, (columns - columns[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen, device=conditions.device)


def dilated(pixels: Tensor, image_width: int, margin: int) -> Tensor:
    """A mask bool [n] of whole rows of pixels, widened by `margin` pixels in all directions."""
    picture = pixels.view(1, 1, -1, image_width).float()
    wide = torch.nn.functional.max_pool2d(picture, 2 * margin + 1, stride=1, padding=margin)
    return wide.flatten() > 0


def _looks(drawn: Drawn) -> Tensor:
    """Colours and opacities [n, 4]."""
    return torch.cat([drawn[0], drawn[1][:, None]], 1)
