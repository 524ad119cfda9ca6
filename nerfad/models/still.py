"""A head at one pose: what does not depend on the condition is computed once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nerfad.models.head import Head
from nerfad.models.renderer import HeadRenderer
from nerfad.ops import RenderCache


@dataclass(frozen=True)
class StillHead:
    """The head's rays at one pose, over what lies behind them, drawn under one condition after another.

    Later changes of the field's parameters are not seen. Made by `StillHead.at`.
    """

    head: Head
    rays_o: Tensor
    rays_d: Tensor
    behind: Tensor
    cache: RenderCache | None

    @classmethod
    def at(
        cls, head: Head, rays_o: Tensor, rays_d: Tensor, behind: Tensor, image_width: int = 0
    ) -> StillHead:
        """Take rays [n, 3] in box units, unit directions, and the torso and background [n, 3] behind them.

        A field that the drawing kernels know is drawn from a cache of its samples
        (`nerfad.ops.render_cache`), which takes n_samples * (n_features + 2) * 4 bytes, in bfloat16 little
        more than half of them; the others are drawn anew.
        """
        cache = None
        if isinstance(head, HeadRenderer) and head.in_one_pass:
            cache = head.cache(rays_o, rays_d, image_width)
        return cls(head, rays_o, rays_d, behind, cache)

    @torch.no_grad()
    def draw(self, cond: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Colours [n, 3], opacities [n] and depths [n] under cond [1, c]: those of `HeadRenderer.draw` up to
        rounding."""
        if self.cache is not None and isinstance(self.head, HeadRenderer):
            return self.head.draw_cached(self.cache, cond, self.behind)
        return self.head.draw(self.rays_o, self.rays_d, cond, self.behind)

    def select(self, rays: Tensor) -> StillHead:
        """Some of the rays, by their indices int64 [m]; shares the cache."""
        return replace(
            self,
            rays_o=self.rays_o[rays],
            rays_d=self.rays_d[rays],
            behind=self.behind[rays],
            cache=None if self.cache is None else self.cache.select(rays),
        )
