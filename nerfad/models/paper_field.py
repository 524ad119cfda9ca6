"""The paper's own field and its renderer (section 2.3, eq. 7 and 8), after NeRF and AD-NeRF.

A coarse and a fine network of 8 x 256 units, frequency encodings of position and direction, 64 stratified
samples along a ray and 128 more where the coarse network found matter. Hundreds of times slower than the
hash-grid field: it is here to be compared with. `PaperRenderer` is called like `HeadRenderer`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nerfad.config import PaperFieldConfig
from nerfad.models.field import LOG_DENSITY_LIMIT
from nerfad.models.identity_features import embed_points, offset_penalty
from nerfad.models.identity_lattice import BakedIdentity, PointIdentity, Reader, draw_in_chunks
from nerfad.models.renderer import HeadRays, SceneBox
from nerfad.ops import composite, freq_encode, ray_aabb
from nerfad.ops.conditioned_mlp import Precision

GOLDEN_RATIO = 0.6180339887498949
PDF_FLOOR = 1e-5
"""Added to every weight, as in NeRF: a ray that meets nothing spreads its fine samples evenly."""
RAYS_PER_CHUNK = 1024


class SharedInputLinear(nn.Module):
    """Linear layer of [x, shared[index]]: the share of what many samples share is computed once."""

    def __init__(self, n_inputs: int, n_shared: int, n_outputs: int) -> None:
        super().__init__()
        self.own = nn.Linear(n_inputs, n_outputs)
        self.shared = nn.Linear(n_shared, n_outputs, bias=False)

    def forward(self, x: Tensor, shared: Tensor, index: Tensor | None) -> Tensor:
        """[n, n_outputs] of x [n, n_inputs], shared [m, n_shared], index [n]; None: all use the first."""
        rows = self.shared(shared)
        return self.own(x) + (rows[:1] if index is None else rows[index.long()])


class PaperField(nn.Module):
    """Density and colour of points under f_id and the condition (eq. 7).

    Args:
        n_cond: length of the condition, the fused Audio-face feature.
        n_identity: length of f_id, 0 for none.
        precision: of what the layers multiply; encodings, densities and colours are float32 either way.
    """

    def __init__(
        self, config: PaperFieldConfig, n_cond: int, n_identity: int, precision: Precision = "float32"
    ) -> None:
        super().__init__()
        self.config, self.precision = config, precision
        n_inputs = 3 + 6 * config.position_octaves + n_identity
        n_direction = 3 + 6 * config.direction_octaves
        width = config.width
        self.first = SharedInputLinear(n_inputs, n_cond, width)
        self.after_skip = SharedInputLinear(width + n_inputs, n_cond, width)
        self.before = nn.ModuleList(nn.Linear(width, width) for _ in range(config.skip - 1))
        self.behind = nn.ModuleList(nn.Linear(width, width) for _ in range(config.n_hidden - config.skip - 1))
        self.density = nn.Linear(width, 1)
        self.code = nn.Linear(width, width)
        self.color_first = SharedInputLinear(width, n_direction, config.color_width)
        self.color_rest = nn.ModuleList(
            nn.Linear(config.color_width, config.color_width) for _ in range(config.n_hidden_color - 1)
        )
        self.color = nn.Linear(config.color_width, 3)

    def forward(
        self,
        positions: Tensor,
        rays_d: Tensor,
        ray_indices: Tensor,
        cond: Tensor,
        cond_index: Tensor | None,
        identity: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Densities [n] and colours [n, 3] of samples.

        Args:
            positions: [n, 3] in [0, 1].
            rays_d: [n_rays, 3] unit directions.
            ray_indices: [n], the ray of each sample.
            cond: [n_cond, c].
            cond_index: [n], the condition of each sample; None: all use the first.
            identity: [n, n_identity] f_id of each sample.
        """
        x = embed_points(positions, self.config.position_octaves)
        directions = freq_encode(rays_d.contiguous(), self.config.direction_octaves)
        if identity is not None:
            x = torch.cat([x, identity], 1)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            hidden = torch.relu(self.first(x, cond, cond_index))
            for layer in self.before:
                hidden = torch.relu(layer(hidden))
            hidden = torch.relu(self.after_skip(torch.cat([x.to(hidden), hidden], 1), cond, cond_index))
            for layer in self.behind:
                hidden = torch.relu(layer(hidden))
            color = torch.relu(self.color_first(self.code(hidden), directions, ray_indices))
            for layer in self.color_rest:
                color = torch.relu(layer(color))
            log_densities, rgbs = self.density(hidden)[:, 0], self.color(color)
        raw = log_densities.to(x) + self.config.density_bias
        sigmas = torch.exp(raw.clamp(-LOG_DENSITY_LIMIT, LOG_DENSITY_LIMIT))
        return sigmas, torch.sigmoid(rgbs.to(x))


def stratified(low: Tensor, high: Tensor, n_samples: int, jitter: Tensor | None) -> Tensor:
    """One value in each of `n_samples` equal parts of [low, high], ascending: [n_rays, n_samples].

    Args:
        low, high: [n_rays].
        jitter: [n_rays] in [0, 1): with a uniform one, every value is uniform in its part. The parts of a ray
            use the jitter shifted by multiples of the golden ratio. None: the middles.
    """
    part = torch.arange(n_samples, dtype=low.dtype, device=low.device)
    within = torch.full_like(part, 0.5)[None]
    if jitter is not None:
        within = torch.frac(jitter[:, None] + GOLDEN_RATIO * part)
    return low[:, None] + (high - low)[:, None] * (part + within) / n_samples


def inverse_cdf(edges: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Where the piecewise constant density of `weights` on the intervals between `edges` has mass u below.

    Args:
        edges: [n_rays, m + 1], ascending.
        weights: [n_rays, m] >= 0, the mass of each interval up to a factor; `PDF_FLOOR` is added.
        u: [n_rays, k] in [0, 1].

    Returns:
        [n_rays, k], ascending where u is. Not differentiable.

    Example:
        >>> import torch
        >>> edges, weights = torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[1.0, 1.0]])
        >>> inverse_cdf(edges, weights, torch.tensor([[0.25, 0.75]])).tolist()
        [[0.5, 2.0]]
    """
    with torch.no_grad():
        mass = weights + PDF_FLOOR
        cdf = torch.cumsum(mass, 1) / mass.sum(1, keepdim=True)
        cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], 1)
        interval = torch.searchsorted(cdf[:, 1:].contiguous(), u.contiguous(), right=True)
        interval = interval.clamp_(max=weights.shape[1] - 1)
        below, above = cdf.gather(1, interval), cdf.gather(1, interval + 1)
        start, end = edges.gather(1, interval), edges.gather(1, interval + 1)
        return start + (end - start) * ((u - below) / (above - below)).clamp(0, 1)


class PaperRenderer(nn.Module):
    """Draws the paper's field; called like `HeadRenderer`, whose occupancy grid it does without.

    Args:
        n_cond: length of the condition.
        identity: source of f_id (with `projected=False` in the paper's form), or None.
        precision: as in `PaperField`.
    """

    occupancy = None
    in_one_pass = False

    def __init__(
        self,
        config: PaperFieldConfig,
        n_cond: int,
        identity: PointIdentity | BakedIdentity | None = None,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        n_identity = 0 if identity is None else identity.n_outputs
        self.config = config
        self.coarse = PaperField(config, n_cond, n_identity, precision)
        self.fine = PaperField(config, n_cond, n_identity, precision)
        self.identity = identity
        self.box = SceneBox()
        self.density_factor = 1.0

    def forward(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        cond: Tensor,
        ray_cond_index: Tensor | None,
        background: Tensor,
        jitter: Tensor | None = None,
        max_samples: int | None = None,
    ) -> HeadRays:
        """Head over background; arguments as those of `HeadRenderer.forward`.

        Near and far bounds of a ray are its passage through the box. `max_samples` is accepted for the
        contract's sake: the number of samples is always n_coarse + n_fine for a ray that meets the box.
        """
        t_min, t_max = ray_aabb(rays_o, rays_d, self.box.unit)
        hit = torch.nonzero(t_max > t_min).flatten()
        passage = _Passage(rays_o, rays_d, t_max[hit], hit, cond, ray_cond_index, background)
        read = None if self.identity is None else self.identity.reader()
        coarse_t = stratified(t_min[hit], t_max[hit], self.config.n_coarse, _rows(jitter, hit))
        coarse_identity = _Identity.at(read, passage, coarse_t)
        coarse = self._integrate(self.coarse, passage, coarse_t, coarse_identity)

        weights = coarse.weights.detach().view(coarse_t.shape)
        edges = torch.cat([coarse_t, passage.t_max[:, None]], 1)
        unit = torch.zeros_like(passage.t_max)
        u = stratified(unit, unit + 1, self.config.n_fine, _rows(jitter, hit))
        fine_t = inverse_cdf(edges, weights, u)
        fine_identity = _Identity.at(read, passage, fine_t)
        all_t, order = torch.sort(torch.cat([coarse_t, fine_t], 1), dim=1)
        identity = coarse_identity.merged(fine_identity, order)
        fine = self._integrate(self.fine, passage, all_t, identity)

        penalty = background.new_zeros(())
        for rays, found in ((coarse, coarse_identity), (fine, identity)):
            if found.offsets is not None and len(hit) > 0:
                penalty = penalty + offset_penalty(found.offsets.flatten(1, 2), rays.weights)
        return HeadRays(
            fine.colors,
            fine.opacities,
            fine.depths,
            fine.weights,
            fine.positions,
            fine.n_dropped,
            coarse.colors,
            penalty,
        )

    def _integrate(self, field: PaperField, passage: _Passage, t: Tensor, identity: _Identity) -> HeadRays:
        """Eq. 8 by quadrature: density and colour at t [n_hit, m] stand for the interval up to the next."""
        n_samples = t.shape[1]
        positions = passage.positions(t).flatten(0, 1)
        ray = passage.hit.repeat_interleave(n_samples)
        index = None if passage.ray_cond_index is None else passage.ray_cond_index[ray]
        features = None if identity.features is None else identity.features.flatten(0, 1)
        sigmas, rgbs = field(positions, passage.rays_d, ray, passage.cond, index, features)
        t_ends = torch.cat([t[:, 1:], passage.t_max[:, None]], 1)
        packed_info = passage.hit.new_zeros(len(passage.rays_o), 2)
        packed_info[passage.hit, 0] = n_samples * torch.arange(len(passage.hit), device=passage.hit.device)
        packed_info[passage.hit, 1] = n_samples
        colors, opacities, depths, weights = composite(
            self.density_factor * sigmas,
            rgbs,
            t.flatten(),
            t_ends.flatten(),
            packed_info,
            passage.background,
            early_stop_eps=0.0,
        )
        none_dropped = passage.hit.new_zeros(())
        return HeadRays(colors, opacities, depths, weights, positions.detach(), none_dropped)

    def draw(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        cond: Tensor,
        background: Tensor,
        density_factor: float = 1.0,
        image_width: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Colours, opacities and depths of rays under one condition; as `HeadRenderer.draw`, but without
        any use of `image_width`."""
        self.density_factor = density_factor
        try:
            return draw_in_chunks(self, self.identity, rays_o, rays_d, cond, background, RAYS_PER_CHUNK)
        finally:
            self.density_factor = 1.0


@dataclass(frozen=True)
class _Passage:
    """The rays of a call, and the part of them that passes through the box."""

    rays_o: Tensor
    rays_d: Tensor
    t_max: Tensor  # [n_hit]
    hit: Tensor  # int64 [n_hit], their rows
    cond: Tensor
    ray_cond_index: Tensor | None
    background: Tensor

    def positions(self, t: Tensor) -> Tensor:
        """Points [n_hit, m, 3] at distances t [n_hit, m]."""
        along = t[..., None] * self.rays_d[self.hit, None]
        return (self.rays_o[self.hit, None] + along).clamp(0, 1)


@dataclass(frozen=True)
class _Identity:
    """f_id at samples: features [n_hit, m, f] and offsets [k, n_hit, m, 2], where there are any."""

    features: Tensor | None
    offsets: Tensor | None

    @classmethod
    def at(cls, read: Reader | None, passage: _Passage, t: Tensor) -> _Identity:
        if read is None:
            return cls(None, None)
        index = None
        if passage.ray_cond_index is not None:
            index = passage.ray_cond_index[passage.hit].repeat_interleave(t.shape[1])
        features, offsets = read(passage.positions(t).flatten(0, 1), passage.cond, index)
        if offsets is not None:
            offsets = offsets.view(len(offsets), *t.shape, 2)
        return cls(features.view(*t.shape, features.shape[1]), offsets)

    def merged(self, other: _Identity, order: Tensor) -> _Identity:
        """Samples of both, sorted by `order` [n_hit, m + m']."""

        def merge(one: Tensor | None, two: Tensor | None, dim: int) -> Tensor | None:
            if one is None or two is None:
                return None
            both = torch.cat([one, two], dim)
            return both.take_along_dim(order.view(*(1,) * (dim - 1), *order.shape, 1), dim)

        return _Identity(merge(self.features, other.features, 1), merge(self.offsets, other.offsets, 2))


def _rows(values: Tensor | None, index: Tensor) -> Tensor | None:
    return None if values is None else values[index]
